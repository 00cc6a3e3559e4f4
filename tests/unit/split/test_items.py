import numpy as np
import pytest

from recsys_ae import Histories, evaluate, item_hold_out
from recsys_ae.errors import DataError
from tests.worlds import as_dataset, fitted, tastes

DATA = as_dataset(tastes(120))


def test_cold_items_are_unknown_to_training_and_alone_are_ranked() -> None:
    split = item_hold_out(DATA, seed=0, validation_items=4, test_items=0.25)
    met = set(split.train.histories.items.tolist())
    assert split.validation.candidates is not None and split.test.candidates is not None
    cold = [set(holdout.candidates.tolist()) for holdout in (split.validation, split.test) if holdout.candidates is not None]
    assert [len(c) for c in cold] == [4, 10]  # a quarter of 42
    assert not cold[0] & cold[1]
    assert not met & (cold[0] | cold[1])
    assert len(split.train.items) == split.validation.n_items == split.test.n_items == 42
    for columns, holdout in zip(cold, (split.validation, split.test), strict=True):
        assert set(holdout.held_out.items.tolist()) <= columns
        assert set(holdout.fold_in.items.tolist()) <= met


def test_all_users_train_and_whoever_met_cold_items_is_asked_for_them() -> None:
    split = item_hold_out(DATA, seed=1)
    assert split.train.users == DATA.users
    whole = DATA.histories.matrix.toarray()
    assert split.test.candidates is not None
    asked = whole[:, split.test.candidates].any(1)
    assert split.test.users.ids == tuple(np.array(DATA.users.ids)[asked].tolist())
    assert split.test.held_out.n_interactions == np.count_nonzero(whole[:, split.test.candidates])


def test_users_without_a_warm_item_are_dropped_and_counted() -> None:
    rows = [[0], [1], [2], [3], [4], *[[0, 1, 2, 3, 4]] * 3]
    split = item_hold_out(as_dataset(Histories.from_rows(rows, 5)), seed=0, validation_items=1, test_items=1)
    assert split.dropped == {"users_without_warm_items": 2}
    assert len(split.train.users) == 6
    assert len(split.test) == 3


def test_a_collaborative_model_guesses() -> None:
    """Over many draws, lists of one of the cold items hit as often as chance does."""
    data = as_dataset(tastes(400, seed=3))
    found, chance = [], []
    for seed in range(8):
        split = item_hold_out(data, seed=seed, validation_items=2, test_items=9)
        found.append(evaluate(fitted("ease", split.train.histories), split.test, (1,)).scores["precision@1"].mean)
        chance.append((split.test.held_out.lengths / 9).mean())
    assert np.mean(found) == pytest.approx(np.mean(chance), abs=0.05)


def test_by_hash_of_the_item() -> None:
    one, same, other = (item_hold_out(DATA, seed=seed, salt=salt) for seed, salt in ((0, "a"), (1, "a"), (0, "b")))
    assert one.test.candidates is not None and same.test.candidates is not None and other.test.candidates is not None
    assert one.test.candidates.tolist() == same.test.candidates.tolist() != other.test.candidates.tolist()


def test_it_says_what_it_lacks() -> None:
    few = as_dataset(Histories.from_rows([[0, 1], [0, 1]], 3))
    with pytest.raises(DataError, match="1 validation and 1 test items of 2 items that anyone met"):
        item_hold_out(few, seed=0)
    with pytest.raises(DataError, match="5 held-out items by hash; expected a fraction"):
        item_hold_out(DATA, seed=0, test_items=5, salt="a")
    with pytest.raises(DataError, match="of 3 items no hash falls within the test fraction"):
        item_hold_out(few, seed=0, test_items=0.001, salt="a")
    apart = as_dataset(Histories.from_rows([[0], [1], [2]], 3))
    with pytest.raises(DataError, match="no user has both warm items and one of the 1 cold test items of 3"):
        item_hold_out(apart, seed=0)
