"""Intervals and tests of mean differences. In simulations each column is one data set: thousands are judged in one call."""

import itertools
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtr

from recsys_ae import significance
from recsys_ae.errors import DataError
from recsys_ae.evaluation import summarise
from recsys_ae.significance import holm, paired, paired_bootstrap, paired_by_group, paired_randomisation

SETS = 4_000  # simulated: what is found is within 0.7 % of what is true in 19 of 20 runs

Shape = tuple[int, int]


def zero_but_for(share: float, rng: np.random.Generator, values: np.ndarray) -> np.ndarray:
    return np.where(rng.random(values.shape) < share, values, 0.0)


def both_sides(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    return zero_but_for(0.5, rng, rng.beta(1, 3, shape) - rng.beta(1, 5, shape))


def symmetric(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    return zero_but_for(0.5, rng, rng.beta(1, 3, shape) - rng.beta(1, 3, shape))


def one_side(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    return zero_but_for(0.25, rng, rng.beta(0.7, 3, shape))


def few(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    return zero_but_for(0.1, rng, rng.beta(1, 2, shape))


def long_losses(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    return zero_but_for(0.4, rng, np.where(rng.random(shape) < 0.8, rng.beta(1, 6, shape), -rng.beta(1, 1.5, shape)))


def hit_or_miss(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    draws = rng.random(shape)
    return (draws < 0.15).astype(float) - (draws > 0.95)


def parts_of_one(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """A user's metric under one model, of which the other reaches a part: the two go together."""
    better = zero_but_for(0.6, rng, rng.beta(0.3, 1.2, shape) * rng.beta(5, 1, shape))
    return better - zero_but_for(0.7, rng, better * rng.beta(4, 1, shape))


# Differences by user: mostly 0, skewed, within -1 and 1; with their true mean.
DIFFERENCES: dict[Callable[[np.random.Generator, Shape], np.ndarray], float] = {
    both_sides: 0.5 * (1 / 4 - 1 / 6),
    symmetric: 0.0,
    one_side: 0.25 * 0.7 / 3.7,
    few: 0.1 / 3,
    long_losses: 0.4 * (0.8 / 7 - 0.2 * 0.4),
    hit_or_miss: 0.1,
    parts_of_one: 0.6 * 0.2 * (5 / 6) * (1 - 0.7 * 0.8),
}


def covered(intervals: np.ndarray, truth: float) -> float:
    return float(((intervals[:, 0] <= truth) & (truth <= intervals[:, 1])).mean())


@pytest.mark.parametrize("users", [60, 300])
@pytest.mark.parametrize("draw", DIFFERENCES, ids=lambda draw: draw.__name__)
def test_intervals_cover_the_true_difference(draw: Callable[[np.random.Generator, Shape], np.ndarray], users: int) -> None:
    differences = draw(np.random.default_rng(users), (users, SETS))
    assert 0.93 <= covered(paired_bootstrap(differences, 1_000, seed=0), DIFFERENCES[draw]) <= 0.97


def test_intervals_of_another_level() -> None:
    differences = both_sides(np.random.default_rng(1), (100, SETS))
    intervals = paired_bootstrap(differences, 1_000, seed=0, level=0.8)
    assert 0.77 <= covered(intervals, DIFFERENCES[both_sides]) <= 0.83


@pytest.mark.parametrize("users", [60, 300])
def test_intervals_cover_where_some_users_are_undefined(users: int) -> None:
    rng = np.random.default_rng(users)
    differences = both_sides(rng, (users, SETS // 2))
    differences[rng.random(differences.shape) < 0.3] = np.nan
    assert 0.93 <= covered(paired_bootstrap(differences, 1_000, seed=0), DIFFERENCES[both_sides]) <= 0.97


@pytest.mark.parametrize("one_model", [False, True])
def test_the_normal_interval_of_summarise_covers_with_300_users(one_model: bool) -> None:
    """Of one model's metric (0 for a third of the users), and of a difference of two models."""
    rng = np.random.default_rng(2)
    if one_model:
        values, truth = zero_but_for(2 / 3, rng, rng.beta(0.8, 2.4, (300, SETS))), 2 / 3 * 0.25
    else:
        values, truth = both_sides(rng, (300, SETS)), DIFFERENCES[both_sides]
    assert 0.93 <= covered(np.array([summarise(column).ci95 for column in values.T]), truth) <= 0.97


def test_the_interval_is_the_farther_end_of_students_t_and_scipys_bca() -> None:
    values = one_side(np.random.default_rng(3), (80, 1))[:, 0]
    n, t = len(values), stats.t.ppf(0.975, len(values) - 1)
    widened = 1 - 2 * ndtr(-t * np.sqrt(n / (n - 1)))  # Hesterberg 2015: the expanded percentile interval
    bca = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, confidence_level=widened, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    low, high = values.mean() - t * stats.sem(values), values.mean() + t * stats.sem(values)
    expected = (min(low, bca.low), max(high, bca.high))
    found = paired_bootstrap(values, 20_000, seed=0)[0]
    np.testing.assert_allclose(found, expected, atol=0.03 * (high - low))
    assert found[0] == pytest.approx(low) and found[1] > high + 0.05 * (high - low)  # each of the two has one end


@pytest.mark.parametrize("users", [60, 300])
def test_a_true_null_is_rejected_as_often_as_it_should_be(users: int) -> None:
    differences = symmetric(np.random.default_rng(users), (users, SETS))
    p = paired_randomisation(differences, 1_000, seed=0)
    for level in (0.05, 0.2):
        assert abs((p <= level).mean() - level) < 0.02
    assert p.min() >= 1 / 1_001


def test_a_null_of_equal_means_alone_is_rejected_as_often_as_it_should_be() -> None:
    """The test assumes that a user's two figures could change places; with 300 users equal means suffice."""
    differences = long_losses(np.random.default_rng(4), (300, SETS)) - DIFFERENCES[long_losses]
    assert 0.03 <= (paired_randomisation(differences, 1_000, seed=0) <= 0.05).mean() <= 0.07


def test_a_planted_difference_is_found() -> None:
    differences = both_sides(np.random.default_rng(5), (300, SETS))
    expected = 0.98  # the power of a t test: four standard errors
    assert (paired_randomisation(differences, 1_000, seed=0) <= 0.05).mean() > expected
    assert (paired_randomisation(-differences, 1_000, seed=0) <= 0.05).mean() > expected


def brute_force(values: np.ndarray) -> float:
    sums = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True))) for signs in itertools.product((-1, 1), repeat=len(values))
    ]
    return float(np.mean([s >= abs(sum(values)) - 1e-12 for s in sums]))


def test_few_users_are_enumerated() -> None:
    rng = np.random.default_rng(6)
    differences = np.round(rng.normal(0.3, 1, (8, 20)), 1)  # rounded: sums tie
    differences[rng.random(differences.shape) < 0.2] = 0.0
    differences[rng.random(differences.shape) < 0.2] = np.nan
    expected = [brute_force(column[~np.isnan(column)]) for column in differences.T]
    np.testing.assert_allclose(paired_randomisation(differences, 256, seed=0), expected, rtol=1e-12)


def test_enumeration_equals_scipy_and_many_random_signs_come_near() -> None:
    values = np.random.default_rng(7).normal(0.4, 1, 12)
    expected = stats.permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert paired_randomisation(values, 4_096, seed=0)[0] == pytest.approx(expected, rel=1e-12)
    more = np.concatenate([values, values[:4] / 3])
    expected = stats.permutation_test((more,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert paired_randomisation(more, 50_000, seed=0)[0] == pytest.approx(expected, abs=0.01)
    assert paired_randomisation(more, 2**16, seed=0)[0] == pytest.approx(expected, rel=1e-12)


def test_random_signs_count_ties_as_extreme() -> None:
    """Twenty users, one hit more: half of all sums are as far from 0, though float32 sums of thirds are not exact."""
    values = np.array([1 / 3] * 11 + [-1 / 3] * 9)
    assert paired_randomisation(values, 20_000, seed=0)[0] == pytest.approx(1 - stats.binom.pmf(10, 20, 0.5), abs=0.01)


def test_many_users_in_several_blocks_come_near_the_normal_law() -> None:
    differences = symmetric(np.random.default_rng(8), (3 * significance.BLOCK_USERS + 17, 4)) + 0.002
    found = paired(differences, seed=0)
    mean, se = differences.mean(0), stats.sem(differences)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-12)
    np.testing.assert_allclose((found.interval - mean[:, None]) / se[:, None], np.tile([-1.96, 1.96], (4, 1)), atol=0.2)
    np.testing.assert_allclose(found.p, stats.ttest_1samp(differences, 0).pvalue, atol=0.02)
    assert (found.users == len(differences)).all()


def test_the_seed_decides_and_the_global_generator_is_left_alone() -> None:
    differences = both_sides(np.random.default_rng(9), (200, 3))
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    first, again, other = (paired(differences, seed=seed) for seed in (1, 1, 2))
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002
    for name in ("interval", "p"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
        assert (getattr(first, name) != getattr(other, name)).any()


def test_columns_are_judged_alike_alone_and_together() -> None:
    differences = both_sides(np.random.default_rng(10), (100, 3))
    together = paired(differences, seed=0)
    for column in range(3):
        alone = paired(differences[:, column], seed=0)
        np.testing.assert_allclose(alone.interval[0], together.interval[column], atol=1e-6)
        assert alone.p[0] == together.p[column]


def test_how_much_is_done_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    differences = both_sides(np.random.default_rng(11), (2 * significance.BLOCK_USERS + 100, 2))
    expected = paired(differences, seed=0, bootstrap_resamples=300, randomisation_resamples=300)
    monkeypatch.setattr(significance, "BLOCK_BYTES", 7 * 4 * significance.BLOCK_USERS)
    found = paired(differences, seed=0, bootstrap_resamples=300, randomisation_resamples=300)
    np.testing.assert_allclose(found.interval, expected.interval, atol=1e-7)
    np.testing.assert_array_equal(found.p, expected.p)


def test_memory_does_not_grow_with_resamples_times_users() -> None:
    differences = symmetric(np.random.default_rng(12), (100_000, 2))
    tracemalloc.start()
    paired(differences, seed=0, bootstrap_resamples=200, randomisation_resamples=1_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * significance.BLOCK_BYTES  # all signs at once, a byte each, would be 100 MB


def test_identical_models() -> None:
    for dtype in (np.float32, np.float64):
        found = paired(np.zeros((50, 2), dtype), seed=0)
        np.testing.assert_array_equal(found.interval, np.zeros((2, 2)))
        np.testing.assert_array_equal(found.p, [1, 1])
        np.testing.assert_array_equal(found.mean, [0, 0])


def test_users_all_alike_have_an_interval_without_width() -> None:
    np.testing.assert_array_equal(paired_bootstrap(np.full(30, 0.1), seed=0)[0], np.full(30, 0.1).mean())


def test_a_single_user_has_no_interval_and_proves_nothing() -> None:
    found = paired(np.array([[0.3, np.nan]]), seed=0)
    np.testing.assert_array_equal(found.mean, [0.3, np.nan])
    assert np.isnan(found.interval).all() and found.interval.shape == (2, 2)
    np.testing.assert_array_equal(found.p, [1, np.nan])
    np.testing.assert_array_equal(found.users, [1, 0])


def test_no_users() -> None:
    found = paired(np.empty((0, 2)), seed=0)
    assert np.isnan(found.mean).all() and np.isnan(found.interval).all() and np.isnan(found.p).all()
    np.testing.assert_array_equal(found.users, [0, 0])


def test_undefined_users_are_left_out_of_their_column() -> None:
    differences = both_sides(np.random.default_rng(13), (400, 3))
    holes = differences.copy()
    holes[::4, 1] = np.nan
    holes[1:, 2] = np.nan
    found, known = paired(holes, seed=0), np.delete(differences[:, 1], np.s_[::4])
    np.testing.assert_array_equal(found.users, [400, 300, 1])
    expected = paired(known, seed=0)
    assert found.mean[1] == pytest.approx(known.mean(), rel=1e-12)
    np.testing.assert_allclose(found.interval[1], expected.interval[0], atol=0.1 * np.ptp(expected.interval))
    assert found.p[1] == pytest.approx(expected.p[0], abs=0.02)
    np.testing.assert_allclose(found.interval[0], paired(differences[:, 0], seed=0).interval[0], atol=1e-6)
    assert np.isnan(found.interval[2]).all()


def test_groups_are_judged_as_if_alone() -> None:
    rng = np.random.default_rng(14)
    differences, labels = both_sides(rng, (500, 2)), rng.integers(-1, 3, 500)
    differences[::7, 1] = np.nan
    found = paired_by_group(differences, labels, 4, seed=3)
    assert found.interval.shape == (4, 2, 2)
    for group in range(4):
        for whole, alone in zip(found, paired(differences[labels == group], seed=3), strict=True):
            np.testing.assert_array_equal(whole[group], alone)
    assert (found.users[3] == 0).all() and found.users[:, 0].sum() == (labels >= 0).sum()


@pytest.mark.parametrize("labels", [np.zeros(4, np.int64), np.array([0, 1, 2]), np.array([-2, 0, 0])])
def test_labels_that_do_not_fit(labels: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"labels .* do not fit; expected \(3,\) from -1 to 1"):
        paired_by_group(np.zeros((3, 1)), labels, 2, seed=0)


def test_infinite_differences_and_other_shapes_are_refused() -> None:
    for judge in (paired_bootstrap, paired_randomisation):
        with pytest.raises(DataError, match="infinite"):
            judge(np.array([0.0, np.inf, -np.inf]), seed=0)
        with pytest.raises(DataError, match=r"shape \(1, 2, 3\)"):
            judge(np.zeros((1, 2, 3)), seed=0)


def slow_holm(p: list[float]) -> list[float]:
    """From the definition: H(i) holds at alpha unless all of the smaller ones are rejected too."""
    ranked = sorted(p)
    return [min(1.0, max((len(p) - i) * q for i, q in enumerate(ranked) if q <= value)) for value in p]


def test_holm_equals_its_definition() -> None:
    rng = np.random.default_rng(15)
    for size in range(1, 12):
        p = rng.random(size) ** 3
        np.testing.assert_allclose(holm(p), slow_holm(p.tolist()), rtol=1e-12)
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])


def test_holm_with_undefined_and_no_values() -> None:
    np.testing.assert_allclose(holm(np.array([0.02, np.nan, 0.03])), [0.04, np.nan, 0.04])
    np.testing.assert_array_equal(holm(np.array([np.nan])), [np.nan])
    assert holm(np.empty(0)).shape == (0,)


def test_holm_keeps_the_familywise_error() -> None:
    """Six models alike, each against the same best: differences that share one model go together."""
    rng = np.random.default_rng(16)
    families, models = 400, 6
    scores = zero_but_for(0.5, rng, rng.beta(1, 3, (80, families * (models + 1)))).reshape(80, families, models + 1)
    p = paired_randomisation((scores[..., :1] - scores[..., 1:]).reshape(80, -1), 1_000, seed=0).reshape(families, models)
    uniform = rng.random((2_000, models))
    for values in (p, uniform):
        error = np.mean([holm(family).min() <= 0.05 for family in values])
        assert error <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / len(values))
    assert np.mean([family.min() <= 0.05 for family in uniform]) > 0.2  # what it is for
