"""Shares with users as clusters: by hand, against Wilson's interval, and by how often intervals hold the truth."""

import numpy as np
import pytest
from scipy import stats

from recsys_ae.errors import DataError
from recsys_ae.shares import Products, Sums, ratio, ratio_difference, ratio_of_sums

SETS = 4_000  # simulated: what is found is within 0.7 % of what is true in 19 of 20 runs


def covered(intervals: np.ndarray, truth: float) -> float:
    return float(((intervals[:, 0] <= truth) & (truth <= intervals[:, 1])).mean())


def sums(hits: np.ndarray, counts: np.ndarray) -> Sums:
    there = counts > 0
    h, c = hits[there].astype(float), counts[there].astype(float)
    return Sums(len(c), h.sum(), c.sum(), h @ h, h @ c, c @ c)


def test_ratio_by_hand() -> None:
    found = ratio(np.array([1, 0, 2, 0]), np.array([2, 3, 5, 0]))
    residuals = np.array([1, 0, 2]) - 0.3 * np.array([2, 3, 5])
    assert found.mean == pytest.approx(0.3)
    assert found.se == pytest.approx(np.sqrt(3 / 2 * (residuals**2).sum()) / 10)
    assert found.users == 3


def test_ratio_of_one_thing_a_user_is_wilsons_interval() -> None:
    hits = np.repeat([1, 0], [30, 1_970])
    expected = stats.binomtest(30, 2_000).proportion_ci(method="wilson")
    np.testing.assert_allclose(ratio(hits, np.ones(2_000)).interval, expected, rtol=2e-3)


@pytest.mark.parametrize("users", [60, 300])
@pytest.mark.parametrize("share", [0.3, 0.1])
def test_ratio_covers(users: int, share: float) -> None:
    """Users differ in taste and in how much they have; those with more are hit less."""
    rng = np.random.default_rng(users)
    shape = (SETS, users)
    counts = np.minimum(rng.geometric(0.25, shape), 30)
    hits = rng.binomial(counts, rng.beta(2 * share, 2 * (1 - share), shape) * counts**-0.15)
    chance, n = stats.geom.pmf(np.arange(1, 31), 0.25), np.arange(1, 31)
    chance[-1] += stats.geom.sf(30, 0.25)
    truth = share * (chance * n**0.85).sum() / (chance * n).sum()
    assert 0.93 <= covered(np.array([ratio(h, c).interval for h, c in zip(hits, counts, strict=True)]), truth) <= 0.97


def test_ratio_of_nothing_and_of_everything() -> None:
    none, every = (ratio(np.full(40, hits), np.full(40, 3)) for hits in (0, 3))
    assert none.mean == 0 and every.mean == 1 and none.se == every.se == 0
    assert none.interval[0] == 0 and 0.05 < none.interval[1] < 0.12
    np.testing.assert_allclose(every.interval, [1 - none.interval[1], 1])


def test_ratio_of_a_single_user_and_of_none() -> None:
    assert ratio(np.array([1, 0]), np.array([4, 0])) == (0.25, None, None, 1)
    with pytest.raises(DataError, match="nothing counted"):
        ratio(np.zeros(2), np.zeros(2))


def test_ratio_of_users_who_are_all_alike_has_no_spread() -> None:
    """A third each, which no float is: what rounding leaves is no spread, and the interval counts users, not things."""
    found = ratio(np.full(40, 1), np.full(40, 3))
    assert found.se == 0 and found.interval[0] < 0.22 and found.interval[1] > 0.46


def test_difference_of_single_things_is_newcombes_interval() -> None:
    """His example (a) of 1998: 56 of 70 less 48 of 80, method 10."""
    a, b = (sums(np.repeat([1, 0], [k, n - k]), np.ones(n)) for k, n in ((56, 70), (48, 80)))
    found = ratio_difference(a, b)
    assert found.mean == pytest.approx(0.2)
    np.testing.assert_allclose(found.interval, (0.0524, 0.3339), atol=0.004)  # his has the normal's quantile, not t's


def test_difference_from_itself_is_zero() -> None:
    """The same users with the same things on both sides: the shares move together, and nothing is left to chance."""
    rng = np.random.default_rng(4)
    counts = rng.integers(1, 9, 200)
    h, c = rng.binomial(counts, 0.2).astype(float), counts.astype(float)
    one = sums(h, c)
    found = ratio_difference(one, one, Products(h @ h, h @ c, c @ h, c @ c))
    assert found.mean == 0 and np.abs(found.interval).max() < 0.01 < np.abs(ratio_difference(one, one).interval).max()


@pytest.mark.parametrize("shared", [0.0, 0.8])
def test_difference_covers(shared: float) -> None:
    """Users of two arms, of whom a share is in both with one taste; who has a taste is hit more, on either side."""
    rng, n = np.random.default_rng(5), 200
    intervals, widths = [], []
    for _ in range(1_500):
        in_a, in_b = np.arange(n) < 120, np.arange(n) >= 120 - int(120 * shared)
        taste = rng.beta(0.6, 2.4, n)
        counts = np.stack([np.where(in_a, rng.geometric(0.3, n), 0), np.where(in_b, rng.geometric(0.3, n), 0)])
        hits = rng.binomial(counts, np.stack([taste, 0.7 * taste]))
        (ha, hb), (ca, cb) = hits.astype(float), counts.astype(float)
        a, b = sums(ha, ca), sums(hb, cb)
        intervals.append(ratio_difference(a, b, Products(ha @ hb, ha @ cb, ca @ hb, ca @ cb)).interval)
        widths.append(np.diff(intervals[-1])[0] / np.diff(ratio_difference(a, b).interval)[0])
    assert 0.93 <= covered(np.array(intervals), 0.06) <= 0.97
    assert np.mean(widths) == pytest.approx(1) if not shared else np.mean(widths) < 0.93


def test_difference_of_a_single_user_has_no_interval() -> None:
    one, many = sums(np.array([1]), np.array([4])), sums(np.array([1, 0, 1]), np.array([2, 2, 2]))
    assert ratio_difference(one, many) == (pytest.approx(0.25 - 1 / 3), None)
    with pytest.raises(DataError, match="nothing counted"):
        ratio_of_sums(Sums(0, 0, 0, 0, 0, 0))
