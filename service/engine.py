"""Engine: one version of a registry, and what is asked of it: histories, and what becomes of their scores."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from recsys_ae.artifact import Artifact
from recsys_ae.errors import ModelError
from recsys_ae.events import RawEvent, history_of
from recsys_ae.histories import Histories
from recsys_ae.ids import Id
from recsys_ae.index import Index
from recsys_ae.models.popularity import Popularity, PopularityConfig
from recsys_ae.ranking import Ranking, rank_scores
from recsys_ae.registry import Registry, StoredUsers
from service.batcher import MOST, NOTHING, Asked
from service.catalogue import Catalogue, Shelf
from service.recent import Recent
from service.schemas import Event, Reason, RecommendedItem
from service.search import Search
from service.settings import Settings
from service.shaping import Shape, Shaper
from service.store import Stamp, Store
from service.strangeness import Strangeness
from service.users import KnownUsers

WARMING = 64  # histories
WARMING_K = 10


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
    popularity: float | None = None  # mean percentile of the items, from 0 to 1

    def contents(self, version: str) -> dict[str, Any]:
        """What an answer says of it, made by a version of a model."""
        return {
            "items": self.items,
            "source": self.source,
            "unknown_items": list(self.unknown_items),
            "model_version": version,
        }


class Engine:
    """Lists from one version of a registry. Safe to use from many threads: nothing changes once it is built.

    What is asked of it comes as `Asked`, which the batcher scores together with others of the moment.
    """

    def __init__(
        self,
        about: dict[str, Any],
        artifact: Artifact,
        stored: StoredUsers,
        settings: Settings,
        store: Store | None = None,
        recent: Recent | None = None,
        index: Index | None = None,
    ) -> None:
        self.about = about
        self.version: str = about["version"]
        self.artifact = artifact
        self.items = artifact.items
        self.users = KnownUsers(artifact, stored, store)
        self.strangeness = Strangeness(artifact.model, stored.histories)
        counts = _counts(artifact, stored)
        self._popularity = Popularity(PopularityConfig(), len(self.items)).restore({"popularity": torch.from_numpy(counts)})
        self._percentiles = _percentiles(counts)
        self._shelf = Shelf(artifact, store)
        self._search = Search(artifact.items, counts)
        self._shaper = Shaper.of(
            artifact.model, artifact.items, artifact.metadata, settings.largest_because, settings.largest_explained
        )
        self._recent = Recent() if recent is None else recent
        stored.users.positions(())  # which makes its table
        wanted = settings.indexes(len(self.items))
        self.index = (index or Index.of(artifact.model, stored.histories)) if wanted else None
        self.usual_popularity = self._warm(stored.histories)

    @classmethod
    def load(
        cls,
        registry: Registry,
        version: str,
        settings: Settings,
        store: Store | None = None,
        recent: Recent | None = None,
    ) -> "Engine":
        """A version, checked and warm. Raises RegistryError, ArtifactError, ConfigError without faiss, or ModelError where
        its scores are no numbers.
        """
        artifact, stored = registry.load(version)
        index = registry.index(version) if settings.indexes(len(artifact.items)) else None
        return cls(registry.show(version), artifact, stored, settings, store, recent, index)

    def for_user(self, user_id: Id, k: int, filters: Filters, stamp: Stamp | None = None) -> Asked[Found]:
        """A list for a stored user. `stamp`: the store's of this user and of the items, where just read.

        Raises UnknownIdError, StoreError, CannotShapeError.
        """
        user, items = stamp or (None, None)
        return self._asked(self.users.history(user_id, user), k, filters, now=self._shelf.now(items))

    def for_history(self, events: Sequence[Event], k: int, filters: Filters) -> Asked[Found]:
        """A list for the events of one user, whoever that is. Raises CannotShapeError."""
        history, unknown = self._history(events)
        return self._asked(history, k, filters, unknown)

    def ranked(self, events: Sequence[Event], candidates: Sequence[Id]) -> Asked[Found]:
        """The candidates in order for the events of one user, each once, whether seen or not."""
        history, unknown = self._history(events)
        strange = [id_ for id_ in map(self.items.parse, candidates) if id_ not in self.items]
        filters = Filters(allow=candidates, include_seen=True)
        return self._asked(history, max(len(candidates), 1), filters, list(dict.fromkeys([*unknown, *strange])))

    def similar(self, item_id: Id, k: int) -> Asked[Found]:
        """The items most like one: the list of a history of that item alone. Raises UnknownIdError."""
        item = self.items.position(self.items.parse(item_id))
        return self._asked(Histories.from_rows([[item]], len(self.items)), k, Filters())

    def _history(self, events: Sequence[Event]) -> tuple[Histories, list[Id]]:
        """The history (1, I) that training would have made of the events, and the unknown items."""
        raw = [RawEvent(event.item_id, event.weight, event.timestamp, event.event_type) for event in events]
        return history_of(raw, self.items, self.artifact.preprocessing)

    def catalogue(self) -> Catalogue:
        """What is known of the items now. Raises StoreError."""
        return self._shelf.now()

    def search(self, text: str, most: int) -> list[int]:
        """Columns of the items that a text finds, the most popular first. Raises StoreError."""
        return self._search.find(text, most, self._shelf.now())

    def _asked(
        self, history: Histories, k: int, filters: Filters, unknown: Sequence[Id] = (), now: Catalogue | None = None
    ) -> Asked[Found]:
        """Of the model; of popularity where there is nothing for a model to go by."""
        shape, now = filters.shape, now or self._shelf.now()
        self._shaper.check(history, shape)
        known = history.n_interactions > 0
        if known:
            self._recent.add(self.items, history)
        seen = NOTHING if filters.include_seen else history.items
        return Asked(
            history,
            self.artifact.model if known else self._popularity,
            shape.candidates(k),
            partial(self._found, history, k, shape, now, unknown),
            left_out=np.concatenate([seen, self._columns(filters.exclude)]) if filters.exclude else seen,
            allow=self._allowed(filters, now),
            long=shape.takes_long,
            index=self.index if known and not shape.explore else None,
            drawn=partial(self._shaper.drawn, history=history, shape=shape) if known and shape.explore else None,
        )

    def _found(
        self, history: Histories, k: int, shape: Shape, now: Catalogue, unknown: Sequence[Id], ranking: Ranking
    ) -> Found:
        """The list that a ranking (1, C) of a history (1, I) becomes."""
        known = history.n_interactions > 0
        ranking = self._shaper.arranged(ranking, history, k, shape)
        model = self.artifact.model if known else self._popularity
        reasons = self._shaper.reasons(model, ranking, history) if shape.explain else None
        popularity = self._popularity_of(ranking)
        return Found(self._described(ranking, now, reasons), "model" if known else "popularity", unknown, popularity)

    def _warm(self, stored: Histories) -> float | None:
        """Make lists as for recent requests and for some stored users. Returns the mean popularity of the latter's lists.

        Raises ModelError where a score is not finite.
        """
        list(self._popularities(self._recent.over(self.items)))
        usual = list(self._popularities(stored.evenly(WARMING)))
        return float(np.mean(usual)) if usual else None

    def _popularities(self, histories: Histories) -> Iterator[float]:
        """Of the lists of histories (B, I), those that are not empty."""
        for start in range(0, len(histories), MOST):
            rows = histories.take(slice(start, start + MOST))
            scores = self.artifact.model.score(rows)
            if not torch.isfinite(scores).all():
                raise ModelError(f"version {self.version} gives scores that are not finite")
            ranking = rank_scores(scores, rows, WARMING_K)
            for row in range(len(rows)):
                found = self._popularity_of(ranking.part(row, WARMING_K))
                if found is not None:
                    yield found

    def _popularity_of(self, ranking: Ranking) -> float | None:
        """The mean percentile of popularity of one list's items, from 0 to 1; None of an empty one."""
        columns = ranking.items[0][ranking.items[0] >= 0]
        return float(self._percentiles[columns].mean()) if len(columns) else None

    def _columns(self, ids: Sequence[Id]) -> NDArray[np.int64]:
        """The columns of the ids that are known."""
        columns = self.items.positions(self.items.parse(id_) for id_ in ids)
        return columns[columns >= 0]

    def _allowed(self, filters: Filters, now: Catalogue) -> NDArray[np.bool_] | None:
        """Which columns may be returned, (I,); None for all."""
        wanted: list[NDArray[np.int64] | list[int]] = [] if filters.allow is None else [self._columns(filters.allow)]
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


def _counts(artifact: Artifact, stored: StoredUsers) -> NDArray[np.float32]:
    """How many users took each item, (I,), where not known of the stored ones."""
    counts = artifact.metadata.popularity or np.bincount(stored.histories.items, minlength=len(artifact.items))
    return np.asarray(counts, np.float32)


def _percentiles(counts: NDArray[np.float32]) -> NDArray[np.float32]:
    """The place of each among all, from 0 to 1, (I,); equals share the middle of theirs. scipy's ranks take long to import."""
    ordered = np.sort(counts)
    middle = (ordered.searchsorted(counts, "left") + ordered.searchsorted(counts, "right") + 1) / 2
    return (middle / max(len(counts), 1)).astype(np.float32)
