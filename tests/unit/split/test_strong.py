import numpy as np
import pytest

from recsys_ae import Histories, strong_generalization
from recsys_ae.errors import DataError
from tests.worlds import as_dataset, pairs, tastes

DATA = as_dataset(tastes(120))


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


# --- by hash -------------------------------------------------------------------------------------------------------------

MANY = as_dataset(Histories.from_rows([[i % 30, (i + 7) % 30, (i * 3 + 1) % 30][: 1 + i % 3] for i in range(3000)], 30))


def test_by_hash_the_fractions_are_about_kept() -> None:
    split = strong_generalization(MANY, seed=0, validation_users=0.1, test_users=0.2, held_out_fraction=0.5, salt="a")
    held_out = len(MANY.users) - len(split.train.users)
    assert held_out == pytest.approx(900, abs=4 * (3000 * 0.3 * 0.7) ** 0.5)
    assert len(split.test) == pytest.approx(2 * len(split.validation), rel=0.3)
    rows = as_dataset(Histories.from_rows([list(range(200))] * 300, 200))
    target = strong_generalization(rows, seed=0, held_out_fraction=0.2, salt="a").test.held_out
    assert target.lengths.mean() == pytest.approx(40, abs=4 * (200 * 0.2 * 0.8 / len(target)) ** 0.5)
    assert len(np.unique(target.items)) == 200  # users hold out different items


def test_by_hash_the_seed_is_nothing_and_the_salt_all() -> None:
    one, same, other = (
        strong_generalization(MANY, seed=seed, salt=salt).test.users.ids for seed, salt in ((0, "a"), (1, "a"), (0, "b"))
    )
    assert one == same
    assert len(set(one) & set(other)) < len(one) / 3  # a tenth by chance


def test_by_hash_a_user_of_one_interaction_waits_on_its_side() -> None:
    """In training tonight and held out tomorrow would be a leak."""
    split = strong_generalization(MANY, seed=0, salt="a")
    lengths = dict(zip(MANY.users.ids, MANY.histories.lengths.tolist(), strict=True))
    judged = {*split.validation.users.ids, *split.test.users.ids}
    waiting = set(MANY.users.ids) - judged - set(split.train.users.ids)
    assert {user for user in waiting if lengths[user] == 1}
    assert len(waiting) == split.dropped["held_out_users_without_target"]


def test_by_hash_there_is_no_limit_of_10_000() -> None:
    split = strong_generalization(
        as_dataset(Histories.from_rows([[0, 1]] * 120_000, 2)), seed=0, held_out_fraction=0.5, salt="a"
    )
    assert 120_000 - len(split.train.users) > 23_000


def test_by_hash_numbers_of_users_are_refused() -> None:
    with pytest.raises(DataError, match="20 held-out users by hash; expected a fraction"):
        strong_generalization(MANY, seed=0, test_users=20, salt="a")
    assert len(strong_generalization(MANY, seed=0, validation_users=0, salt="a").validation) == 0


def test_by_hash_too_few_users_are_an_error() -> None:
    few = as_dataset(Histories.from_rows([[0, 1]] * 3, 2))
    with pytest.raises(DataError, match=r"of 3 users no hash falls within the test fraction 0\.001; expected more"):
        strong_generalization(few, seed=0, test_users=0.001, salt="a")
    with pytest.raises(DataError, match=r"fractions 0\.5 and 0\.5 of the users leave nothing"):
        strong_generalization(few, seed=0, validation_users=0.5, test_users=0.5, salt="a")
    with pytest.raises(DataError, match="no interaction is left to train on"):
        strong_generalization(few, seed=0, validation_users=0.0, test_users=0.9999, salt="a")
