"""Engine: the current version of a registry and all numeric work with it, off the event loop."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Literal, TypeVar, TypeVarTuple

import numpy as np
import torch
from numpy.typing import NDArray

from recsys_ae.artifact import Artifact
from recsys_ae.errors import ModelError
from recsys_ae.events import RawEvent, history_of
from recsys_ae.histories import Histories
from recsys_ae.ids import Id
from recsys_ae.models.popularity import Popularity, PopularityConfig
from recsys_ae.ranking import Ranking, rank_top_k, similar_items
from recsys_ae.registry import Registry, StoredUsers
from service.catalogue import Catalogue, Shelf
from service.schemas import Event, Reason, RecommendedItem
from service.search import Search
from service.settings import Settings
from service.shaping import Shape, Shaper
from service.store import Store
from service.users import KnownUsers

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


@dataclass(frozen=True)
class Filters:
    """What may stand in a list; None allows everything."""

    exclude: Sequence[Id] = ()
    allow: Sequence[Id] | None = None
    categories: Sequence[str] | None = None
    include_seen: bool = False
    shape: Shape = Shape()


@dataclass(frozen=True)
class Found:
    """A list, and what it was made from."""

    items: list[RecommendedItem]
    source: Literal["model", "popularity"] = "model"
    unknown_items: Sequence[Id] = ()


class Engine:
    """Lists from one version of a registry. Safe to use from many threads: nothing changes once it is built."""

    def __init__(
        self, about: dict[str, Any], artifact: Artifact, stored: StoredUsers, settings: Settings, store: Store | None = None
    ) -> None:
        self.about = about
        self.version: str = about["version"]
        self.artifact = artifact
        self.items = artifact.items
        self.users = KnownUsers(artifact, stored, store)
        self._popularity = _popularity(artifact, stored)
        self._shelf = Shelf(artifact, store)
        self._search = Search(artifact.items, self._popularity.tensors()["popularity"].numpy())
        self._shaper = Shaper.of(
            artifact.model, artifact.items, artifact.metadata, settings.largest_because, settings.largest_explained
        )
        self._pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="engine")

    @classmethod
    def load(cls, settings: Settings, store: Store | None = None) -> "Engine | None":
        """The registry's current version; None where it has none. Raises RegistryError or ArtifactError where it is damaged."""
        registry = Registry(settings.registry)
        version = registry.current()
        if version is None:
            return None
        artifact, stored = registry.load(version)
        return cls(registry.show(version), artifact, stored, settings, store)

    def close(self) -> None:
        """Wait for work under way and end the threads."""
        self._pool.shutdown()

    async def run(self, work: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        """Do the work in one of the engine's threads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    def for_user(self, user_id: Id, k: int, filters: Filters) -> Found:
        """A list for a stored user. Raises UnknownIdError, StoreError; HistoryTooLongError where it cannot be explained."""
        return self._list(self.users.history(user_id), k, filters)

    def for_history(self, events: Sequence[Event], k: int, filters: Filters) -> Found:
        """A list for the events of one user, whoever that is. Raises HistoryTooLongError where it cannot be explained."""
        history, unknown = self._history(events)
        return self._list(history, k, filters, unknown)

    def ranked(self, events: Sequence[Event], candidates: Sequence[Id]) -> Found:
        """The candidates in order for the events of one user, each once, whether seen or not."""
        history, unknown = self._history(events)
        strange = [id_ for id_ in map(self.items.parse, candidates) if id_ not in self.items]
        filters = Filters(allow=candidates, include_seen=True)
        return self._list(history, max(len(candidates), 1), filters, list(dict.fromkeys([*unknown, *strange])))

    def _history(self, events: Sequence[Event]) -> tuple[Histories, list[Id]]:
        """The history (1, I) that training would have made of the events, and the unknown items."""
        raw = [RawEvent(event.item_id, event.weight, event.timestamp, event.event_type) for event in events]
        return history_of(raw, self.items, self.artifact.preprocessing)

    def similar(self, item_id: Id, k: int) -> Found:
        """The items most like one. Raises UnknownIdError."""
        item = self.items.position(self.items.parse(item_id))
        now = self._shelf.now()
        return Found(self._described(similar_items(self.artifact.model, item, len(self.items), k, allow=now.available), now))

    def catalogue(self) -> Catalogue:
        """What is known of the items now. Raises StoreError."""
        return self._shelf.now()

    def search(self, text: str, most: int) -> list[int]:
        """Columns of the items that a text finds, the most popular first. Raises StoreError."""
        return self._search.find(text, most, self._shelf.now())

    def _list(self, history: Histories, k: int, filters: Filters, unknown: Sequence[Id] = ()) -> Found:
        """From the model; from popularity where there is nothing for a model to go by."""
        known, shape, now = history.n_interactions > 0, filters.shape, self._shelf.now()
        self._shaper.check(history, shape)
        model = self.artifact.model if known else self._popularity
        ranking = rank_top_k(
            model,
            history,
            shape.candidates(k),
            exclude_seen=not filters.include_seen,
            exclude=Histories.from_rows([self._columns(filters.exclude)], len(self.items)),
            allow=self._allowed(filters, now),
        )
        ranking = self._shaper.arranged(ranking, history, k, shape)
        reasons = self._shaper.reasons(model, ranking, history) if shape.explain else None
        return Found(self._described(ranking, now, reasons), "model" if known else "popularity", unknown)

    def _columns(self, ids: Sequence[Id]) -> list[int]:
        """The columns of the ids that are known."""
        columns = self.items.positions(self.items.parse(id_) for id_ in ids)
        return columns[columns >= 0].tolist()

    def _allowed(self, filters: Filters, now: Catalogue) -> NDArray[np.bool_] | None:
        """Which columns may be returned, (I,); None for all."""
        wanted = [] if filters.allow is None else [self._columns(filters.allow)]
        if filters.categories is not None:
            wanted.append([column for name in set(filters.categories) for column in now.by_category.get(name, [])])
        if not wanted:
            return now.available
        masks = np.zeros((len(wanted), len(self.items)), np.bool_)
        for mask, columns in zip(masks, wanted, strict=True):
            mask[columns] = True
        allowed: NDArray[np.bool_] = np.logical_and.reduce(masks)
        return allowed if now.available is None else allowed & now.available

    def _described(
        self, ranking: Ranking, now: Catalogue, reasons: Sequence[list[Reason] | None] | None = None
    ) -> list[RecommendedItem]:
        columns, scores = ranking.row(0)
        if not np.isfinite(scores).all():
            raise ModelError(f"version {self.version} gave a score that is not finite")
        ids, because = self.items.ids, reasons or repeat(None)
        return [
            RecommendedItem(item_id=ids[column], score=score, title=now.title(column), rank=rank, because=why)
            for rank, (column, score, why) in enumerate(zip(columns, scores, because, strict=False), 1)
        ]


def _popularity(artifact: Artifact, stored: StoredUsers) -> Popularity:
    """Counts of users as a model, so that its lists are filtered and cut like every other."""
    n_items = len(artifact.items)
    counts = artifact.metadata.popularity or np.bincount(stored.histories.items, minlength=n_items).tolist()
    model = Popularity(PopularityConfig(), n_items)
    return model.restore({"popularity": torch.tensor(counts, dtype=torch.float32)})
