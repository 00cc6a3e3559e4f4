"""ItemMetadata: what is known of each item beside its id. Kept in the artefact; read by the service."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_ae.histories import Histories
from recsys_ae.ids import Id, IdMap


@dataclass(frozen=True)
class ItemMetadata:
    """One entry an item: title or None, categories, number of users, time last seen or None. Empty where nothing is known."""

    titles: tuple[str | None, ...] = ()
    categories: tuple[tuple[str, ...], ...] = ()
    popularity: tuple[int, ...] = ()
    last_seen: tuple[int | None, ...] = ()

    @classmethod
    def of(
        cls,
        items: IdMap,
        histories: Histories,
        titles: Mapping[Id, str],
        categories: Mapping[Id, tuple[str, ...]],
    ) -> "ItemMetadata":
        """Counted from histories (B, I); titles and categories by item id where given."""
        last: list[int | None] = [None] * len(items)
        if histories.times is not None:
            latest = np.full(len(items), np.iinfo(np.int64).min)
            np.maximum.at(latest, histories.items, histories.times)
            last = [int(t) if t > np.iinfo(np.int64).min else None for t in latest]
        return cls(
            tuple(titles.get(i) for i in items.ids),
            tuple(categories.get(i, ()) for i in items.ids),
            tuple(np.bincount(histories.items, minlength=len(items)).tolist()),
            tuple(last),
        )

    def take(self, columns: NDArray[np.integer]) -> "ItemMetadata":
        """The entries of the given columns."""
        if not self.popularity:
            return self
        places = columns.tolist()
        return ItemMetadata(
            tuple(self.titles[c] for c in places),
            tuple(self.categories[c] for c in places),
            tuple(self.popularity[c] for c in places),
            tuple(self.last_seen[c] for c in places),
        )

    def title(self, column: int) -> str | None:
        """The title of a column, where known."""
        return self.titles[column] if self.titles else None
