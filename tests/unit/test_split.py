import numpy as np
import pytest

from recsys_ae import Dataset, Histories, IdMap, by_time, given, strong_generalization
from recsys_ae.errors import DataError
from tests.worlds import as_dataset, pairs, tastes

DATA = as_dataset(tastes(120))


# --- strong generalization -----------------------------------------------------------------------------------------------


def test_held_out_users_are_unknown_to_training() -> None:
    split = strong_generalization(DATA, seed=0, validation_users=20, test_users=0.25)
    sides = [set(split.train.users.ids), set(split.validation.users.ids), set(split.test.users.ids)]
    assert [len(s) for s in sides] == [70, 20, 30]
    assert set.union(*sides) == set(DATA.users.ids)
    assert sum(map(len, sides)) == 120


def test_a_fifth_of_each_held_out_history_is_the_target() -> None:
    data = as_dataset(Histories.from_rows([list(range(10))] * 9 + [list(range(3))] * 9, 10))
    split = strong_generalization(data, seed=1, validation_users=4, test_users=4, held_out_fraction=0.2)
    for holdout in (split.validation, split.test):
        lengths = set(zip(holdout.fold_in.lengths.tolist(), holdout.held_out.lengths.tolist(), strict=True))
        assert lengths <= {(8, 2), (2, 1)}  # rounded down, at least one


def test_held_out_rows_are_the_users_own() -> None:
    split = strong_generalization(DATA, seed=0)
    everything = pairs(DATA.histories, DATA.users, DATA.items)
    for holdout in (split.validation, split.test):
        found = [pairs(h, holdout.users, split.train.items) for h in (holdout.fold_in, holdout.held_out)]
        assert found[0] | found[1] <= everything


def test_the_target_is_random_not_the_last_part() -> None:
    data = as_dataset(Histories.from_rows([list(range(10))] * 40, 10))
    held_out = strong_generalization(data, seed=0, test_users=20, validation_users=0).test.held_out
    assert len(np.unique(held_out.items)) > 5


def test_items_unseen_in_training_are_dropped_and_counted() -> None:
    rows = [[0, 1]] * 10 + [[0, 1, 2]]  # item 2 belongs to one user alone; item 3 to none
    data = as_dataset(Histories.from_rows(rows, 4))
    for seed in range(20):
        split = strong_generalization(data, seed=seed, validation_users=3, test_users=3)
        known = split.train.items.ids
        assert known == ((1000, 1001, 1002) if 110 in split.train.users.ids else (1000, 1001))
        assert split.dropped["items_unseen_in_training"] == 4 - len(known)
        assert split.refit is data


def test_a_held_out_user_without_known_items_is_dropped_and_counted() -> None:
    rows = [[0, 1]] * 3 + [[2, 3]]
    found = [
        strong_generalization(as_dataset(Histories.from_rows(rows, 4)), seed=s, validation_users=1, test_users=1)
        for s in range(20)
    ]
    counts = {s.dropped["held_out_users_without_target"] for s in found}
    assert counts == {0, 1}
    for split in found:
        assert len(split.validation) + len(split.test) == 2 - split.dropped["held_out_users_without_target"]


def test_users_of_one_interaction_stay_in_training() -> None:
    data = as_dataset(Histories.from_rows([[0]] * 5 + [[0, 1]] * 5, 2))
    split = strong_generalization(data, seed=0, validation_users=2, test_users=2)
    assert set(range(100, 105)) <= set(split.train.users.ids)


def test_fractions_of_many_users_are_capped_at_10_000() -> None:
    data = as_dataset(Histories.from_rows([[0, 1]] * 120_000, 2))
    split = strong_generalization(data, seed=0)
    assert (len(split.validation), len(split.test)) == (10_000, 10_000)


def test_too_few_users_are_an_error_that_counts_them() -> None:
    data = as_dataset(Histories.from_rows([[0, 1], [0, 1], [0]], 2))
    with pytest.raises(DataError, match="2 validation and 1 test users of 3 users, of whom 2 have two"):
        strong_generalization(data, seed=0, validation_users=2, test_users=1)


# --- by time -------------------------------------------------------------------------------------------------------------


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


# --- given ---------------------------------------------------------------------------------------------------------------


def test_given_folds_in_the_train_row_and_asks_for_the_test_row() -> None:
    train = as_dataset(Histories.from_rows([[0, 1, 2, 3], [1, 2, 4], [0]], 5))
    test = Dataset(IdMap((101, 100, 999)), IdMap((1003, 1001, 7777)), Histories.from_rows([[0, 1, 2], [0], [0]], 3))
    split = given(train, test, seed=0)
    assert split.test.users.ids == (101,)  # 100's one test pair stands in train; 999 is unknown
    assert split.test.fold_in.row(0).tolist() == [1, 2, 4]
    assert split.test.held_out.row(0).tolist() == [3]  # 1001 stands in train, 7777 is unknown
    assert split.dropped == {"test_users_unknown": 1, "test_pairs_unknown_or_repeated": 4}
    assert split.judged_after_refit
    assert split.refit is train


def test_given_validates_on_a_random_tenth_of_each_train_row() -> None:
    train = as_dataset(Histories.from_rows([list(range(20))] * 30, 25))
    test = Dataset(train.users, train.items, Histories.from_rows([[24]] * 30, 25))
    split = given(train, test, seed=0)
    assert set(split.validation.held_out.lengths.tolist()) == {2}
    assert split.train.histories.n_interactions == 30 * 18
    assert len(np.unique(split.validation.held_out.items)) > 10


def test_given_without_refit_judges_the_model_of_the_reduced_rows() -> None:
    train = as_dataset(Histories.from_rows([[0, 1]], 3))
    test = Dataset(train.users, train.items, Histories.from_rows([[2]], 3))
    assert not given(train, test, seed=0, refit=False).judged_after_refit


def test_given_of_strangers_is_an_error() -> None:
    train = as_dataset(Histories.from_rows([[0, 1]], 2))
    with pytest.raises(DataError, match="no test user has an item"):
        given(train, Dataset(IdMap((5,)), IdMap((6,)), Histories.from_rows([[0]], 1)), seed=0)
