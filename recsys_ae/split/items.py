"""item_hold_out(): items that training has never seen."""

from dataclasses import replace

import numpy as np

from recsys_ae.dataset import Dataset
from recsys_ae.errors import DataError
from recsys_ae.split.base import Split, holdout_of, met_items
from recsys_ae.split.drawing import Sides, hashed_sides, number_of, shuffled_sides


def item_hold_out(
    data: Dataset,
    *,
    seed: int,
    validation_items: int | float = 0.1,
    test_items: int | float = 0.1,
    salt: str | None = None,
) -> Split:
    """Whole items are withheld: cold items, which no training row holds. Can a model place what nobody has met?

    The users are the same on all sides. A user's warm items train and are the fold-in, the cold ones of each part are its
    targets, and the cold items of that part alone are ranked (`Holdout.candidates`): beside warm ones nothing would be
    learnt of how well the cold are told apart. All sides keep the whole catalogue, so that every model scores cold items;
    their columns are empty in training. A collaborative model thus knows nothing of them: it shows what guessing reaches
    (equal scores in the order of the columns, which is that of the ids), and what content has to beat.

    Args:
        data: users without any warm item are dropped.
        seed: shuffles the items; nothing where a salt is given.
        validation_items: number, or fraction of all items; no item of it is a test item.
        test_items: likewise.
        salt: withhold items by hash of their id instead (fractions only), so that they stay cold while the log grows.

    Raises DataError where no warm item or, for a part, no user with both warm and cold ones is left.
    """
    if salt is None:
        cold = _shuffled_items(data, validation_items, test_items, np.random.default_rng(seed))
    else:
        cold = hashed_sides(data.items, validation_items, test_items, salt, "items")
    warm = np.ones(len(data.items), np.bool_)
    warm[np.concatenate(list(cold.values()))] = False
    known = data.histories.select(warm[data.histories.items])
    rows = np.flatnonzero(known.lengths)
    holdouts = {}
    for name, columns in cold.items():
        asked = np.zeros(len(data.items), np.bool_)
        asked[columns] = True
        held_out = data.histories.select(asked[data.histories.items])
        holdouts[name] = holdout_of(data.users, known, held_out, np.sort(columns))
        if not len(holdouts[name]):
            raise DataError(
                f"no user has both warm items and one of the {len(columns)} cold {name} items of {len(data.items)}; "
                f"expected a larger {name}_items, or a larger log"
            )
    dropped = {"users_without_warm_items": len(data.users) - len(rows)}
    train = replace(data, histories=known).with_rows(rows)
    return Split("item_hold_out", train, holdouts["validation"], holdouts["test"], data, False, dropped)


def _shuffled_items(data: Dataset, validation: int | float, test: int | float, rng: np.random.Generator) -> Sides:
    """Of the items that anyone met. Raises DataError where none is left to train on."""
    eligible = met_items(data.histories)
    n_validation, n_test = (number_of(share, len(data.items)) for share in (validation, test))
    if n_validation + n_test >= len(eligible):
        raise DataError(
            f"{n_validation} validation and {n_test} test items of {len(eligible)} items that anyone met; "
            "expected at least one item left to train on"
        )
    return shuffled_sides(eligible, n_validation, n_test, rng)
