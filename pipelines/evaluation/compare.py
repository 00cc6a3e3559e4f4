"""How models compare on the same users: differences by user, what is chance, for whom the best loses, what lists share."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_ae.beyond import jaccard
from recsys_ae.evaluation import SHOWN, Evaluation, parse_metric
from recsys_ae.groups import Grouping
from recsys_ae.metrics import METRICS
from recsys_ae.significance import Paired, holm, paired, paired_by_group

LEVEL = 0.05
RESAMPLES, GROUP_RESAMPLES = 10_000, 2_000


def comparison(evaluations: Mapping[str, Evaluation], groupings: Sequence[Grouping], metric: str, seed: int) -> dict[str, Any]:
    """Every model beside the best by `metric`, as evaluation.json has it; models are evaluated on the same users."""
    order = sorted(evaluations, key=lambda key: -evaluations[key].scores[metric].mean)
    best, others = order[0], order[1:]
    found: dict[str, Any] = {"metric": metric, "best": best, "level": LEVEL, "resamples": RESAMPLES, "order": order}
    if not others:
        verdict: dict[str, Any] = {"publish": best, "over": None, "certain": False, "equals": [], "losing_groups": []}
        return found | {"pairs": [], "groups": [], "verdict": verdict}
    pairs = _pairs(evaluations, best, others, metric, seed)
    groups = _groups(evaluations, best, others, metric, groupings, seed)
    equals = [pair["model"] for pair in pairs if pair["metric"] == metric and not _real(pair)]
    verdict = {
        "publish": best,
        "over": others[0],
        "certain": not equals,  # the runner-up may be beaten beyond chance and a worse model, of wider spread, not
        "equals": equals,
        "losing_groups": [
            {
                "by": group["by"],
                "group": group["group"],
                "against": group["model"],
                "difference": group["difference"]["mean"],
                "ci95": group["difference"]["ci95"],
            }
            for group in groups
            if group["difference"]["mean"] < 0 and _real(group)
        ],
    }
    return found | {"pairs": pairs, "groups": groups, "verdict": verdict}


def _real(compared: Mapping[str, Any]) -> bool:
    """Whether chance is rejected, within its family."""
    return compared["p_holm"] is not None and compared["p_holm"] <= LEVEL


def compared_metrics(evaluation: Evaluation, metric: str) -> list[str]:
    """The deciding one, then each accuracy metric at the least k of all."""
    k = min(parse_metric(name)[1] for name in evaluation.per_user if name.partition("@")[0] in METRICS)
    return list(dict.fromkeys([metric, *(f"{name}@{k}" for name in METRICS)]))


def _pairs(
    evaluations: Mapping[str, Evaluation], best: str, others: Sequence[str], metric: str, seed: int
) -> list[dict[str, Any]]:
    names = compared_metrics(evaluations[best], metric)
    differences = np.concatenate([_differences(evaluations, best, others, name) for name in names], 1)
    judged = paired(differences, seed=seed, randomisation_resamples=RESAMPLES)  # at once: drawing is most of it
    found = []
    for place, name in enumerate(names):
        own = slice(place * len(others), (place + 1) * len(others))
        adjusted = holm(judged.p[own]) if name == metric else np.full(len(others), np.nan)
        for column, other in enumerate(others, own.start):
            mean, base = judged.mean[column], evaluations[other].scores[name].mean
            found.append(
                {
                    "model": other,
                    "metric": name,
                    "difference": _difference(judged, column) | {"relative": number(mean / base) if base else None},
                    "p": number(judged.p[column]),
                    "p_holm": number(adjusted[column - own.start]),
                    "wins": int((differences[:, column] > 0).sum()),
                    "ties": int((differences[:, column] == 0).sum()),
                    "losses": int((differences[:, column] < 0).sum()),
                }
            )
    return found


def _groups(
    evaluations: Mapping[str, Evaluation],
    best: str,
    others: Sequence[str],
    metric: str,
    groupings: Sequence[Grouping],
    seed: int,
) -> list[dict[str, Any]]:
    """The best less each other one for each group of users; p of all groups and models are one family."""
    differences = _differences(evaluations, best, others, metric)
    found = []
    for grouping in groupings:
        labels = grouping.labels()
        judged = paired_by_group(differences, labels, len(grouping.names), seed=seed, randomisation_resamples=GROUP_RESAMPLES)
        for group, name in enumerate(grouping.names):
            own = Paired(*(part[group] for part in judged))
            found += [
                {
                    "model": other,
                    "by": grouping.by,
                    "group": name,
                    "users": int(own.users[column]),
                    "difference": _difference(own, column),
                    "p": number(own.p[column]),
                }
                for column, other in enumerate(others)
                if own.users[column]
            ]
    adjusted = holm(np.array([np.nan if row["p"] is None else row["p"] for row in found], np.float64))
    return [row | {"p_holm": number(p)} for row, p in zip(found, adjusted, strict=True)]


def _differences(evaluations: Mapping[str, Evaluation], best: str, others: Sequence[str], name: str) -> NDArray[np.float64]:
    """The best less each other one, user by user (U, C)."""
    mine = evaluations[best].per_user[name]
    return np.stack([mine - evaluations[other].per_user[name] for other in others], 1)


def _difference(judged: Paired, column: int) -> dict[str, Any]:
    low, high = (number(end) for end in judged.interval[column])
    return {"mean": number(judged.mean[column]), "ci95": None if low is None or high is None else [low, high]}


def overlap(evaluations: Mapping[str, Evaluation], ks: Sequence[int]) -> dict[str, Any] | None:
    """Mean over users of the Jaccard index of two models' lists."""
    if len(evaluations) < 2:
        return None
    k = max((k for k in ks if k <= SHOWN), default=min(SHOWN, min(ks)))
    keys = list(evaluations)
    shared = np.eye(len(keys))
    for a, one in enumerate(keys):
        for b in range(a):
            both = jaccard(evaluations[one].lists[:, :k], evaluations[keys[b]].lists[:, :k])
            known = both[~np.isnan(both)]
            shared[a, b] = shared[b, a] = round(float(known.mean()), 6) if len(known) else 0.0
    return {"k": k, "models": keys, "jaccard": shared.tolist()}


def number(value: float) -> float | None:
    """As JSON has it: None for what is not a number."""
    return float(value) if np.isfinite(value) else None
