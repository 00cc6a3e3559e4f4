"""Engine: one version of a registry, and what is asked of it: histories, and what becomes of their scores."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from recsys_ae.artifact import Artifact
from recsys_ae.errors import ModelError
from recsys_ae.events import RawEvent, history_of
from recsys_ae.histories import Histories
from recsys_ae.ids import Id
from recsys_ae.models.popularity import Popularity, PopularityConfig
from recsys_ae.ranking import Ranking, rank_scores
from recsys_ae.registry import Registry, StoredUsers
from service.batcher import ROWS, Asked
from service.catalogue import Catalogue, Shelf
from service.recent import Recent
from service.schemas import Event, Reason, RecommendedItem
from service.search import Search
from service.settings import Settings
from service.shaping import Shape, Shaper
from service.store import Store
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
    ) -> None:
        self.about = about
        self.version: str = about["version"]
        self.artifact = artifact
        self.items = artifact.items
        self.users = KnownUsers(artifact, stored, store)
        self.strangeness = Strangeness(artifact.model, stored.histories)
        counts = _counts(artifact, stored)
        self._popularity = Popularity(PopularityConfig(), len(self.items)).restore({"popularity": torch.from_numpy(counts)})
        self._percentiles = (rankdata(counts) / max(len(counts), 1)).astype(np.float32)
        self._shelf = Shelf(artifact, store)
        self._search = Search(artifact.items, counts)
        self._shaper = Shaper.of(
            artifact.model, artifact.items, artifact.metadata, settings.largest_because, settings.largest_explained
        )
        self._recent = Recent() if recent is None else recent
        stored.users.positions(())  # which makes its table
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
        """A version, checked and warm. Raises RegistryError, ArtifactError, or ModelError where its scores are no numbers."""
        artifact, stored = registry.load(version)
        return cls(registry.show(version), artifact, stored, settings, store, recent)

    def for_user(self, user_id: Id, k: int, filters: Filters) -> Asked[Found]:
        """A list for a stored user. Raises UnknownIdError, StoreError; HistoryTooLongError where it cannot be explained."""
        return self._asked(self.users.history(user_id), k, filters)

    def for_history(self, events: Sequence[Event], k: int, filters: Filters) -> Asked[Found]:
        """A list for the events of one user, whoever that is. Raises HistoryTooLongError where it cannot be explained."""
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

    def _asked(self, history: Histories, k: int, filters: Filters, unknown: Sequence[Id] = ()) -> Asked[Found]:
        """Of the model; of popularity where there is nothing for a model to go by."""
        self._shaper.check(history, filters.shape)
        known = history.n_interactions > 0
        if known:
            self._recent.add(self.items, history)
        model = self.artifact.model if known else self._popularity
        return Asked(history, model, partial(self._found, history, k, filters, unknown), long=filters.shape.takes_long)

    def _found(self, history: Histories, k: int, filters: Filters, unknown: Sequence[Id], scores: Tensor) -> Found:
        """The list of a history, both (1, I), by its scores, which are used up."""
        known, shape, now = history.n_interactions > 0, filters.shape, self._shelf.now()
        ranking = rank_scores(
            scores,
            history,
            shape.candidates(k),
            exclude_seen=not filters.include_seen,
            exclude=Histories.from_rows([self._columns(filters.exclude)], len(self.items)) if filters.exclude else None,
            allow=self._allowed(filters, now),
        )
        ranking = self._shaper.arranged(ranking, history, k, shape)
        model = self.artifact.model if known else self._popularity
        reasons = self._shaper.reasons(model, ranking, history) if shape.explain else None
        popularity = self._popularity_of(ranking)
        return Found(self._described(ranking, now, reasons), "model" if known else "popularity", unknown, popularity)

    def _warm(self, stored: Histories) -> float | None:
        """Make lists as for recent requests and for some stored users. Returns the mean popularity of the latter's lists.

        Raises ModelError where a score is not finite.
        """
        some = [stored.take(slice(row, row + 1)) for row in range(0, len(stored), max(1, len(stored) // WARMING))]
        means = [list(self._popularities(histories)) for histories in (self._recent.over(self.items), some)]
        return float(np.mean(means[1])) if means[1] else None

    def _popularities(self, histories: Sequence[Histories]) -> Iterator[float]:
        for start in range(0, len(histories), ROWS):
            rows = Histories.stack(histories[start : start + ROWS], ROWS)
            scores = self.artifact.model.score(rows)
            if not torch.isfinite(scores).all():
                raise ModelError(f"version {self.version} gives scores that are not finite")
            ranking = rank_scores(scores, rows, WARMING_K)
            for row in range(min(ROWS, len(histories) - start)):
                found = self._popularity_of(Ranking(ranking.items[row : row + 1], ranking.scores[row : row + 1]))
                if found is not None:
                    yield found

    def _popularity_of(self, ranking: Ranking) -> float | None:
        """The mean percentile of popularity of one list's items, from 0 to 1; None of an empty one."""
        columns = ranking.items[0][ranking.items[0] >= 0]
        return float(self._percentiles[columns].mean()) if len(columns) else None

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


def _counts(artifact: Artifact, stored: StoredUsers) -> NDArray[np.float32]:
    """How many users took each item, (I,), where not known of the stored ones."""
    counts = artifact.metadata.popularity or np.bincount(stored.histories.items, minlength=len(artifact.items))
    return np.asarray(counts, np.float32)
