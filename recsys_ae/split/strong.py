"""strong_generalization(): users that training has never seen."""

import numpy as np

from recsys_ae.dataset import Dataset
from recsys_ae.errors import DataError
from recsys_ae.split.base import Split, holdout_of, met_items, only_items
from recsys_ae.split.drawing import Sides, hashed_share, hashed_sides, number_of, random_share, shuffled_sides

LARGEST_HOLDOUT = 10_000


def strong_generalization(
    data: Dataset,
    *,
    seed: int,
    validation_users: int | float = 0.1,
    test_users: int | float = 0.1,
    held_out_fraction: float = 0.2,
    salt: str | None = None,
) -> Split:
    """Held-out users are unknown to training; a random part of each one's history is the target (Liang et al. 2018, 4.2).

    Args:
        data: users with fewer than two interactions stay in training.
        seed: shuffles users and their interactions; nothing where a salt is given.
        validation_users: number, or fraction of all users (then at most 10,000).
        test_users: likewise.
        held_out_fraction: share of a held-out history that is the target, at least one and never all of it.
        salt: hold out by hash instead. Whether a user is held out depends on id and salt alone, whether one of the user's
            interactions is a target on user, item and salt alone: a log that grows moves neither. Therefore fractions only,
            without the limit of 10,000, and those of whom too little is known to be judged do not train either.

    Items that no training user met are dropped. Raises DataError where too few users are left.
    """
    rng = np.random.default_rng(seed)
    if salt is None:
        chosen = _shuffled_users(data, validation_users, test_users, rng)
    else:
        chosen = hashed_sides(data.users, validation_users, test_users, salt, "users")
    trains = np.ones(len(data.users), np.bool_)
    trains[np.concatenate(list(chosen.values()))] = False
    train = data.with_rows(np.flatnonzero(trains))
    columns = met_items(train.histories)
    if not len(columns):
        raise DataError(f"no interaction is left to train on beside {(~trains).sum()} held-out users of {len(data.users)}")
    holdouts = {}
    for name, rows in chosen.items():
        held = only_items(data.with_rows(rows), columns)
        if salt is None:
            target = random_share(held.histories, held_out_fraction, rng)
        else:
            target = hashed_share(held, held_out_fraction, salt)
        holdouts[name] = holdout_of(held.users, held.histories.select(~target), held.histories.select(target))
    dropped = {
        "items_unseen_in_training": len(data.items) - len(columns),
        "held_out_users_without_target": int((~trains).sum()) - sum(map(len, holdouts.values())),
    }
    train = only_items(train, columns)
    return Split("strong_generalization", train, holdouts["validation"], holdouts["test"], data, False, dropped)


def _shuffled_users(data: Dataset, validation: int | float, test: int | float, rng: np.random.Generator) -> Sides:
    """Of the users with two interactions or more. Raises DataError where none is left to train on."""
    eligible = np.flatnonzero(data.histories.lengths >= 2)
    n_validation, n_test = (number_of(share, len(data.users), LARGEST_HOLDOUT) for share in (validation, test))
    if n_validation + n_test >= len(data.users) or n_validation + n_test > len(eligible):
        raise DataError(
            f"{n_validation} validation and {n_test} test users of {len(data.users)} users, of whom {len(eligible)} have two "
            "interactions or more; expected at least one user left to train on"
        )
    return shuffled_sides(eligible, n_validation, n_test, rng)
