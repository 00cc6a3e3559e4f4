"""Search: items by the words of their titles."""

import re
import unicodedata

import numpy as np
from numpy.typing import NDArray

from recsys_ae.ids import IdMap
from service.catalogue import Catalogue

WORD = re.compile(r"\w+")
PLAIN = str.maketrans("øłđı", "oldi", "'’ʼ`")
"""Letters that do not come apart into a letter and an accent; apostrophes, which part no words."""


def words_of(text: str) -> list[str]:
    """The words of a text, without case and accents."""
    apart = unicodedata.normalize("NFKD", text.casefold())
    return WORD.findall("".join(c for c in apart if not unicodedata.combining(c)).translate(PLAIN))


class Search:
    """Of the items of one version. The index is made anew where the catalogue has changed. Safe to use from many threads."""

    def __init__(self, items: IdMap, popularity: NDArray[np.floating]) -> None:
        """popularity (I,): which of the items found come first."""
        self._items = items
        self._order: list[int] = np.argsort(-popularity, kind="stable").tolist()
        self._index: tuple[Catalogue, list[tuple[int, str]]] | None = None

    def find(self, text: str, most: int, catalogue: Catalogue) -> list[int]:
        """Columns of at most `most` items that may be shown: that of this id first, then those whose titles have words that
        begin with each word of the text, the most popular first. An item without a title is found by its id's words.
        """
        id_ = self._items.parse(text.strip())
        found = [self._items.position(id_)] if id_ in self._items else []
        wanted = [f" {word}" for word in words_of(text)]
        if wanted:
            for column, line in self._lines(catalogue):
                if len(found) > most:
                    break
                if all(word in line for word in wanted) and column not in found[:1]:
                    found.append(column)
        shown = catalogue.available
        return [column for column in found if shown is None or shown[column]][:most]

    def _lines(self, catalogue: Catalogue) -> list[tuple[int, str]]:
        """Each item that may be shown, most popular first: its column, and its words with a space before each."""
        index = self._index
        if index is None or index[0] is not catalogue:
            ids, shown = self._items.ids, catalogue.available
            columns = self._order if shown is None else [column for column in self._order if shown[column]]
            texts = ((column, catalogue.title(column) or str(ids[column])) for column in columns)
            index = self._index = (catalogue, [(column, " " + " ".join(words_of(text))) for column, text in texts])
        return index[1]
