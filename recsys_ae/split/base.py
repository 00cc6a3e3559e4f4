"""Split: one protocol applied to one data set; and the few steps that protocols share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recsys_ae.dataset import Dataset
from recsys_ae.errors import DataError
from recsys_ae.histories import Histories, Holdout, Indices
from recsys_ae.ids import IdMap

if TYPE_CHECKING:
    from recsys_ae.models.base import Recommender


@dataclass(frozen=True)
class Window:
    """The times of a split by time, in seconds since 1970: each part goes from its own time up to, not including, the next."""

    validation_from: int
    test_from: int
    test_until: int


@dataclass(frozen=True, eq=False)
class Split:
    """One protocol applied to one data set; train, validation and test have the same items.

    `refit` is what a published model is trained on: all rows, and all items, those that only held-out users met included.
    `judged_after_refit`: the test users' own rows belong to the training data (`given`), so a model is refitted on `refit`
    before it meets the test part. `dropped` counts what the protocol left out, by cause. `window` is that of a split by time.
    `placed`: what is made of a model before validation or test users judge it, where something is: cold items get the rows that
    their features ask for.
    """

    kind: str
    train: Dataset
    validation: Holdout
    test: Holdout
    refit: Dataset
    judged_after_refit: bool
    dropped: dict[str, int]
    window: Window | None = None
    placed: "Callable[[Recommender], Recommender] | None" = None

    def __post_init__(self) -> None:
        for name, holdout in (("validation", self.validation), ("test", self.test)):
            if holdout.n_items != len(self.train.items):
                raise DataError(f"{name} has {holdout.n_items} items, train has {len(self.train.items)}")

    def as_judged(self, model: "Recommender") -> "Recommender":
        """A model that was fitted here, as validation and test users are to meet it."""
        return model if self.placed is None else self.placed(model)


def met_items(histories: Histories) -> Indices:
    """The columns that stand in any row, ascending."""
    return np.flatnonzero(np.bincount(histories.items, minlength=histories.n_items))


def only_items(data: Dataset, columns: Indices) -> Dataset:
    """The given items only, ascending; the data set itself where those are all."""
    return data if len(columns) == len(data.items) else data.with_items(columns)


def new_only(fold_in: Histories, held_out: Histories) -> Histories:
    """The held-out interactions with items that the user's fold-in does not hold."""
    repeated = held_out.shared_with(fold_in)
    return held_out.select(~repeated) if repeated.any() else held_out


def holdout_of(users: IdMap, fold_in: Histories, held_out: Histories, candidates: Indices | None = None) -> Holdout:
    """Rows with something on both sides."""
    rows = np.flatnonzero((fold_in.lengths > 0) & (held_out.lengths > 0))
    if len(rows) < len(users):
        users, fold_in, held_out = users.take(rows), fold_in.take(rows), held_out.take(rows)
    return Holdout(users, fold_in, held_out, candidates)
