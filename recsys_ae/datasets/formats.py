"""The files of the public sets as their documentation has them, read block by block into canonical tables.

MovieLens 100K README (`u.data` by tabs, `u.item` by |, in ISO 8859-1); 1M and 10M README (`::`; 10M in UTF-8); 20M and later
README (CSV, UTF-8); HetRec 2011 Last.fm readme (tabs, headers); Million Song Dataset, taste profile (tabs); LightGCN README (a
user and its items on each line; `org_id remap_id` lists).
"""

import csv
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, TypeAlias

import numpy as np
import pyarrow as pa
from pyarrow import csv as pa_csv

from recsys_ae.datasets.bundle import Bundle
from recsys_ae.datasets.catalogue import Family
from recsys_ae.errors import DataError

BLOCK = 2**24  # bytes of a text file in memory at once
PAIRS = 2**20  # pairs of user and item in memory at once
RATING = ("user_id", "item_id", "weight", "timestamp")
COUNT = ("user_id", "item_id", "weight")
NO_GENRES = ("(no genres listed)", "unknown")
TAGS = 5  # of an artist: those that most users gave
GENRES_100K = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip

Items: TypeAlias = pa.Table
"""Columns id, title, category (separated by |), original_id (what the item is called where the data comes from)."""


@dataclass(frozen=True)
class Delimited:
    """A file of interactions, one a line. `header` is its first line where it has one."""

    name: str
    delimiter: str
    columns: tuple[str, ...]
    header: tuple[str, ...] = ()
    ids: pa.DataType = pa.int64()

    def tables(self, bundle: Bundle) -> Iterator[pa.Table]:
        """Canonical tables, in the order of the file. Raises DataError, which names the lines that do not fit."""
        types = {"timestamp": pa.int64(), "weight": pa.float64()}
        reading = pa_csv.ReadOptions(column_names=list(self.columns))
        parsing = pa_csv.ParseOptions(delimiter="\t" if self.delimiter == "::" else self.delimiter, quote_char=False)
        converting = pa_csv.ConvertOptions(column_types={c: types.get(c, self.ids) for c in self.columns}, null_values=[])
        order = sorted(self.columns, key=("user_id", "item_id", "timestamp", "weight").index)
        with bundle.open(self.name) as stream:
            for first, block in _blocks(stream, f"{bundle.place}, {self.name}"):
                if first == 1 and self.header:
                    block = self._without_header(bundle, block)
                if self.delimiter == "::":
                    block = block.replace(b"::", b"\t")
                if not block.strip():
                    continue
                try:
                    table = pa_csv.read_csv(
                        pa.BufferReader(block), read_options=reading, parse_options=parsing, convert_options=converting
                    )
                except pa.ArrowInvalid as error:
                    last = first + block.count(b"\n")
                    raise DataError(f"{bundle.place}, {self.name}, lines {first} to {last}: {error}") from None
                yield table.select(order)

    def _without_header(self, bundle: Bundle, block: bytes) -> bytes:
        line, _, rest = block.partition(b"\n")
        found = tuple(line.decode("utf-8-sig", "replace").strip().split(self.delimiter))
        if found != self.header:
            raise DataError(f"{bundle.place}, {self.name}, line 1: found {found}; expected the header {self.header}")
        return rest


@dataclass(frozen=True)
class Adjacency:
    """A file with a line for each user: the user's number, then the items' (LightGCN); a user may have none."""

    name: str

    def tables(self, bundle: Bundle) -> Iterator[pa.Table]:
        """Canonical tables of pairs. Raises DataError, which names the line that does not fit."""
        rows: list[np.ndarray] = []
        pairs = 0
        with bundle.open(self.name) as stream:
            for number, line in enumerate(stream, 1):
                try:
                    row = np.array(line.split(), np.int64)
                except (ValueError, OverflowError):
                    raise DataError(
                        f"{bundle.place}, {self.name}, line {number}: expected whole numbers, a user and items"
                    ) from None
                rows.append(row)
                pairs += max(len(row) - 1, 0)
                if pairs >= PAIRS:
                    yield self._table(rows)
                    rows, pairs = [], 0
        if pairs:
            yield self._table(rows)

    @staticmethod
    def _table(rows: list[np.ndarray]) -> pa.Table:
        users = np.concatenate([np.full(len(row) - 1, row[0]) for row in rows if len(row) > 1])
        return pa.table({"user_id": users, "item_id": np.concatenate([row[1:] for row in rows if len(row) > 1])})


Interactions: TypeAlias = Delimited | Adjacency


@dataclass(frozen=True)
class Format:
    """How a family's files are called and read: interactions by the name of their canonical file, and the items."""

    interactions: dict[str, Interactions]
    beside: tuple[str, ...] = ()
    items: Callable[[Bundle], Items] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Every file that is read."""
        return (*(each.name for each in self.interactions.values()), *self.beside)


def _blocks(stream: BinaryIO, place: str) -> Iterator[tuple[int, bytes]]:
    """Whole lines, about BLOCK bytes at a time, each with the number of its first line."""
    number, rest = 1, b""
    while block := stream.read(BLOCK):
        block = rest + block
        cut = block.rfind(b"\n") + 1
        if not cut and len(block) > 2 * BLOCK:
            raise DataError(f"{place}, line {number}: is longer than {2 * BLOCK:,} bytes; expected a text file of lines")
        if cut:
            yield number, block[:cut]
            number += block.count(b"\n", 0, cut)
        rest = block[cut:]
    if rest:
        yield number, rest


def _lines(bundle: Bundle, name: str) -> Iterator[tuple[int, str]]:
    """Numbered lines of a small file, which is UTF-8, or ISO 8859-1 where it is not (the sets of 1998 to 2011)."""
    with bundle.open(name) as stream:
        data = stream.read()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("iso-8859-1")
    return ((number, line.removesuffix("\r")) for number, line in enumerate(text.split("\n"), 1) if line.strip())


def _number(text: str) -> int | None:
    """An id of at most 18 digits, which fits 64 bits."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def _fields(
    bundle: Bundle, name: str, delimiter: str, width: int, *, ids: int = 1, header: bool = False
) -> Iterator[tuple[list[int], list[str]]]:
    """The `ids` numbers that lead each line, and the other fields; `width` fields at least."""
    for number, line in _lines(bundle, name):
        if header and number == 1:
            continue
        parts = line.split(delimiter)
        numbers = [found for part in parts[:ids] if (found := _number(part)) is not None]
        if len(parts) < width or len(numbers) < ids:
            expected = f"{ids} whole numbers first and {width} fields by {delimiter!r}"
            raise DataError(f"{bundle.place}, {name}, line {number}: found {line[:80]!r}; expected {expected}")
        yield numbers, parts[ids:]


def _items(rows: Iterator[tuple[int, str, list[str]]]) -> Items:
    ids, titles, categories = [], [], []
    for item, title, names in rows:
        ids.append(item)
        titles.append(title.strip() or None)
        categories.append("|".join(name.strip() for name in names if name.strip() and name not in NO_GENRES) or None)
    texts = {"title": pa.array(titles, pa.string()), "category": pa.array(categories, pa.string())}
    return pa.table({"id": pa.array(ids, pa.int64()), **texts})


def _u_item(bundle: Bundle) -> Items:
    """id | title | release | video release | IMDb | one flag a genre."""
    flags = len(GENRES_100K)
    return _items(
        (item, rest[0], [genre for genre, flag in zip(GENRES_100K, rest[-flags:], strict=True) if flag.strip() == "1"])
        for (item,), rest in _fields(bundle, "u.item", "|", 5 + flags)
    )


def _movies_dat(bundle: Bundle) -> Items:
    """id::title::genres separated by |."""
    return _items((item, "::".join(rest[:-1]), rest[-1].split("|")) for (item,), rest in _fields(bundle, "movies.dat", "::", 3))


def _movies_csv(bundle: Bundle) -> Items:
    """movieId,title,genres separated by |; quoted where needed."""

    def rows() -> Iterator[tuple[int, str, list[str]]]:
        for number, row in enumerate(csv.reader(line for _, line in _lines(bundle, "movies.csv"))):
            item = _number(row[0])
            if number and (len(row) != 3 or item is None):
                raise DataError(f"{bundle.place}, movies.csv, row {number}: found {row}; expected movieId,title,genres")
            if number and item is not None:
                yield item, row[1], row[2].split("|")

    try:
        return _items(rows())
    except csv.Error as error:
        raise DataError(f"{bundle.place}, movies.csv: {error}") from None


def _artists(bundle: Bundle) -> Items:
    """Artists' names, with the tags that most users gave."""
    tags: dict[int, list[str]] = {}
    if "tags.dat" in bundle and "user_taggedartists.dat" in bundle:
        names = {tag: rest[0].replace("|", "/") for (tag,), rest in _fields(bundle, "tags.dat", "\t", 2, header=True)}
        rows = _fields(bundle, "user_taggedartists.dat", "\t", 3, ids=3, header=True)
        given = {(user, artist, tag) for (user, artist, tag), _ in rows}
        counts = Counter((artist, tag) for _, artist, tag in given if tag in names)
        for artist, tag in sorted(counts, key=lambda pair: (-counts[pair], names[pair[1]])):
            tags.setdefault(artist, []).append(names[tag])
    artists = _fields(bundle, "artists.dat", "\t", 2, header=True)
    return _items((artist, rest[0], tags.get(artist, [])[:TAGS]) for (artist,), rest in artists)


def originals(bundle: Bundle, name: str) -> Items:
    """`org_id remap_id` of LightGCN: what the numbers stand for."""
    found = []
    for number, line in _lines(bundle, name):
        parts = line.split()
        if number == 1 and parts[:2] == ["org_id", "remap_id"]:
            continue
        remapped = _number(parts[1]) if len(parts) > 1 else None
        if remapped is None:
            raise DataError(f"{bundle.place}, {name}, line {number}: found {line[:80]!r}; expected org_id remap_id")
        found.append((remapped, parts[0]))
    ids, names = zip(*found, strict=True) if found else ((), ())
    return pa.table({"id": pa.array(ids, pa.int64()), "original_id": pa.array(names, pa.string())})


FORMATS: dict[Family, Format] = {
    "movielens-tab": Format({"events": Delimited("u.data", "\t", RATING)}, ("u.item",), _u_item),
    "movielens-colons": Format({"events": Delimited("ratings.dat", "::", RATING)}, ("movies.dat",), _movies_dat),
    "movielens-csv": Format(
        {"events": Delimited("ratings.csv", ",", RATING, ("userId", "movieId", "rating", "timestamp"))},
        ("movies.csv",),
        _movies_csv,
    ),
    "hetrec-lastfm": Format(
        {"events": Delimited("user_artists.dat", "\t", COUNT, ("userID", "artistID", "weight"))},
        ("artists.dat", "tags.dat", "user_taggedartists.dat"),
        _artists,
    ),
    "triplets": Format({"events": Delimited("train_triplets.txt", "\t", COUNT, ids=pa.string())}),
    "lightgcn": Format(
        {"train": Adjacency("train.txt"), "test": Adjacency("test.txt")},
        ("item_list.txt", "user_list.txt"),
        lambda bundle: originals(bundle, "item_list.txt"),
    ),
}
