import numpy as np
import pytest

from recsys_ae import IdMap
from recsys_ae.errors import DataError, UnknownIdError


def test_positions_and_ids_are_each_others_inverse() -> None:
    ids = IdMap(("b", "a", "é"))
    assert [ids.position(i) for i in ids.ids] == [0, 1, 2]
    assert ids.at([2, 0]) == ["é", "b"]
    assert ids.take(np.array([2, 0])) == IdMap(("é", "b"))
    assert ids.positions(["a", "nobody", "b"]).tolist() == [1, -1, 0]
    assert "a" in ids
    assert "nobody" not in ids


def test_an_unknown_id_is_named() -> None:
    with pytest.raises(UnknownIdError, match=r"'z' is unknown.*2 string ids"):
        IdMap(("a", "b")).position("z")


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ((1, "1"), "int, str"),
        ((1, 2, 1), "id 1 stands twice"),
        ((1.0, 2.0), "float"),
        ((True, False), "bool"),
        ((None,), "NoneType"),
        ((2**63,), f"{2**63} does not fit 64 bits"),
        ((-(2**63) - 1, 1), f"{-(2**63) - 1} does not fit 64 bits"),
    ],
)
def test_ids_that_are_no_ids_are_refused(ids: tuple[int, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        IdMap(ids)


def test_the_ends_of_64_bits_are_ids() -> None:
    assert IdMap((-(2**63), 2**63 - 1)).kind == "integer"


@pytest.mark.parametrize("given", [np.array([3, 1]), [np.int64(3), np.int64(1)], iter([3, 1])])
def test_of_makes_plain_python_ids(given: object) -> None:
    ids = IdMap.of(given)  # type: ignore[arg-type]
    assert ids.ids == (3, 1)
    assert {type(i) for i in ids.ids} == {int}


def test_an_empty_map_counts_as_integer() -> None:
    assert IdMap(()).kind == "integer"
    assert len(IdMap.from_arrays(IdMap(()).arrays())) == 0


@pytest.mark.parametrize(("text", "expected"), [("42", 42), ("-7", -7), ("a", "a"), ("4.0", "4.0"), ("٤", "٤"), (5, 5)])
def test_parse_reads_digits_where_ids_are_integers(text: str, expected: object) -> None:
    assert IdMap((42, -7)).parse(text) == expected
    assert IdMap(("42",)).parse(text) == text


def test_digest_follows_kind_order_and_content() -> None:
    same = IdMap((1, 2)).digest
    assert same == IdMap.of(np.array([1, 2])).digest
    assert same.startswith("sha256:")
    others = [IdMap((2, 1)), IdMap((1,)), IdMap(("1", "2")), IdMap(("12",)), IdMap(("1", "2", ""))]
    assert len({same, *(i.digest for i in others)}) == 6
