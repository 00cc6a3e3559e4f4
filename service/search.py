"""Search: items by the words of their titles."""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_ae.ids import IdMap
from service.catalogue import Catalogue

WORD = re.compile(r"\w+")
PLAIN = str.maketrans("øłđı", "oldi", "'’ʼ`")
"""Letters that do not come apart into a letter and an accent; apostrophes, which part no words."""
MOST_COUNTED = 4
"""Of a text's words the longest are counted in the index, to look first for the rarest of them."""


def words_of(text: str) -> list[str]:
    """The words of a text, without case and accents."""
    text = text.casefold()
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return WORD.findall(text.translate(PLAIN))


class Index(NamedTuple):
    """The items that may be shown, most popular first: their columns; all their words in one text, a space before each and a
    line for each item; where in it the lines begin, and its end.
    """

    columns: list[int]
    text: str
    starts: list[int]

    @classmethod
    def of(cls, columns: list[int], names: Iterable[str]) -> "Index":
        lines = [" " + " ".join(words_of(name)) + "\n" for name in names]
        return cls(columns, "".join(lines), [0, *accumulate(map(len, lines))])

    def having(self, words: Sequence[str]) -> Iterator[int]:
        """Columns of the items that have, for each of the words, one that begins with it."""
        wanted = sorted({f" {word}" for word in words}, key=len)[-MOST_COUNTED:]
        rarest = min(wanted, key=self.text.count)
        at = self.text.find(rarest)
        while at >= 0:
            place = bisect_right(self.starts, at) - 1
            begin, end = self.starts[place : place + 2]
            if all(self.text.find(f" {word}", begin, end) >= 0 for word in words):
                yield self.columns[place]
            at = self.text.find(rarest, end)


class Search:
    """Of the items of one version. The index is made anew where the catalogue has changed. Safe to use from many threads."""

    def __init__(self, items: IdMap, popularity: NDArray[np.floating]) -> None:
        """popularity (I,): which of the items found come first."""
        self._items = items
        self._order: list[int] = np.argsort(-popularity, kind="stable").tolist()
        self._index: tuple[Catalogue, Index] | None = None

    def find(self, text: str, most: int, catalogue: Catalogue) -> list[int]:
        """Columns of at most `most` items that may be shown: that of this id first, then those whose titles have words that
        begin with each word of the text, the most popular first. An item without a title is found by its id's words.
        """
        id_, shown, words = self._items.parse(text.strip()), catalogue.available, words_of(text)
        column = self._items.position(id_) if id_ in self._items else None
        exact = [] if column is None or (shown is not None and not shown[column]) else [column]
        others = (c for c in self._index_of(catalogue).having(words) if c != column) if words else iter(())
        return list(islice(chain(exact, others), most))

    def _index_of(self, catalogue: Catalogue) -> Index:
        made = self._index
        if made is None or made[0] is not catalogue:
            ids, shown = self._items.ids, catalogue.available
            columns = self._order if shown is None else [column for column in self._order if shown[column]]
            made = catalogue, Index.of(columns, (catalogue.title(column) or str(ids[column]) for column in columns))
            self._index = made
        return made[1]
