"""evaluation.json: all that a report needs, from what was judged."""

import datetime
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.config import RunConfig
from pipelines.evaluation.compare import comparison, overlap
from pipelines.evaluation.judged import Bench, Judged
from pipelines.evaluation.latent_map import item_map
from pipelines.evaluation.per_user import PerUserFile
from pipelines.evaluation.profile import checks, cold, profile
from pipelines.evaluation.stored import SCHEMA
from pipelines.latent.placing import kinds_there, said_of
from recsys_ae.artifact import environment, processor
from recsys_ae.dataset import Dataset
from recsys_ae.evaluation import Evaluation, Score, pooled, summarise
from recsys_ae.groups import Grouping, by_user, target_groups, user_groups
from recsys_ae.shares import ratio
from recsys_ae.split import Split, Window

WORST_USERS, WORST_ITEMS, LEAST_TARGETS = 10, 20, 3


def document(
    config: RunConfig,
    benches: Sequence[Bench],
    counts: dict[str, Any],
    judged: Mapping[str, Sequence[Judged]],
    evaluations: Mapping[str, Evaluation],
) -> dict[str, Any]:
    """What evaluation.json holds. Of several windows: the figures of all test users together, and of each window its own."""
    splits = [bench.split for bench in benches]
    whole = splits[-1].refit
    holdouts = [split.test for split in splits]
    catalogues = [bench.catalogue for bench in benches]
    users, targets = user_groups(holdouts, catalogues), target_groups(holdouts, catalogues)
    compared = comparison(evaluations, users, config.publish.metric, config.seed)
    sides = _sides(splits) | {"checks": checks(splits)}
    if (counted := cold(splits)) is not None:
        sides["cold"] = counted
    if config.content is not None and any(split.placed is not None for split in splits):
        sides["placed_by"] = kinds_there(config.content, *said_of(whole.items, whole.metadata))
    content = {
        "schema": SCHEMA,
        "data": {
            "users": len(whole.users),
            "items": len(whole.items),
            "interactions": whole.histories.n_interactions,
            "digest": whole.digest,
            "cleaning": counts,
            "profile": profile(whole) | {"train_digest": benches[-1].trained.digest},
        },
        "split": sides,
        "seed": config.seed,
        "publish": {"metric": config.publish.metric},
        "models": {key: _entry(windows, benches, evaluations[key], users, targets, config) for key, windows in judged.items()},
        "comparison": compared,
    }
    if (shared := overlap(evaluations, config.ks)) is not None:
        content["overlap"] = shared
    if (drawn := _map(config, compared["order"], judged, benches[-1])) is not None:
        content["map"] = drawn
    return content | {"environment": _environment()}


def _environment() -> dict[str, Any]:
    return environment() | {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "processor": processor(),
    }


def _sides(splits: Sequence[Split]) -> dict[str, Any]:
    """How large each side is, by window where there are several."""
    if len(splits) > 1:
        windows = [{**_times(split.window), **_sides([split])} for split in splits]
        return {"kind": splits[0].kind, "test_users": sum(len(split.test) for split in splits), "windows": windows}
    split = splits[0]
    sides = {
        "kind": split.kind,
        "train_users": len(split.train.users),
        "train_items": len(split.train.items),
        "train_interactions": split.train.histories.n_interactions,
        "validation_users": len(split.validation),
        "test_users": len(split.test),
        "test_targets": split.test.held_out.n_interactions,
        "dropped": split.dropped,
        **_times(split.window),
    }
    if split.test.candidates is not None:
        sides |= {"validation_candidates": split.validation.n_candidates, "test_candidates": split.test.n_candidates}
    return sides


def _times(window: Window | None) -> dict[str, int]:
    return asdict(window) if window else {}


def _entry(
    windows: Sequence[Judged],
    benches: Sequence[Bench],
    found: Evaluation,
    users: Sequence[Grouping],
    targets: Sequence[Grouping],
    config: RunConfig,
) -> dict[str, Any]:
    """A model's entry: metrics over the users of all windows, the fit of the last, the costs of all."""
    last = windows[-1]
    entry: dict[str, Any] = {
        "metrics": found.as_json(),
        "curves": _curves(found),
        "groups": _user_groups(found, users, config),
        "targets": _target_groups(found, benches, targets, config.ks),
        "worst": _worst(windows[-1], benches[-1], config.publish.metric),
        "parameters": last.parameters,
        "size_bytes": last.size_bytes,
        "config": last.config,
        "source": last.source,
        "warnings": _warnings(windows),
    }
    if (fit := last.fit if last.record is None else last.record.summary()) is not None:
        entry["fit"] = fit
    if len(windows) > 1:
        entry["windows"] = [
            {
                **_times(judged.window),
                "users": judged.evaluation.users,
                "metrics": judged.evaluation.as_json(),
                **({"fit": judged.record.summary()} if judged.record else {}),
            }
            for judged in windows
        ]
    return entry | {"cost": cost(windows, found)}


def _warnings(windows: Sequence[Judged]) -> list[str]:
    """Of every window: a version may have seen the targets of an early one alone."""
    several = len(windows) > 1
    return [
        f"window {place}: {warning}" if several else warning
        for place, judged in enumerate(windows, 1)
        for warning in judged.warnings
    ]


def _curves(found: Evaluation) -> dict[str, Any]:
    """Accuracy at every length of list, with the 95 % band."""
    curves: dict[str, Any] = {"k": list(found.curve_ks)}
    for name in found.curves:
        scores = found.curve(name)
        curves[name] = {
            "mean": [_short(score.mean) for score in scores],
            "low": [_short(score.ci95[0]) for score in scores if score.ci95],
            "high": [_short(score.ci95[1]) for score in scores if score.ci95],
        }
    return curves


def _short(value: float) -> float:
    """Enough for a picture."""
    return round(value, 6)


def _user_groups(found: Evaluation, groupings: Sequence[Grouping], config: RunConfig) -> list[dict[str, Any]]:
    """The deciding metric, recall and ndcg at the least k, and what the lists owe to popularity, by group of users."""
    least = min(config.ks)
    wanted = (config.publish.metric, f"recall@{least}", f"ndcg@{least}", f"popularity_lift@{least}")
    values = {name: found.per_user[name] for name in dict.fromkeys(wanted) if name in found.per_user}
    entries = []
    for grouping in groupings:
        labels = grouping.labels()
        for group, name in enumerate(grouping.names):
            own = labels == group
            scores = {metric: summarise(per_user[own]) for metric, per_user in values.items()}
            entries.append(
                {
                    "by": grouping.by,
                    "group": name,
                    "users": int(own.sum()),
                    "metrics": {metric: score.as_json() for metric, score in scores.items() if score.users},
                }
            )
    return entries


def _target_groups(
    found: Evaluation, benches: Sequence[Bench], groupings: Sequence[Grouping], ks: Sequence[int]
) -> list[dict[str, Any]]:
    """The share of each group's held-out items that is found, with the interval of a ratio clustered by user."""
    lengths = np.concatenate([bench.split.test.held_out.lengths for bench in benches])
    entries = []
    for grouping in groupings:
        counts = by_user(np.ones(len(found.ranks)), lengths, grouping).tocsc()
        shares: dict[int, list[dict[str, Any]]] = {}
        for k in ks:
            hit = ((found.ranks > 0) & (found.ranks <= k)).astype(np.float64)
            hits = by_user(hit, lengths, grouping).tocsc()
            shares[k] = [
                Score(*ratio(hits[:, [g]].toarray()[:, 0], counts[:, [g]].toarray()[:, 0])).as_json()
                for g in range(len(grouping.names))
            ]
        totals = np.asarray(grouping.of.sum(0)).tolist()
        entries += [
            {
                "by": grouping.by,
                "group": name,
                "targets": int(totals[group]),
                "users": shares[ks[0]][group]["users"],
                **{f"found@{k}": shares[k][group] for k in ks},
            }
            for group, name in enumerate(grouping.names)
        ]
    return entries


def _worst(judged: Judged, bench: Bench, metric: str) -> list[dict[str, Any]]:
    """The users of the last window for whom the metric is least; of equals those with the most to find."""
    test, data, found = bench.split.test, bench.trained, judged.evaluation
    values = found.per_user[metric]
    asked = test.held_out.lengths
    rows = np.flatnonzero(~np.isnan(values) & (asked >= min(LEAST_TARGETS, int(asked.max(initial=0)))))
    order = rows[np.lexsort((rows, -asked[rows], values[rows]))][:WORST_USERS]
    entries = []
    for row in order.tolist():
        targets = test.held_out.row(row)
        ranks = found.ranks[test.held_out.indptr[row] : test.held_out.indptr[row + 1]]
        history = test.fold_in.row(row)
        wanted, shown = set(targets.tolist()), found.lists[row][found.lists[row] >= 0]
        entries.append(
            {
                "user_id": test.users.ids[row],
                "metric": float(values[row]),
                "history_items": len(history),
                "held_out_items": len(targets),
                "history": _titled(history[-WORST_ITEMS:], data),
                "held_out": [
                    item | {"rank": int(rank) or None}
                    for item, rank in zip(_titled(targets[:WORST_ITEMS], data), ranks, strict=False)
                ],
                "recommended": [
                    item | {"hit": column in wanted} for item, column in zip(_titled(shown, data), shown.tolist(), strict=True)
                ],
            }
        )
    return entries


def _titled(columns: NDArray[np.int32], data: Dataset) -> list[dict[str, Any]]:
    return [{"item_id": data.items.ids[c], "title": data.metadata.title(c)} for c in columns.tolist()]


def _map(
    config: RunConfig, order: Sequence[str], judged: Mapping[str, Sequence[Judged]], bench: Bench
) -> dict[str, Any] | None:
    """Of the best model that has vectors of its items, an autoencoder before any other."""
    drawn = {key: known for key in order if (known := judged[key][-1].vectors) is not None}
    if not drawn or config.evaluation.map == "none":
        return None
    latent = (key for key in drawn if judged[key][-1].record and "latent" in judged[key][-1].config)
    key = next(latent, next(iter(drawn)))
    columns, vectors = drawn[key]
    return item_map(key, columns, vectors, bench.trained, config.evaluation.map, config.seed) if len(columns) > 1 else None


def cost(windows: Sequence[Judged], found: Evaluation) -> dict[str, Any]:
    """What fitting and scoring took; of a model that was not fitted here, scoring, and what its manifest says of fitting."""
    scoring = {
        "score_users_per_second": found.users / max(found.score_seconds, 1e-9),
        "peak_rss_bytes": windows[-1].peak_rss_bytes,
    }
    fitted = [(judged, judged.record) for judged in windows if judged.record is not None]
    if not fitted:
        return scoring | ({"fit_seconds": windows[-1].fit_seconds} if windows[-1].fit_seconds else {})
    training = sum(record.seconds.get("training", judged.fit_seconds) for judged, record in fitted)
    fits = [(judged.train_users, fit) for judged, record in fitted for fit in record.members or [record]]
    trained = sum(users * max(fit.epochs, 1) for users, fit in fits)
    last = fitted[-1][1]
    return {
        "fit_seconds": sum(judged.fit_seconds for judged in windows),
        "fit_users_per_second": trained / max(training, 1e-9),
        **scoring,
        "seconds": {part: sum(record.seconds[part] for _, record in fitted) for part in last.seconds},
        "device": last.device,
        "precision": last.precision,
    }


def together(windows: Sequence[Judged], path: Path | None = None) -> tuple[list[Judged], Evaluation]:
    """A model's windows, and its evaluation on all of them; with their per-user figures where those are in a file."""
    found = pooled([judged.evaluation for judged in windows], None if path is None else PerUserFile(path))
    if path is None:
        return list(windows), found
    files = [PerUserFile(path, place) for place in range(1, len(windows) + 1)]
    own = [
        replace(judged, evaluation=replace(judged.evaluation, per_user=file))
        for judged, file in zip(windows, files, strict=True)
    ]
    return own, found
