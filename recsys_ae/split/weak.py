"""given() and leave_last_out(): the same users in training and test, other interactions of theirs."""

from dataclasses import replace

import numpy as np

from recsys_ae.dataset import Dataset
from recsys_ae.errors import DataError
from recsys_ae.split.base import Split, holdout_of, met_items, new_only, only_items
from recsys_ae.split.drawing import random_share


def given(train: Dataset, test: Dataset, *, seed: int, validation_fraction: float = 0.1, refit: bool = True) -> Split:
    """Train and test rows of the same users, split by others (LightGCN's files): the fold-in is a user's train row.

    Validation is a random part of each train row of two interactions or more; with `refit` the model that is judged is
    trained again on whole train rows. Test users and items unknown to train, and test pairs that stand in train too, are
    dropped and counted. Raises DataError where nothing is left.
    """
    rng = np.random.default_rng(seed)
    target = random_share(train.histories, validation_fraction, rng)
    kept, asked = train.histories.select(~target), train.histories.select(target)
    validation = holdout_of(train.users, kept, asked)
    rows = train.users.positions(test.users.ids)
    columns = train.items.positions(test.items.ids)
    held_out = test.histories.remap(columns, len(train.items)).take(np.flatnonzero(rows >= 0))
    fold_in = train.histories.take(rows[rows >= 0])
    fresh = new_only(fold_in, held_out)
    judged = holdout_of(train.users.take(rows[rows >= 0]), fold_in, fresh)
    if not len(judged):
        raise DataError("no test user has an item that is known to train and new to the user")
    dropped = {
        "test_users_unknown": int((rows < 0).sum()),
        "test_users_without_target": int((rows >= 0).sum()) - len(judged),
        "test_pairs_unknown_or_repeated": test.histories.n_interactions - fresh.n_interactions,
    }
    return Split("given", replace(train, histories=kept), validation, judged, train, refit, dropped)


def leave_last_out(data: Dataset) -> Split:
    """The last interaction of each user is the test target, the one before it the validation target.

    Last in the order of a history: by time where times are known, as the log stands otherwise and among equal times. Users
    with fewer than three interactions have nothing to spare: they stay in training and are not judged. Validation folds in
    what came before its target; test everything before the last interaction, the validation target included. The model that
    is judged is not trained again on that (Kang and McAuley, *Self-Attentive Sequential Recommendation*, 2018, 4.A: at test
    the input holds the training actions and the validation action).

    Others' later interactions are in training: this order is each user's own, not that of the world; `by_time` is that.
    Items that are nothing but targets are unseen in training and dropped, and so are targets that the fold-in holds already.
    Raises DataError where no user is left to judge.
    """
    histories = data.histories
    judged = histories.lengths >= 3
    last = histories.indptr[1:][judged] - 1
    is_validation, is_test = np.zeros((2, histories.n_interactions), np.bool_)
    is_validation[last - 1] = True
    is_test[last] = True
    kept = histories.select(~(is_validation | is_test))
    columns = met_items(kept)
    dropped = {
        "items_unseen_in_training": len(data.items) - len(columns),
        "users_with_fewer_than_3_interactions": int((~judged).sum()),
    }
    holdouts = {}
    train = only_items(replace(data, histories=kept), columns)
    upto_test = only_items(replace(data, histories=histories.select(~is_test)), columns)
    for name, before, target in (("validation", train, is_validation), ("test", upto_test, is_test)):
        held_out = only_items(replace(data, histories=histories.select(target)), columns).histories
        holdouts[name] = holdout_of(data.users, before.histories, new_only(before.histories, held_out))
        dropped[f"{name}_users_without_target"] = int(judged.sum()) - len(holdouts[name])
        if not len(holdouts[name]):
            raise DataError(
                f"no user has a {name} target: {int(judged.sum())} of {len(data.users)} users have three interactions or more; "
                "expected at least one of them whose last ones are with items that others met before"
            )
    return Split("leave_last_out", train, holdouts["validation"], holdouts["test"], data, False, dropped)
