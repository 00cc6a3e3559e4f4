"""Splits of a Dataset into what trains, what chooses and what judges. No interaction is ever on two sides."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_ae.dataset import Dataset
from recsys_ae.errors import DataError
from recsys_ae.histories import Histories, Holdout
from recsys_ae.ids import IdMap

LARGEST_HOLDOUT = 10_000


@dataclass(frozen=True, eq=False)
class Split:
    """One protocol applied to one data set; train, validation and test have the same items.

    `refit` is what a published model is trained on: all rows, and all items, those that only held-out users met included.
    `judged_after_refit`: the test users' own rows belong to the training data (`given`), so a model is refitted on `refit`
    before it meets the test part. `dropped` counts what the protocol left out, by cause.
    """

    kind: str
    train: Dataset
    validation: Holdout
    test: Holdout
    refit: Dataset
    judged_after_refit: bool
    dropped: dict[str, int]

    def __post_init__(self) -> None:
        for name, holdout in (("validation", self.validation), ("test", self.test)):
            if holdout.n_items != len(self.train.items):
                raise DataError(f"{name} has {holdout.n_items} items, train has {len(self.train.items)}")


def strong_generalization(
    data: Dataset,
    *,
    seed: int,
    validation_users: int | float = 0.1,
    test_users: int | float = 0.1,
    held_out_fraction: float = 0.2,
) -> Split:
    """Held-out users are unknown to training; a random part of each one's history is the target (Liang et al. 2018, 4.2).

    Args:
        data: users with fewer than two interactions stay in training.
        seed: shuffles users and their interactions.
        validation_users: number, or fraction of all users (then at most 10,000).
        test_users: likewise.
        held_out_fraction: share of a held-out history that is the target, at least one and never all of it.

    Items that no training user met are dropped. Raises DataError where too few users are left.
    """
    rng = np.random.default_rng(seed)
    eligible = rng.permutation(np.flatnonzero(data.histories.lengths >= 2))
    n_validation, n_test = (_number(n, len(data.users)) for n in (validation_users, test_users))
    if n_validation + n_test >= len(data.users) or n_validation + n_test > len(eligible):
        raise DataError(
            f"{n_validation} validation and {n_test} test users of {len(data.users)} users, of whom {len(eligible)} have two "
            "interactions or more; expected at least one user left to train on"
        )
    chosen = {"test": eligible[:n_test], "validation": eligible[n_test : n_test + n_validation]}
    train_rows = np.setdiff1d(np.arange(len(data.users)), np.concatenate(list(chosen.values())))
    train = data.with_rows(train_rows)
    columns = np.unique(train.histories.items)
    train = train.with_items(columns)
    known = data.with_items(columns)
    holdouts = {}
    for name, rows in chosen.items():
        held = known.with_rows(rows)
        target = _random_share(held.histories, held_out_fraction, rng)
        holdouts[name] = _holdout(held.users, held.histories.select(~target), held.histories.select(target))
    dropped = {
        "items_unseen_in_training": len(data.items) - len(columns),
        "held_out_users_without_target": n_validation + n_test - sum(map(len, holdouts.values())),
    }
    return Split("strong_generalization", train, holdouts["validation"], holdouts["test"], data, False, dropped)


def by_time(
    data: Dataset,
    *,
    validation_from: int | None = None,
    test_from: int | None = None,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
) -> Split:
    """One global point in time: training holds nothing from `validation_from` on, and nothing of the target is in a fold-in.

    Validation folds in what a user did before `validation_from` and asks for what came until `test_from`; test folds in what
    came before `test_from` and asks for the rest. Without the two times (seconds since 1970) they are the quantiles of all
    interactions that leave the given fractions. Users with nothing to fold in, and items unseen in training, are counted and
    dropped. Raises DataError where the log has no times or a side is empty.
    """
    times = data.histories.times
    if times is None:
        raise DataError("by_time needs times, and the log has none; expected a timestamp column")
    if not len(times):
        raise DataError("by_time needs times, and there is no interaction")
    ordered = np.sort(times)
    if test_from is None:
        test_from = int(ordered[min(int(len(ordered) * (1 - test_fraction)), len(ordered) - 1)])
    if validation_from is None:
        share = 1 - test_fraction - validation_fraction
        validation_from = int(ordered[min(int(len(ordered) * share), len(ordered) - 1)])
    if not validation_from < test_from:
        raise DataError(f"validation_from {validation_from} is not before test_from {test_from}")
    histories = data.histories
    before = histories.select(times < validation_from)
    if not before.n_interactions:
        raise DataError(f"no interaction is older than validation_from {validation_from}; the first is at {ordered[0]}")
    train = Dataset(data.users, data.items, before, data.metadata, data.preprocessing)
    columns = np.unique(before.items)
    train = train.with_items(columns).with_rows(np.flatnonzero(before.lengths))
    known = data.with_items(columns).histories
    assert known.times is not None
    middle = (known.times >= validation_from) & (known.times < test_from)
    parts = {
        "validation": (known.select(known.times < validation_from), known.select(middle)),
        "test": (known.select(known.times < test_from), known.select(known.times >= test_from)),
    }
    holdouts, dropped = {}, {"items_unseen_in_training": len(data.items) - len(columns)}
    for name, (fold_in, held_out) in parts.items():
        active = held_out.lengths > 0
        dropped[f"{name}_users_without_history"] = int((active & (fold_in.lengths == 0)).sum())
        holdouts[name] = _holdout(data.users, fold_in, _new_only(fold_in, held_out))
        if not len(holdouts[name]):
            raise DataError(f"no user has a history before and a new item within the {name} window")
    return Split("by_time", train, holdouts["validation"], holdouts["test"], data, False, dropped)


def given(train: Dataset, test: Dataset, *, seed: int, validation_fraction: float = 0.1, refit: bool = True) -> Split:
    """Train and test rows of the same users, split by others (LightGCN's files): the fold-in is a user's train row.

    Validation is a random part of each train row of two interactions or more; with `refit` the model that is judged is
    trained again on whole train rows. Test users and items unknown to train, and test pairs that stand in train too, are
    dropped and counted. Raises DataError where nothing is left.
    """
    rng = np.random.default_rng(seed)
    target = _random_share(train.histories, validation_fraction, rng)
    kept, asked = train.histories.select(~target), train.histories.select(target)
    validation = _holdout(train.users, kept, asked)
    rows = train.users.positions(test.users.ids)
    columns = train.items.positions(test.items.ids)
    held_out = test.histories.remap(columns, len(train.items)).take(np.flatnonzero(rows >= 0))
    fold_in = train.histories.take(rows[rows >= 0])
    fresh = _new_only(fold_in, held_out)
    judged = _holdout(train.users.take(rows[rows >= 0]), fold_in, fresh)
    if not len(judged):
        raise DataError("no test user has an item that is known to train and new to the user")
    dropped = {
        "test_users_unknown": int((rows < 0).sum()),
        "test_pairs_unknown_or_repeated": test.histories.n_interactions - fresh.n_interactions,
    }
    used = Dataset(train.users, train.items, kept, train.metadata, train.preprocessing)
    return Split("given", used, validation, judged, train, refit, dropped)


def _number(users: int | float, n_users: int) -> int:
    """A number of users as it stands; a fraction of all, at least one and at most 10,000."""
    return min(max(1, round(users * n_users)), LARGEST_HOLDOUT) if isinstance(users, float) else users


def _random_share(histories: Histories, fraction: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """True (N,) for a random share of each row: at least one entry, never all; none of a row of fewer than two."""
    lengths = histories.lengths
    wanted = np.clip(np.floor(lengths * fraction).astype(np.int64), 1, np.maximum(lengths - 1, 0))
    wanted[lengths < 2] = 0
    order = np.lexsort((rng.random(histories.n_interactions), histories.rows))
    place = np.arange(histories.n_interactions) - np.repeat(histories.indptr[:-1], lengths)
    chosen = np.zeros(histories.n_interactions, np.bool_)
    chosen[order] = place < np.repeat(wanted, lengths)
    return chosen


def _new_only(fold_in: Histories, held_out: Histories) -> Histories:
    """The held-out interactions with items that the user's fold-in does not hold."""
    wanted, seen = (h.rows * h.n_items + h.items for h in (held_out, fold_in))
    return held_out.select(~np.isin(wanted, seen))


def _holdout(users: IdMap, fold_in: Histories, held_out: Histories) -> Holdout:
    """Rows with something on both sides."""
    rows = np.flatnonzero((fold_in.lengths > 0) & (held_out.lengths > 0))
    return Holdout(users.take(rows), fold_in.take(rows), held_out.take(rows))
