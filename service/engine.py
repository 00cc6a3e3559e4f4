"""The engine: one version of a registry in memory, and lists from it. No HTTP in here."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from recsys_ae.artifact import Artifact
from recsys_ae.histories import Histories
from recsys_ae.ids import Id
from recsys_ae.ranking import rank_top_k, similar_items
from recsys_ae.registry import Registry, StoredUsers


class RawEvent(Protocol):
    """An interaction as it was posted."""

    item_id: Id
    weight: float | None
    timestamp: int | None


@dataclass(frozen=True)
class Filters:
    """What may be returned. Ids that the catalogue does not have filter nothing."""

    exclude: Sequence[Id] = ()
    allow: Sequence[Id] | None = None
    categories: Sequence[str] | None = None
    include_seen: bool = False


@dataclass(frozen=True)
class Answer:
    """Columns with their scores, best first."""

    columns: list[int]
    scores: list[float]
    source: Literal["model", "popularity"]
    unknown_items: list[Id]


class Engine:
    """Immutable once built; every method may run in several threads."""

    def __init__(self, version: str, artifact: Artifact, stored: StoredUsers, about: dict[str, object]) -> None:
        self.version, self.artifact, self.stored, self.about = version, artifact, stored, about
        self._popularity = np.array(artifact.metadata.popularity or [0] * len(artifact.items), np.float32)

    @classmethod
    def of(cls, registry: Registry) -> "Engine | None":
        """The current version, or None where there is none. Raises ArtifactError for a damaged one."""
        version = registry.current()
        if version is None:
            return None
        artifact, stored = registry.load(version)
        return cls(version, artifact, stored, registry.show(version))

    def for_user(self, user: str, k: int, filters: Filters) -> Answer | None:
        """The list of a stored user; None for an unknown one."""
        user_id = self.stored.users.parse(user)
        if user_id not in self.stored.users:
            return None
        row = self.stored.histories.take(np.array([self.stored.users.position(user_id)]))
        return self._listed(row, k, filters, [])

    def for_history(self, events: Sequence[RawEvent], k: int, filters: Filters) -> Answer:
        """The list of a posted history; by popularity where nothing of it is known or counts."""
        history, unknown = self.history(events)
        return self._listed(history, k, filters, unknown)

    def similar(self, item: str, k: int) -> Answer | None:
        """The items most similar to one; None for an unknown one."""
        item_id = self.artifact.items.parse(item)
        if item_id not in self.artifact.items:
            return None
        ranking = similar_items(self.artifact.model, self.artifact.items.position(item_id), len(self.artifact.items), k)
        return Answer(*ranking.row(0), "model", [])

    def history(self, events: Sequence[RawEvent]) -> tuple[Histories, list[Id]]:
        """Posted events as one row, by the artefact's own Preprocessing, and the unknown items in order of appearance.

        As in ingest: the last event of an item wins, then `min_weight`, then the transform.
        """
        items, preprocessing = self.artifact.items, self.artifact.preprocessing
        if events and events[0].timestamp is not None:
            events = sorted(events, key=lambda event: event.timestamp or 0)
        last: dict[int, RawEvent] = {}
        unknown: dict[Id, None] = {}
        for event in events:
            id_ = items.parse(event.item_id)
            if id_ not in items:
                unknown[event.item_id] = None
                continue
            column = items.position(id_)
            last.pop(column, None)  # the winner stands where it happened, not where the item first appeared
            last[column] = event
        raw = np.array([preprocessing.neutral_weight if e.weight is None else e.weight for e in last.values()], np.float64)
        kept = preprocessing.passes(raw)
        columns = np.array(list(last), np.int32)[kept]
        times = np.array([e.timestamp or 0 for e in last.values()], np.int64)[kept]
        timed = bool(events) and events[0].timestamp is not None
        weights = preprocessing.weights(raw[kept], times if timed else None)
        indptr = np.array([0, len(columns)], np.int64)
        return Histories(indptr, columns, weights, len(items), times if timed else None), list(unknown)

    def _listed(self, history: Histories, k: int, filters: Filters, unknown: list[Id]) -> Answer:
        excluded = Histories.from_rows([sorted(self._columns(filters.exclude))], history.n_items)
        allowed = self._allowed(filters)
        if history.n_interactions == 0:
            return self._popular(k, excluded, allowed, unknown)
        ranking = rank_top_k(
            self.artifact.model, history, k, exclude_seen=not filters.include_seen, exclude=excluded, allow=allowed
        )
        return Answer(*ranking.row(0), "model", unknown)

    def _popular(self, k: int, excluded: Histories, allowed: NDArray[np.bool_] | None, unknown: list[Id]) -> Answer:
        eligible = np.ones(len(self._popularity), np.bool_) if allowed is None else allowed.copy()
        eligible[excluded.items] = False
        columns = np.flatnonzero(eligible)
        best = columns[np.argsort(-self._popularity[columns], kind="stable")[:k]]
        return Answer(best.tolist(), self._popularity[best].tolist(), "popularity", unknown)

    def _columns(self, ids: Iterable[Id]) -> set[int]:
        items = self.artifact.items
        return {items.position(id_) for id_ in map(items.parse, ids) if id_ in items}

    def _allowed(self, filters: Filters) -> NDArray[np.bool_] | None:
        if filters.allow is None and filters.categories is None:
            return None
        allowed = np.ones(len(self.artifact.items), np.bool_)
        if filters.allow is not None:
            allowed[:] = False
            allowed[list(self._columns(filters.allow))] = True
        if filters.categories is not None:
            wanted = set(filters.categories)
            known = self.artifact.metadata.categories or ((),) * len(allowed)
            allowed &= np.array([not wanted.isdisjoint(own) for own in known], np.bool_)
        return allowed
