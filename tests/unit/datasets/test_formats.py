"""Every family as its documentation has it, from a small made-up archive; what does not fit is named with its line."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from recsys_ae.datasets import formats
from recsys_ae.datasets.bundle import Bundle, open_bundle
from recsys_ae.datasets.catalogue import CATALOGUE
from recsys_ae.datasets.formats import FORMATS, Format, originals
from recsys_ae.errors import DataError
from tests.archives import COUNTS, MEMBERS, extracted


def family(name: str) -> Format:
    return FORMATS[CATALOGUE[name].family]


def bundle(name: str, tmp_path: Path, **changed: bytes) -> Bundle:
    """The made-up members of a set in a folder; `changed` replaces some by base name (with _ for the dot)."""
    members = {path: changed.get(path.rpartition("/")[2].replace(".", "_"), data) for path, data in MEMBERS[name].items()}
    return open_bundle(extracted(members, tmp_path), family(name).names, 10**6)


def rows(name: str, opened: Bundle, part: str = "events") -> list[tuple[object, ...]]:
    tables = list(family(name).interactions[part].tables(opened))
    return [tuple(row.values()) for table in tables for row in table.to_pylist()]


def items(name: str, opened: Bundle) -> dict[object, tuple[object, ...]]:
    read = family(name).items
    assert read is not None
    return {row.pop("id"): tuple(row.values()) for row in read(opened).to_pylist()}


EVENTS = {
    "ml-100k": [(196, 242, 881250949, 3.0), (186, 302, 891717742, 3.0), (196, 51, 881250950, 5.0)],
    "ml-1m": [(1, 1193, 978300760, 5.0), (1, 661, 978302109, 3.0), (2, 1193, 978298413, 4.0)],
    "ml-10m": [(1, 122, 838985046, 5.0), (1, 185, 838983525, 4.5)],
    "ml-20m": [(1, 2, 1112486027, 3.5), (2, 2, 1112484676, 0.5), (2, 47, 1112484819, 4.0)],
    "lastfm-2k": [(2, 51, 13883.0), (2, 52, 11690.0), (3, 51, 228.0)],
    "msd": [
        ("b80344d063b5ccb3212f76538f3d9e43d87dca9e", "SOAKIMP12A8C130995", 1.0),
        ("b80344d063b5ccb3212f76538f3d9e43d87dca9e", "SOBBMDR12A8C13253B", 2.0),
        ("85c1f87fea955d09b4bec2e36aee110927aedf9a", "SOAKIMP12A8C130995", 15.0),
    ],
}
ITEMS = {
    "ml-100k": {
        242: ("Kolya (1996)", "Comedy"),
        302: ("Misérables, Les (1995)", "Animation|Sci-Fi"),
        51: ("x", None),
    },
    "ml-1m": {661: ("Misérables, Les (1995)", "Drama|Musical"), 1193: ("One Flew: Over (1975)", "Drama")},
    "ml-10m": {122: ("Boomerang (1992)", "Comedy|Romance"), 185: ("Amélie (2001)", None)},
    "ml-20m": {
        2: ("City of Lost Children, The (Cité des enfants perdus, La) (1995)", "Adventure|Drama"),
        47: ('Say "no" (1995)', None),
    },
    "lastfm-2k": {51: ('Mötley "Crüe', "metal|añejo"), 52: ("Morcheeba", "a/b")},
    "gowalla": {0: ("9410",), 1: ("420315",), 2: ("21714",), 3: ("316637",), 4: ("16516",)},
}


@pytest.mark.parametrize("name", EVENTS)
def test_interactions_are_read_as_the_format_has_them(name: str, tmp_path: Path) -> None:
    assert rows(name, bundle(name, tmp_path)) == EVENTS[name]


@pytest.mark.parametrize("name", ITEMS)
def test_items_are_read_as_the_format_has_them(name: str, tmp_path: Path) -> None:
    assert items(name, bundle(name, tmp_path)) == ITEMS[name]


def test_lightgcn_lines_become_pairs_and_a_user_without_items_none(tmp_path: Path) -> None:
    opened = bundle("gowalla", tmp_path)
    train, test = (rows("gowalla", opened, part) for part in ("train", "test"))
    assert train == [(0, 0), (0, 1), (0, 2), (1, 1), (1, 3), (2, 0), (2, 2), (2, 4), (2, 3), (3, 4), (3, 1)]
    assert test == [(0, 3), (1, 0), (1, 2), (3, 0)]
    assert originals(opened, "user_list.txt").to_pydict()["original_id"] == ["196514", "196585", "170150", "196586"]


@pytest.mark.parametrize("block", [1, 7, 30, 64])
@pytest.mark.parametrize("name", [*EVENTS, "gowalla"])
def test_blocks_of_any_length_give_the_same_rows(
    name: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = bundle(name, tmp_path)
    parts = list(family(name).interactions)
    whole = [rows(name, opened, part) for part in parts]
    monkeypatch.setattr(formats, "BLOCK", max(block, 40 if name == "msd" else 20))  # a line has up to 60 bytes
    monkeypatch.setattr(formats, "PAIRS", block)
    assert [rows(name, opened, part) for part in parts] == whole


def test_a_last_line_without_its_end_is_read(tmp_path: Path) -> None:
    cut = MEMBERS["ml-1m"]["ml-1m/ratings.dat"].rstrip(b"\n")
    assert rows("ml-1m", bundle("ml-1m", tmp_path, ratings_dat=cut)) == EVENTS["ml-1m"]


def test_every_family_is_tried_here() -> None:
    assert {CATALOGUE[name].family for name in MEMBERS} == set(FORMATS)
    assert set(COUNTS) == set(MEMBERS)


@pytest.mark.parametrize(
    ("name", "file", "data", "said"),
    [
        ("ml-1m", "ratings.dat", b"1::2::3::4\n1::2::3\n", ["ratings.dat, lines 1 to 3", "Expected 4 columns"]),
        ("ml-1m", "ratings.dat", b"1::2::3::4\none::2::3::4\n", ["ratings.dat, lines 1 to", "one"]),
        ("ml-1m", "ratings.dat", b"1::2::3::4\n9999999999999999999::2::3::4\n", ["ratings.dat", "9999999999999999999"]),
        ("ml-1m", "ratings.dat", b"\x89PNG\r\n\x1a\n\0\0", ["ratings.dat"]),
        ("ml-20m", "ratings.csv", b"user,movie,rating,time\n1,2,3,4\n", ["ratings.csv, line 1", "userId"]),
        ("msd", "train_triplets.txt", b"a\tb\tmany\n", ["train_triplets.txt", "many"]),
        ("gowalla", "train.txt", b"0 1 2\n1 x\n", ["train.txt, line 2", "whole numbers"]),
        ("gowalla", "train.txt", b"0 99999999999999999999\n", ["train.txt, line 1"]),
    ],
)
def test_interactions_that_do_not_fit_are_named(name: str, file: str, data: bytes, said: list[str], tmp_path: Path) -> None:
    opened = bundle(name, tmp_path, **{file.replace(".", "_"): data})
    with pytest.raises(DataError) as caught:
        rows(name, opened, next(iter(family(name).interactions)))
    assert all(part in str(caught.value) for part in said), caught.value


@pytest.mark.parametrize(
    ("name", "file", "data", "said"),
    [
        ("ml-100k", "u.item", b"1|Toy Story|01-Jan-1995\n", "u.item, line 1"),
        ("ml-1m", "movies.dat", b"1::Toy Story::Animation\nToy Story\n", "movies.dat, line 2"),
        ("ml-20m", "movies.csv", b"movieId,title,genres\n1,Toy Story\n", "movies.csv, row 1"),
        ("ml-20m", "movies.csv", b"movieId,title,genres\n" + b"9" * 30 + b",Toy Story,x\n", "movies.csv, row 1"),
        ("lastfm-2k", "artists.dat", b"id\tname\nx\tMoby\n", "artists.dat, line 2"),
        ("lastfm-2k", "user_taggedartists.dat", b"userID\tartistID\ttagID\n1\t2\tx\n", "user_taggedartists.dat, line 2"),
        ("gowalla", "item_list.txt", b"org_id remap_id\n17\n", "item_list.txt, line 2"),
    ],
)
def test_items_that_do_not_fit_are_named(name: str, file: str, data: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        items(name, bundle(name, tmp_path, **{file.replace(".", "_"): data}))


def test_a_file_without_lines_is_not_read_into_memory_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "BLOCK", 100)
    opened = bundle("ml-1m", tmp_path, ratings_dat=b"1" * 10_000)
    tables: Iterator[pa.Table] = family("ml-1m").interactions["events"].tables(opened)
    with pytest.raises(DataError, match="line 1: is longer than 200 bytes"):
        next(tables)
