"""Catalogue: what may be shown of a version's items, and how: the artefact's own data, under what the store says since."""

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_ae.artifact import Artifact
from service.store import Store


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Titles and categories by column (empty where nothing is known), columns by category, columns (I,) to show (None: all)."""

    titles: tuple[str | None, ...]
    categories: tuple[tuple[str, ...], ...]
    by_category: dict[str, list[int]]
    available: NDArray[np.bool_] | None = None

    def title(self, column: int) -> str | None:
        """The title of a column, where known."""
        return self.titles[column] if self.titles else None


class Shelf:
    """The catalogue of one version, read again where the store's items have changed since. Safe to use from many threads."""

    def __init__(self, artifact: Artifact, store: Store | None = None) -> None:
        self._artifact = artifact
        self._store = store
        self._seen = 0
        self._catalogue = _made(artifact)
        self._lock = threading.Lock()

    def now(self, counter: int | None = None) -> Catalogue:
        """The catalogue as of now, or as of when the store's counter of items was read. Raises StoreError."""
        if self._store is None:
            return self._catalogue
        count = self._store.items_counter() if counter is None else counter
        with self._lock:
            if count > self._seen:
                self._catalogue = _made(self._artifact, self._store)
                self._seen = count  # of before the reading: what was written meanwhile is read again
            return self._catalogue


def _made(artifact: Artifact, store: Store | None = None) -> Catalogue:
    ids, known = artifact.items, artifact.metadata
    titles, categories = known.titles, known.categories
    available: NDArray[np.bool_] | None = None
    facts = store.items() if store is not None else {}
    if facts:
        columns = dict(zip(facts, ids.positions(ids.parse(text) for text in facts).tolist(), strict=True))
        said = {column: facts[text] for text, column in columns.items() if column >= 0}
        own_titles, own_categories = titles or (None,) * len(ids), categories or ((),) * len(ids)
        titles = tuple(_first(said[c].title if c in said else None, own) for c, own in enumerate(own_titles))
        categories = tuple(
            own if c not in said or (new := said[c].categories) is None else new for c, own in enumerate(own_categories)
        )
        off = [column for column, each in said.items() if not each.available]
        if off:
            available = np.ones(len(ids), np.bool_)
            available[off] = False
    by_category: dict[str, list[int]] = {}
    for column, names in enumerate(categories):
        for name in names:
            by_category.setdefault(name, []).append(column)
    return Catalogue(titles, categories, by_category, available)


def _first(new: str | None, own: str | None) -> str | None:
    return own if new is None else new
