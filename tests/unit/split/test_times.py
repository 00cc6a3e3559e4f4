import numpy as np
import pytest

from recsys_ae import Dataset, Histories, Split, by_time, by_time_windows
from recsys_ae.errors import DataError
from tests.worlds import as_dataset, pairs, tastes

DATA = as_dataset(tastes(120))


def timed() -> Dataset:
    """Three users; items 2, 3 and 4 are unknown before time 20."""
    rows, times = [[0, 1, 3], [1, 0, 4], [1, 3, 0]], [[5, 12, 25], [8, 22, 40], [9, 22, 33]]
    return as_dataset(Histories.from_rows(rows, 5, times=times))


def test_one_point_in_time_divides_the_sides() -> None:
    split = by_time(timed(), validation_from=20, test_from=30)
    known = split.train.items
    assert known.ids == (1000, 1001)
    assert pairs(split.train.histories, split.train.users, known) == {
        (100, 1000), (100, 1001), (101, 1001), (102, 1001),
    }  # fmt: skip
    assert split.validation.users.ids == (101,)
    assert split.test.users.ids == (102,)
    assert split.dropped["items_unseen_in_training"] == 3


def test_fold_in_and_target_of_each_window() -> None:
    rows = [[0, 1, 2], [2, 1, 0], [0, 1, 2]]
    times = [[1, 21, 31], [2, 22, 32], [3, 4, 5]]
    split = by_time(as_dataset(Histories.from_rows(rows, 3, times=times)), validation_from=20, test_from=30)
    for holdout, fold_in, held_out in (
        (split.validation, {(100, 1000), (101, 1002)}, {(100, 1001), (101, 1001)}),
        (split.test, {(100, 1000), (100, 1001), (101, 1002), (101, 1001)}, {(100, 1002), (101, 1000)}),
    ):
        assert pairs(holdout.fold_in, holdout.users, split.train.items) == fold_in
        assert pairs(holdout.held_out, holdout.users, split.train.items) == held_out


def test_users_without_history_are_dropped_and_counted() -> None:
    rows, times = [[0, 1, 2], [1, 0], [0, 1, 2]], [[1, 21, 31], [22, 33], [2, 3, 4]]
    split = by_time(as_dataset(Histories.from_rows(rows, 3, times=times)), validation_from=20, test_from=30)
    assert split.validation.users.ids == (100,)
    assert split.dropped["validation_users_without_history"] == 1
    assert split.dropped["test_users_without_history"] == 0
    assert split.test.users.ids == (100, 101)  # 101 acted before test_from


def test_fractions_are_quantiles_of_all_interactions() -> None:
    split = by_time(DATA, validation_fraction=0.2, test_fraction=0.3)
    times = DATA.histories.times
    assert times is not None
    assert split.train.histories.n_interactions == pytest.approx(0.5 * len(times), abs=2)


def test_by_time_says_what_it_lacks() -> None:
    with pytest.raises(DataError, match="needs times"):
        by_time(as_dataset(Histories.from_rows([[0, 1]], 2)))
    with pytest.raises(DataError, match="validation_from 30 is not before test_from 20"):
        by_time(timed(), validation_from=30, test_from=20)
    with pytest.raises(DataError, match="older than validation_from 1; the first is at 5"):
        by_time(timed(), validation_from=1, test_from=20)
    with pytest.raises(DataError, match="within the test window"):
        by_time(as_dataset(Histories.from_rows([[0, 1], [1, 0]], 2, times=[[1, 6], [2, 7]])), validation_from=5, test_from=9)


def test_by_time_of_a_data_set_without_interactions_says_so() -> None:
    data = as_dataset(Histories.from_rows([[], []], 3, times=[[], []]))
    for times in ({"validation_from": 1, "test_from": 2}, {}):
        with pytest.raises(DataError, match="no interaction"):
            by_time(data, **times)


def test_users_who_only_repeat_themselves_are_dropped_and_counted() -> None:
    rows, times = [[0, 0, 1], [1, 5], [0, 1]], [[1, 21, 31], [2, 22], [3, 4]]
    data = as_dataset(Histories.from_rows([*rows, [1, 0]], 6, times=[*times, [5, 25]]))
    split = by_time(data, validation_from=20, test_from=30)
    assert split.validation.users.ids == (103,)
    assert split.dropped["validation_users_without_target"] == 2  # 100 meets 0 again, 101 an item that nobody had met


# --- windows -------------------------------------------------------------------------------------------------------------


def test_one_window_is_by_time() -> None:
    (only,) = by_time_windows(DATA, windows=1)
    assert only.window == by_time(DATA).window
    assert only.train.digest == by_time(DATA).train.digest


def in_test(split: Split) -> int:
    """Interactions of the whole log within a window's test part."""
    times, window = DATA.histories.times, split.window
    assert times is not None and window is not None
    return int(((times >= window.test_from) & (times < window.test_until)).sum())


def test_windows_of_fractions_have_as_many_interactions_each() -> None:
    splits = by_time_windows(DATA, windows=4, test_fraction=0.4)
    counts = [in_test(split) for split in splits]
    assert sum(counts) == pytest.approx(0.4 * DATA.histories.n_interactions, abs=1)
    assert max(counts) - min(counts) <= 1
    windows = [split.window for split in splits]
    assert all(one and other and one.test_until == other.test_from for one, other in zip(windows, windows[1:], strict=False))
    trained = [split.train.histories.n_interactions for split in splits]
    assert np.diff(trained).tolist() == pytest.approx(counts[:-1], abs=2)  # what was judged trains the next but one part


def test_windows_from_a_time_have_equal_spans() -> None:
    rows = [[0, 1, 2, 3, 4], [1, 2, 3, 4, 0], [4, 3, 2, 1, 0], [0, 1, 2, 3, 4]]
    times = [[1, 3, 30, 40, 50], [2, 4, 31, 41, 51], [5, 22, 32, 42, 59], [6, 7, 8, 9, 10]]
    data = as_dataset(Histories.from_rows(rows, 5, times=times))
    splits = by_time_windows(data, windows=3, validation_from=20, test_from=30)
    found = [(s.window.validation_from, s.window.test_from, s.window.test_until) for s in splits if s.window]
    assert found == [(20, 30, 40), (30, 40, 50), (40, 50, 60)]
    last = splits[-1]
    assert pairs(last.test.held_out, last.test.users, last.train.items) == {(100, 1004), (101, 1000), (102, 1000)}


def test_windows_say_what_they_lack() -> None:
    with pytest.raises(DataError, match="0 windows; expected at least 1"):
        by_time_windows(DATA, windows=0)
    with pytest.raises(DataError, match="needs times"):
        by_time_windows(as_dataset(Histories.from_rows([[0, 1]], 2)), windows=2)
    with pytest.raises(DataError, match="9 windows from 7 to 11 leave one of them empty"):
        by_time_windows(
            as_dataset(Histories.from_rows([[0, 1]], 2, times=[[1, 10]])), windows=9, validation_from=5, test_from=7
        )
    rows, times = [[0, 1, 2], [1, 2, 0], [2, 0, 1]], [[1, 21, 31], [2, 22, 32], [3, 23, 33]]
    with pytest.raises(DataError, match="window 2 of 2: no user has a history before and a new item within the validation"):
        by_time_windows(
            as_dataset(Histories.from_rows([*rows, [3]], 4, times=[*times, [59]])), windows=2, validation_from=20, test_from=30
        )
