"""ItemFeatures: numbers that are known of an item before anybody has met it; made of words, or beside one another."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_ae.errors import DataError
from recsys_ae.ids import Id, IdMap

WORDS = 1_000
"""Words of a bag, the most frequent ones."""
LEAST_ITEMS = 2  # a word of one item alone tells nothing of another


@dataclass(frozen=True, eq=False)
class ItemFeatures:
    """One row of numbers for each of F items, values (F, D) float32.

    Raises DataError where there are not so many rows, or one is not finite.
    """

    items: IdMap
    values: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or len(self.values) != len(self.items):
            raise DataError(f"features of shape {self.values.shape} for {len(self.items)} items; expected a row for each")
        if not np.isfinite(self.values).all():
            row = int((~np.isfinite(self.values)).any(1).argmax())
            raise DataError(f"the features of item {self.items.ids[row]!r} are not finite")

    def over(self, items: IdMap) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Values (I, D) in the order of another map, 0 where an item has none, and which have some, (I,)."""
        places = self.items.positions(items.ids)
        known = places >= 0
        values = np.zeros((len(items), self.values.shape[1]), np.float32)
        values[known] = self.values[places[known]]
        return values, known


def bag_of_words(words: Mapping[Id, Sequence[str]], most: int = WORDS) -> ItemFeatures:
    """Features of length 1 by what words an item has, rare ones weighing more (idf of Sparck Jones 1972, A statistical
    interpretation of term specificity). Words of one item alone, and all but the `most` frequent, are left out; an item
    without any word left has no row.

    Raises DataError where no word is shared by two items.
    """
    counts = Counter(word for own in words.values() for word in set(own))
    kept = [word for word, n in sorted(counts.items(), key=lambda c: (-c[1], c[0])) if n >= LEAST_ITEMS][:most]
    if not kept:
        raise DataError(f"no word is shared by two of {len(words)} items; expected titles or categories that say something")
    columns = {word: column for column, word in enumerate(kept)}
    found = {id_: sorted({columns[word] for word in own if word in columns}) for id_, own in words.items()}
    found = {id_: own for id_, own in found.items() if own}
    rarity = np.log((1 + len(words)) / np.array([counts[word] for word in kept])).astype(np.float32)
    values = np.zeros((len(found), len(kept)), np.float32)
    for row, own in enumerate(found.values()):
        values[row, own] = rarity[own]
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    return ItemFeatures(IdMap(tuple(found)), values)


def words_of(title: str) -> list[str]:
    """The words of a title in lower case; the year in brackets that a film's has is one of them."""
    return re.findall(r"\w+", title.lower())


def beside(parts: Iterable[ItemFeatures]) -> ItemFeatures:
    """Features of several kinds as one, over the items of any.

    Each kind is brought to mean 0 and rows of mean square length 1, so that none outweighs another by its units or its width;
    an item that lacks a kind stands at that kind's mean.
    """
    parts = list(parts)
    items = IdMap(tuple(dict.fromkeys(id_ for part in parts for id_ in part.items.ids)))
    blocks = []
    for part in parts:
        values, known = part.over(items)
        values[known] -= values[known].mean(0)
        values /= max(float(np.sqrt((values[known] ** 2).sum(1).mean())), 1e-12)
        blocks.append(values)
    return ItemFeatures(items, np.concatenate(blocks, 1))
