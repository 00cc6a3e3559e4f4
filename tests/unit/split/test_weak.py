from pathlib import Path

import numpy as np
import pytest

from recsys_ae import Dataset, Histories, IdMap, given, leave_last_out, read_log
from recsys_ae.errors import DataError
from tests.worlds import as_dataset, pairs

# --- given ---------------------------------------------------------------------------------------------------------------


def test_given_folds_in_the_train_row_and_asks_for_the_test_row() -> None:
    train = as_dataset(Histories.from_rows([[0, 1, 2, 3], [1, 2, 4], [0]], 5))
    test = Dataset(IdMap((101, 100, 999)), IdMap((1003, 1001, 7777)), Histories.from_rows([[0, 1, 2], [0], [0]], 3))
    split = given(train, test, seed=0)
    assert split.test.users.ids == (101,)  # 100's one test pair stands in train; 999 is unknown
    assert split.test.fold_in.row(0).tolist() == [1, 2, 4]
    assert split.test.held_out.row(0).tolist() == [3]  # 1001 stands in train, 7777 is unknown
    assert split.dropped == {"test_users_unknown": 1, "test_users_without_target": 1, "test_pairs_unknown_or_repeated": 4}
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


# --- leave last out ------------------------------------------------------------------------------------------------------


def test_the_last_is_the_test_target_and_the_one_before_it_the_validation_target() -> None:
    split = leave_last_out(as_dataset(Histories.from_rows([[3, 0, 1, 2], [1, 2, 0], [0, 1, 2, 3]], 4)))
    items, users = split.train.items, split.train.users
    assert pairs(split.train.histories, users, items) == {(100, 1003), (100, 1000), (101, 1001), (102, 1000), (102, 1001)}
    # nobody's training row holds item 2
    assert split.dropped == {
        "items_unseen_in_training": 1,
        "users_with_fewer_than_3_interactions": 0,
        "validation_users_without_target": 2,
        "test_users_without_target": 1,
    }
    validation, test = split.validation, split.test
    assert pairs(validation.fold_in, validation.users, items) == {(100, 1003), (100, 1000)}
    assert pairs(validation.held_out, validation.users, items) == {(100, 1001)}
    assert pairs(test.fold_in, test.users, items) == {(101, 1001), (102, 1000), (102, 1001)}
    assert pairs(test.held_out, test.users, items) == {(101, 1000), (102, 1003)}


def test_the_validation_target_is_folded_in_at_the_test() -> None:
    rows = [[0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2], [2, 3, 0, 1]]
    split = leave_last_out(as_dataset(Histories.from_rows(rows, 4)))
    assert [split.test.fold_in.row(u).tolist() for u in range(4)] == [row[:3] for row in rows]
    assert [split.validation.fold_in.row(u).tolist() for u in range(4)] == [row[:2] for row in rows]
    assert not split.judged_after_refit
    assert split.refit.histories.n_interactions == 16


def test_users_with_fewer_than_three_interactions_train_and_are_not_judged() -> None:
    rows = [[0, 1], [2], [], [0, 1, 2]]
    split = leave_last_out(as_dataset(Histories.from_rows(rows, 3)))
    assert split.dropped["users_with_fewer_than_3_interactions"] == 3
    assert [split.train.histories.row(u).tolist() for u in range(4)] == [[0, 1], [2], [], [0]]
    assert split.validation.users.ids == split.test.users.ids == (103,)


def test_a_target_that_only_repeats_is_dropped_and_counted() -> None:
    split = leave_last_out(as_dataset(Histories.from_rows([[0, 1, 0], [0, 2, 1], [1, 0, 2], [2]], 3)))
    assert split.test.users.ids == (101, 102)
    assert split.dropped["test_users_without_target"] == 1


def test_nobody_to_judge_is_an_error() -> None:
    with pytest.raises(DataError, match="no user has a validation target: 0 of 2 users have three interactions or more"):
        leave_last_out(as_dataset(Histories.from_rows([[0, 1], [1]], 2)))


@pytest.mark.parametrize("timestamps", [True, False])
def test_without_times_the_order_of_the_log_counts(tmp_path: Path, timestamps: bool) -> None:
    """Rows of users are shuffled into each other; where there are times, these run against the order of the file."""
    rng = np.random.default_rng(0)
    found = {user: rng.permutation(8).tolist() for user in range(30)}
    order = rng.permutation(np.repeat(np.arange(30), 8)).tolist()
    left = {user: iter(items) for user, items in found.items()}
    lines = [f"{user},{next(left[user])},{1_600_000_000 - place}" for place, user in enumerate(order)]
    if not timestamps:
        lines = [line.rpartition(",")[0] for line in lines]
    (tmp_path / "log.csv").write_text("\n".join(["user_id,item_id,timestamp" if timestamps else "user_id,item_id", *lines]))
    split = leave_last_out(Dataset.from_log(read_log(str(tmp_path / "log.csv"))))
    for user, items in found.items():
        ordered = items[::-1] if timestamps else items
        assert split.test.held_out.row(user).tolist() == [ordered[-1]]
        assert split.validation.held_out.row(user).tolist() == [ordered[-2]]
