"""Who is judged: models fitted here, versions of a registry, lists of another system; all on the same test users."""

import re
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.config import ModelSection, RunConfig
from pipelines.evaluation.latent_map import item_vectors
from pipelines.evaluation.per_user import PerUserWriter
from pipelines.train import Fitted, Report, refit
from recsys_ae import log
from recsys_ae.artifact import Artifact
from recsys_ae.beyond import Catalogue, Lists
from recsys_ae.cleaning import Cleaning
from recsys_ae.dataset import Dataset
from recsys_ae.errors import ConfigError, LogError
from recsys_ae.evaluation import Evaluation, Keep, evaluate, tallied
from recsys_ae.ids import Id, IdMap
from recsys_ae.models import Recommender
from recsys_ae.preprocessing import Preprocessing
from recsys_ae.ranking import rank_top_k
from recsys_ae.registry import Registry
from recsys_ae.split import Split, Window
from recsys_ae.staging import Columns
from recsys_ae.training.run import FitRecord

NOT_PLACED = "it keeps no rows of items: its cold items are not placed by what [content] says of them, and it guesses"


@dataclass(frozen=True, eq=False)
class Bench:
    """A split with what its test part is judged by; `place` is that of its window, from 1."""

    split: Split
    place: int = 1

    @property
    def trained(self) -> Dataset:
        """The rows that a judged model was trained on."""
        return self.split.refit if self.split.judged_after_refit else self.split.train

    @cached_property
    def catalogue(self) -> Catalogue:
        """What training knows of the items."""
        return Catalogue.of(self.trained.histories, self.trained.metadata.categories)


@dataclass(frozen=True, eq=False)
class Judged:
    """What a model reached on the test users of one split, and what that cost. The model itself is gone by then."""

    key: str
    evaluation: Evaluation
    window: Window | None = None
    source: str = "trained"
    config: dict[str, Any] = field(default_factory=dict)
    record: FitRecord | None = None
    fit: dict[str, Any] | None = None  # of a night's saved twin, what its manifest says of its fit
    parameters: int | None = None
    size_bytes: int | None = None
    train_users: int = 0
    fit_seconds: float = 0.0
    peak_rss_bytes: int = 0
    warnings: tuple[str, ...] = ()
    vectors: tuple[NDArray[np.int64], NDArray[np.float32]] | None = None


def judge_fitted(
    config: RunConfig, fitted: Fitted, report: Report | None, bench: Bench, writer: PerUserWriter | None = None
) -> Judged:
    """A model on the test users; where the protocol says so it is trained on whole rows first."""
    model = refit(config, fitted, bench.split, report) if bench.split.judged_after_refit else fitted.model
    return judge_model(config, fitted.section, model, fitted.record, fitted.seconds, bench, writer)


def judge_model(
    config: RunConfig,
    section: ModelSection,
    model: Recommender,
    record: FitRecord,
    fit_seconds: float,
    bench: Bench,
    writer: PerUserWriter | None = None,
) -> Judged:
    """A model as it is on the test users."""
    split = bench.split
    judged = split.as_judged(model)
    return Judged(
        section.key,
        evaluate(judged, split.test, config.ks, catalogue=bench.catalogue, keep=kept_by(writer, bench)),
        split.window,
        config={"name": section.name, **section.config.model_dump(mode="json")},
        record=record,
        parameters=model.n_parameters,
        size_bytes=size_of(model),
        train_users=len(split.train.users),
        fit_seconds=fit_seconds,
        peak_rss_bytes=peak_rss_bytes(),
        warnings=(NOT_PLACED,) if split.placed is not None and judged is model else (),
        vectors=item_vectors(judged, bench.catalogue),
    )


def judge_version(
    config: RunConfig, registry: Registry, version: str | None, bench: Bench, writer: PerUserWriter | None = None
) -> Judged:
    """A saved model on the test users, without training; warned of where it was trained on what they are asked for."""
    artifact, stored = registry.load(version)
    about = registry.show(version)
    found = judge_artifact(config, artifact, about["model"], f"registry {about['version']}", bench, writer)
    seen = _seen_targets(bench, stored.users, artifact.items, stored.histories.rows, stored.histories.items)
    return replace(found, warnings=(*found.warnings, *seen))


def judge_artifact(
    config: RunConfig,
    artifact: Artifact,
    key: str,
    source: str,
    bench: Bench,
    writer: PerUserWriter | None = None,
    strange: bool = False,
) -> Judged:
    """A model as it was saved on the test users. Items that it does not know are never on its lists, and so are misses.

    strange: whether it may know none of them at all. Raises ConfigError where it may not.
    """
    model, test = artifact.model, bench.split.test
    to_model = artifact.items.positions(bench.trained.items.ids)
    to_split = np.full(len(artifact.items), -1, np.int64)
    to_split[to_model[to_model >= 0]] = np.flatnonzero(to_model >= 0)
    allow = to_split >= 0
    if test.allow is not None:
        allow &= test.allow[to_split]
    if not allow.any() and not strange:
        raise ConfigError(
            f"{source}: has none of the {len(to_model)} items of this split; "
            f"expected ids as its own are, like {artifact.items.ids[:3]}; found {bench.trained.items.ids[:3]}"
        )

    def ranked(rows: slice) -> Lists:
        history = test.fold_in.take(rows).remap(to_model, len(artifact.items))
        items = rank_top_k(model, history, max(config.ks), allow=allow).items
        return np.where(items >= 0, to_split[items], -1).astype(np.int32)

    return Judged(
        key,
        tallied(ranked, test, config.ks, catalogue=bench.catalogue, keep=kept_by(writer, bench)),
        bench.split.window,
        source=source,
        config={"name": artifact.name, **model.config.model_dump(mode="json")},
        parameters=model.n_parameters,
        size_bytes=size_of(model),
        peak_rss_bytes=peak_rss_bytes(),
        warnings=tuple(_unknown_items(int((to_model < 0).sum()), len(to_model))),
    )


def _unknown_items(unknown: int, of: int) -> Sequence[str]:
    return [f"{unknown:,} of the {of:,} items of this split are unknown to it and are never on its lists"] if unknown else []


def _seen_targets(
    bench: Bench, users: IdMap, items: IdMap, rows: NDArray[np.int64], columns: NDArray[np.int32]
) -> Sequence[str]:
    """Test targets that stand in the rows that a version was trained on."""
    test = bench.split.test
    of_user = users.positions(test.users.ids)[test.held_out.rows]
    of_item = items.positions(bench.trained.items.ids)[test.held_out.items]
    known = (of_user >= 0) & (of_item >= 0)
    asked = of_user[known] * len(items) + of_item[known]
    seen = int(np.isin(asked, rows * len(items) + columns).sum())
    if not seen:
        return []
    return [
        f"{seen:,} of the {test.held_out.n_interactions:,} test targets stand in the rows that it was trained on: "
        "its figures are too good"
    ]


@dataclass(frozen=True, eq=False)
class ForeignLists:
    """Lists of another system: items in order of rank, by user."""

    key: str
    path: Path
    users: IdMap
    items: IdMap
    indptr: NDArray[np.int64]
    columns: NDArray[np.int32]  # of `items`, best first in each row

    @classmethod
    def read(cls, path: Path) -> "ForeignLists":
        """A file of user_id, item_id and rank, 1 being the best. Raises LogError, which names the file and what was wrong."""
        names = Columns(weight="rank", timestamp="no time", required=frozenset({"user", "item", "weight"}))
        rules = Preprocessing(weight_transform="linear")
        found = log.read_log(str(path), names, Cleaning(rules))
        if any(found.dropped.values()):
            causes = ", ".join(f"{count:,} {cause.replace('_', ' ')}" for cause, count in found.dropped.items() if count)
            raise LogError(f"{path}: rows that are no entry of a list: {causes}; expected user_id, item_id and rank from 1")
        data = Dataset.from_log(found, rules)
        histories = data.histories
        order = np.lexsort((histories.weights, histories.rows))
        ranks = histories.weights[order]
        twice = np.flatnonzero((np.diff(ranks) == 0) & (np.diff(histories.rows) == 0))
        if len(twice):
            user, rank = data.users.ids[histories.rows[twice[0]]], ranks[twice[0]]
            raise LogError(f"{path}: user {user!r} has two items of rank {rank:g}; expected each rank once")
        key = re.sub(r"[^A-Za-z0-9_.-]", "_", path.name.partition(".")[0]) or "lists"
        return cls(key, path, data.users, data.items, histories.indptr, histories.items[order])

    def rows_of(self, bench: Bench) -> NDArray[np.int64]:
        """The row of each test user, -1 without a list."""
        return self.users.positions(_as(self.users, bench.split.test.users.ids))

    def columns_in(self, bench: Bench) -> NDArray[np.int64]:
        """The catalogue's column of each of its items, -1 for one that is not there."""
        return bench.trained.items.positions(_as(bench.trained.items, self.items.ids))

    def refuse_unless_met(self, benches: Sequence[Bench]) -> None:
        """Raises ConfigError where no test user has a list, or no item is of the catalogue: ids of another kind."""
        last = benches[-1]
        if not any((self.rows_of(bench) >= 0).any() for bench in benches):
            found, own, none = self.users, last.split.test.users, "test users is in it"
        elif not any((self.columns_in(bench) >= 0).any() for bench in benches):
            found, own, none = self.items, last.trained.items, "items of this split is in it"
        else:
            return
        raise ConfigError(
            f"{self.path}: none of the {len(own):,} {none}; expected ids like {own.ids[:3]}, found {found.ids[:3]}"
        )


def judge_lists(config: RunConfig, lists: ForeignLists, bench: Bench, writer: PerUserWriter | None = None) -> Judged:
    """Another system's lists as they are; items that the split does not have keep their rank and are no hit."""
    test = bench.split.test
    k = max(config.ks)
    rows_of, column_of = lists.rows_of(bench), lists.columns_in(bench)

    def ranked(rows: slice) -> Lists:
        own = rows_of[rows]
        listed = np.where(own >= 0, lists.indptr[own + 1] - lists.indptr[own], 0)
        filled = np.arange(k) < listed[:, None]
        items = np.full((len(own), k), -1, np.int32)
        items[filled] = column_of[lists.columns[(lists.indptr[own][:, None] + np.arange(k))[filled]]]
        return items

    found = tallied(ranked, test, config.ks, catalogue=bench.catalogue, keep=kept_by(writer, bench))
    missing = int((rows_of < 0).sum())
    warnings = [f"{missing:,} of the {len(test):,} test users have no list: they count as empty ones"] if missing else []
    seen = _listed_history(found, bench)
    if seen:
        warnings.append(f"{seen:,} of its lists hold items of the user's own history among their first items")
    unknown = int((column_of < 0).sum())
    if unknown:
        warnings.append(f"{unknown:,} of its {len(lists.items):,} items are not in the split's catalogue: they are no hits")
    return Judged(
        lists.key,
        found,
        bench.split.window,
        f"lists {lists.path.name}",
        peak_rss_bytes=peak_rss_bytes(),
        warnings=tuple(warnings),
    )


def _listed_history(found: Evaluation, bench: Bench) -> int:
    """Users on whose list stands what they have already."""
    fold_in = bench.split.test.fold_in
    n = fold_in.n_items
    keys = np.where(found.lists >= 0, np.arange(len(found.lists))[:, None] * n + found.lists, -1)
    return int(np.isin(keys, fold_in.rows * n + fold_in.items).any(1).sum())


def _as(ids: IdMap, others: Sequence[Id]) -> Sequence[Id]:
    """Ids as the map has them: digits become integers, or integers text."""
    return [ids.parse(i) if ids.kind == "integer" else str(i) for i in others]


def kept_by(writer: PerUserWriter | None, bench: Bench) -> Keep | None:
    """What writes each block of users."""
    if writer is None:
        return None
    test, items = bench.split.test, bench.trained.items
    return lambda rows, lists, metrics: writer.add(test, items, rows, lists, metrics, bench.place)


def size_of(model: Recommender) -> int:
    """Bytes of all that is saved of a model."""
    return sum(tensor.nbytes for tensor in model.tensors().values())


def peak_rss_bytes() -> int:
    """The most memory this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
