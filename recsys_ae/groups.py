"""Groups of held-out users and of what is held out: for whom, and for which items, a model is good."""

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recsys_ae.beyond import Catalogue, divided
from recsys_ae.histories import Histories, Holdout

LENGTHS = (1, 3, 6, 11, 21, 51, 101, 201, 501)
"""The least number of items of each group of histories; the first is also that of nothing."""
REGIONS = ("head", "middle", "tail")
TASTES = ("niche", "mixed", "mainstream")
MOST_CATEGORIES, MOST_PERIODS = 20, 12


@dataclass(frozen=True, eq=False)
class Grouping:
    """Which group each of n rows belongs to: `of` (n, G) holds 1 where it does; a row may belong to several, or to none."""

    by: str
    names: tuple[str, ...]
    of: csr_array

    @classmethod
    def one_each(cls, by: str, names: Sequence[str], labels: NDArray[np.integer]) -> "Grouping":
        """From one label a row, -1 for none; groups without a row are left out."""
        rows = np.flatnonzero(labels >= 0)
        ones = np.ones(len(rows), np.float64)
        of = csr_array((ones, (rows, labels[rows])), shape=(len(labels), len(names)))
        return cls(by, tuple(names), of)._met()

    def labels(self) -> NDArray[np.int64]:
        """The group of each row (n,), -1 for none, where no row belongs to several."""
        labels = np.full(self.of.shape[0], -1, np.int64)
        rows, columns = self.of.nonzero()
        labels[rows] = columns
        return labels

    def _met(self) -> "Grouping":
        met = np.flatnonzero(self.of.sum(0) > 0)
        return Grouping(self.by, tuple(self.names[g] for g in met), csr_array(self.of[:, met]))


def user_groups(holdouts: Sequence[Holdout], catalogues: Sequence[Catalogue]) -> list[Grouping]:
    """Of the users of all holdouts: by length of history, cold to heavy; by how popular the history's items are, in thirds."""
    lengths = np.concatenate([holdout.fold_in.lengths for holdout in holdouts])
    ends = [*(str(high - 1) for high in LENGTHS[1:]), None]
    names = [f"{low} and more" if end is None else f"{low} to {end}" for low, end in zip(LENGTHS, ends, strict=True)]
    by_length = Grouping.one_each("history length", ["none", *names], np.searchsorted(LENGTHS, lengths, side="right"))
    own = [  # as shares of the training users: those of a later window are more
        np.bincount(h.fold_in.rows, catalogue.popularity[h.fold_in.items] / max(catalogue.users, 1), len(h))
        for h, catalogue in zip(holdouts, catalogues, strict=True)
    ]
    taste = divided(np.concatenate(own).astype(np.float64), lengths.astype(np.float64))
    known = np.flatnonzero(~np.isnan(taste))
    thirds = np.full(len(taste), -1)
    order = known[np.argsort(taste[known], kind="stable")]
    thirds[order] = np.arange(len(order)) * len(TASTES) // max(len(order), 1)
    return [by_length, Grouping.one_each("taste", TASTES, thirds)]


def target_groups(holdouts: Sequence[Holdout], catalogues: Sequence[Catalogue]) -> list[Grouping]:
    """Of the held-out items of all holdouts: by popularity, by category (the most frequent), by period of the interaction."""
    targets = [holdout.held_out for holdout in holdouts]
    regions = [c.region[t.items] for c, t in zip(catalogues, targets, strict=True)]
    found = [Grouping.one_each("popularity", REGIONS, np.concatenate(regions))]
    if any(c.categories is not None for c in catalogues):
        found.append(_by_category(targets, catalogues))
    times = [t.times for t in targets if t.times is not None]
    if len(times) == len(targets) and any(len(own) for own in times):
        found.append(Grouping.one_each("period", *periods(np.concatenate(times))))
    return found


def _by_category(targets: Sequence[Histories], catalogues: Sequence[Catalogue]) -> Grouping:
    """Windows may know different categories: their columns are brought together by name."""
    names = sorted({name for c in catalogues for name in c.category_names})
    place = {name: column for column, name in enumerate(names)}
    rows, columns, start = [], [], 0
    for target, c in zip(targets, catalogues, strict=True):
        if c.categories is not None:
            own = csr_array(c.categories[target.items]).tocoo()
            rows.append(own.row + start)
            columns.append(np.array([place[name] for name in c.category_names], np.int64)[own.col])
        start += target.n_interactions
    indices = (np.concatenate(rows), np.concatenate(columns))
    of = csr_array((np.ones(len(indices[0])), indices), shape=(start, len(names)))
    frequent = np.argsort(-of.sum(0), kind="stable")[:MOST_CATEGORIES]
    return Grouping("category", tuple(names[g] for g in frequent), csr_array(of[:, frequent]))._met()


def periods(times: NDArray[np.int64]) -> tuple[list[str], NDArray[np.int64]]:
    """Names of calendar periods, oldest first, and each time's place among them: the finest of day, month, quarter, year that
    makes no more than MOST_PERIODS, else spans of years."""
    days = times // 86_400
    firsts, place = np.unique(days, return_inverse=True)
    dates = [datetime.date(1970, 1, 1) + datetime.timedelta(int(day)) for day in firsts]
    names: list[str] = []
    namings: list[Callable[[datetime.date], str]] = [
        datetime.date.isoformat,
        lambda d: f"{d.year}-{d.month:02}",
        lambda d: f"{d.year} Q{(d.month + 2) // 3}",
        lambda d: str(d.year),
    ]
    for naming in namings:
        names = [naming(date) for date in dates]
        if len(set(names)) <= MOST_PERIODS:
            break
    else:
        first = dates[0].year
        span = -(-(dates[-1].year - first + 1) // MOST_PERIODS)
        starts = [first + (date.year - first) // span * span for date in dates]
        names = [f"{start} to {start + span - 1}" for start in starts]
    distinct = list(dict.fromkeys(names))
    at = {name: index for index, name in enumerate(distinct)}
    return distinct, np.array([at[name] for name in names], np.int64)[place]


def by_user(values: NDArray[np.float64], lengths: NDArray[np.int64], grouping: Grouping) -> csr_array:
    """Sums of the held-out items' values (N,), user by user, over each user's items of a group, (U, G); lengths (U,)."""
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    of_users = csr_array((values, np.arange(len(values)), indptr), shape=(len(lengths), len(values)))
    return csr_array(of_users @ grouping.of)
