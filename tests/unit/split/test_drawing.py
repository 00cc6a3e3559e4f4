import hashlib

import numpy as np
import pytest

from recsys_ae import Histories, IdMap
from recsys_ae.split.drawing import hashed_share, hashes, uniform
from tests.worlds import as_dataset, ragged


def by_hand(text: str) -> float:
    """An id's number as docs/splits.md states it."""
    return (int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 11) / 2**53


def test_a_number_is_that_of_the_documentation_and_never_changes() -> None:
    found = uniform(hashes(IdMap((1, -7, 2**62)), "mine"))
    assert found.tolist() == [by_hand(f"mine\0integer\0{i}") for i in (1, -7, 2**62)]
    assert uniform(hashes(IdMap(("1", "ä")), "mine")).tolist() == [by_hand(f"mine\0string\0{i}") for i in ("1", "ä")]
    assert uniform(hashes(IdMap((1,)), "mine"))[0] == 0.4825198727119381
    assert uniform(hashes(IdMap(()), "mine")).tolist() == []


def test_an_integer_and_its_digits_are_two_ids() -> None:
    assert hashes(IdMap((1,)), "a")[0] != hashes(IdMap(("1",)), "a")[0]


def test_numbers_are_spread_evenly_whatever_the_salt() -> None:
    ids = IdMap(tuple(range(20_000)))
    one, other = (uniform(hashes(ids, salt)) for salt in "ab")
    for found in (one, other):
        counts = np.histogram(found, 20, (0, 1))[0]
        assert ((counts - 1000) ** 2 / 950).sum() < 50  # chi squared of 19: 43.8 at 0.1 %
    assert abs(np.corrcoef(one, other)[0, 1]) < 4 / 20_000**0.5


def test_the_share_of_a_row_depends_on_user_item_and_salt_alone() -> None:
    data = as_dataset(ragged(0, 40, 50))
    target = hashed_share(data, 0.4, "a")
    assert 0.3 < target.mean() < 0.5
    order = np.random.default_rng(0).permutation(40)
    moved = data.with_rows(order)
    again = hashed_share(moved, 0.4, "a")
    drawn = dict(zip(zip(data.histories.rows, data.histories.items, strict=True), target, strict=True))
    expected = [drawn[order[row], item] for row, item in zip(moved.histories.rows, moved.histories.items, strict=True)]
    assert again.tolist() == expected
    assert (hashed_share(data, 0.4, "b") != target).any()


@pytest.mark.parametrize("axis", [0, 1])
def test_pairs_are_drawn_one_by_one(axis: int) -> None:
    """No user and no item is a target more often than others: the variance of the counts is the binomial one."""
    n = 300
    everything = Histories(np.arange(n + 1) * n, np.tile(np.arange(n), n), np.ones(n * n), n)
    counts = hashed_share(as_dataset(everything), 0.2, "a").reshape(n, n).sum(axis)
    assert counts.mean() == pytest.approx(0.2 * n, abs=4 * 0.16**0.5)
    assert counts.var() == pytest.approx(0.16 * n, rel=0.35)
