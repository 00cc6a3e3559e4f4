"""Bundles: safe zips, folders and single files; nothing outside, nothing too large, nothing damaged."""

import struct
import zipfile
from pathlib import Path

import pytest

from recsys_ae.datasets.bundle import Bundle, open_bundle
from recsys_ae.errors import DataError
from tests.archives import extracted, zipped

NAMES = ("ratings.csv", "movies.csv")
WHOLE = {"set/ratings.csv": b"one\n", "set/movies.csv": b"two\n", "set/README": b"three\n"}


def read(bundle: Bundle, name: str) -> bytes:
    with bundle.open(name) as stream:
        return stream.read()


def in_zip(tmp_path: Path, members: dict[str, bytes]) -> Path:
    path = tmp_path / "set.zip"
    path.write_bytes(zipped(members))
    return path


def test_zip_folder_inner_folder_and_single_file_give_the_same(tmp_path: Path) -> None:
    folder = extracted(WHOLE, tmp_path / "folder")
    for place in (in_zip(tmp_path, WHOLE), folder, folder / "set"):
        bundle = open_bundle(place, NAMES, 100)
        assert [read(bundle, name) for name in NAMES] == [b"one\n", b"two\n"]
        assert "README" not in bundle
    alone = open_bundle(folder / "set" / "ratings.csv", NAMES, 100)
    assert read(alone, "ratings.csv") == b"one\n"
    with pytest.raises(DataError, match=r"no movies\.csv; found ratings\.csv"), alone.open("movies.csv"):
        pass


@pytest.mark.parametrize("path", ["../ratings.csv", "/etc/ratings.csv", "set/../../x", "..\\x", "C:/x", "set\\x"])
def test_a_zip_with_a_path_that_leads_outside_is_not_used(tmp_path: Path, path: str) -> None:
    place = in_zip(tmp_path, {**WHOLE, path: b"evil"})
    with pytest.raises(DataError, match="leads outside; the zip is not used"):
        open_bundle(place, NAMES, 100)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set.zip"]


def test_a_zip_bomb_is_refused_before_it_is_read(tmp_path: Path) -> None:
    place = in_zip(tmp_path, {"set/ratings.csv": b"0" * 5_000_000})
    assert place.stat().st_size < 10_000
    with pytest.raises(DataError, match="unpacks to 5,000,000 bytes; expected at most 1,000,000"):
        open_bundle(place, NAMES, 1_000_000)


def test_a_zip_bomb_that_lies_of_its_size_is_cut_off(tmp_path: Path) -> None:
    place = in_zip(tmp_path, {"set/ratings.csv": b"0" * 5_000_000})
    data = bytearray(place.read_bytes())
    size, lie = struct.pack("<L", 5_000_000), struct.pack("<L", 1_000)
    assert data.count(size) == 2  # in the entry's own header and in the directory
    place.write_bytes(bytes(data).replace(size, lie))
    bundle = open_bundle(place, NAMES, 1_000_000)
    with pytest.raises(DataError, match=r"ratings\.csv: the zip is damaged"):
        read(bundle, "ratings.csv")


def test_a_damaged_zip_is_named(tmp_path: Path) -> None:
    place = in_zip(tmp_path, {"set/ratings.csv": b"".join(b"%d,7,3.5,1112486027\n" % i for i in range(2_000))})
    whole = place.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 0xFF
    place.write_bytes(flipped)
    with pytest.raises(DataError, match=r"set\.zip.*damaged"):
        read(open_bundle(place, NAMES, 100_000), "ratings.csv")
    place.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="is neither a zip nor"):
        open_bundle(place, NAMES, 100_000)


def test_an_encrypted_zip_is_named(tmp_path: Path) -> None:
    place = in_zip(tmp_path, WHOLE)
    data = bytearray(place.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + offset] |= 1
    place.write_bytes(data)
    assert zipfile.is_zipfile(place)
    with pytest.raises(DataError, match="cannot be read"):
        read(open_bundle(place, NAMES, 100), "ratings.csv")


def test_a_name_that_stands_twice_is_refused(tmp_path: Path) -> None:
    members = {**WHOLE, "other/ratings.csv": b"other"}
    for place in (in_zip(tmp_path, members), extracted(members, tmp_path / "folder")):
        with pytest.raises(DataError, match=r"ratings\.csv is there 2 times"):
            open_bundle(place, NAMES, 100)


def test_what_is_not_there_or_is_something_else_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist; expected a zip, a folder or a data file"):
        open_bundle(tmp_path / "none.zip", NAMES, 100)
    (tmp_path / "page.zip").write_text("<html></html>")
    with pytest.raises(DataError, match=r"neither a zip nor one of the set's files; .* ratings\.csv or movies\.csv"):
        open_bundle(tmp_path / "page.zip", NAMES, 100)
