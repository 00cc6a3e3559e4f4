"""evaluate(): a model against held-out users. Everything a report needs is in the Evaluation that comes back."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recsys_ae.beyond import DIVERSE_USERS, OVERALL, Catalogue, Lists, beyond
from recsys_ae.errors import ConfigError, DataError
from recsys_ae.histories import Holdout
from recsys_ae.metrics import METRICS
from recsys_ae.ranking import Ranking, hits, located, rank_top_k

if TYPE_CHECKING:
    from recsys_ae.models.base import Recommender

Z95 = 1.959963984540054  # the 97.5 % point of the standard normal
CURVE = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1_000)
"""Lengths of list at which curves are drawn, as far as lists go."""
USERS_AT_ONCE = 32_768
Keep: TypeAlias = Callable[[slice, Lists, dict[str, NDArray[np.float64]]], None]
SHOWN = 20
"""Items of each list that an Evaluation keeps."""


class Score(NamedTuple):
    """A mean over the users it is defined for, with its standard error and normal 95 % interval.

    What is one number of all lists has neither; nor has a mean of a single user.
    """

    mean: float
    se: float | None
    ci95: tuple[float, float] | None
    users: int

    def as_json(self) -> dict[str, Any]:
        """As evaluation.json has it."""
        return {"mean": self.mean, "se": self.se, "ci95": list(self.ci95) if self.ci95 else None, "users": self.users}


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One model on one holdout of U users with N held-out items.

    per_user: by metric (U,), NaN where one is not defined for a user; empty where it was given away block by block.
    overall: by metric, what is one number of all lists.
    curves: by accuracy metric at each k of `curve_ks`, the number of users, the sum and the sum of squares, (3, C).
    lists: the first items of each list (U, L), -1 where it is shorter.
    ranks: of each held-out item (N,), 0 where it is not listed.
    """

    per_user: Mapping[str, NDArray[np.float64]]
    overall: dict[str, float]
    score_seconds: float
    curve_ks: tuple[int, ...]
    curves: dict[str, NDArray[np.float64]]
    lists: Lists
    ranks: NDArray[np.int32]

    @property
    def users(self) -> int:
        """Number of users judged."""
        return len(self.lists)

    @cached_property
    def scores(self) -> dict[str, Score]:
        """Each metric's mean, standard error, interval and number of users; those that are defined for nobody are left out."""
        found = {name: summarise(values) for name, values in self.per_user.items()}
        found |= {name: Score(value, None, None, self.users) for name, value in self.overall.items()}
        return {name: score for name, score in found.items() if score.users}

    def as_json(self) -> dict[str, Any]:
        """The scores as evaluation.json and a version's manifest have them."""
        return {name: score.as_json() for name, score in self.scores.items()}

    def curve(self, name: str) -> list[Score]:
        """An accuracy metric at each of `curve_ks`."""
        counts, total, squares = self.curves[name]
        n = int(counts[0])
        means = total / max(n, 1)
        if n < 2:
            return [Score(m, None, None, n) for m in means.tolist()]
        errors = np.sqrt(np.maximum(squares / n - means**2, 0) / (n - 1))
        return [Score(m, e, (m - Z95 * e, m + Z95 * e), n) for m, e in zip(means.tolist(), errors.tolist(), strict=True)]


def summarise(values: NDArray[np.float64]) -> Score:
    """Mean of per-user values (U,), standard error and normal 95 % interval, neither for a single user; NaN is left out."""
    known = ~np.isnan(values)
    if not known.all():
        values = values[known]
    if not len(values):
        return Score(np.nan, None, None, 0)
    mean = float(values.mean())
    if len(values) == 1:
        return Score(mean, None, None, 1)
    se = float(values.std(ddof=1) / np.sqrt(len(values)))
    return Score(mean, se, (mean - Z95 * se, mean + Z95 * se), len(values))


def evaluate(
    model: "Recommender",
    holdout: Holdout,
    ks: tuple[int, ...] = (10, 20, 50, 100),
    batch_size: int | None = None,
    *,
    catalogue: Catalogue | None = None,
    keep: Keep | None = None,
) -> Evaluation:
    """Rank all items for each held-out user from the fold-in alone, and judge the lists by every metric at every k.

    Where the holdout has candidates, they alone are ranked. With a catalogue, metrics beyond accuracy come too. Users stream
    by: no more than USERS_AT_ONCE whole lists are held. `keep`, where there is one, is given each block's rows, lists
    (B, max(ks)) and metrics (B,), and the Evaluation has no `per_user` then.

    Raises DataError without users. The result does not depend on `batch_size`.
    """

    def ranked(rows: slice) -> Lists:
        fold_in = holdout.fold_in.take(rows)
        return rank_top_k(model, fold_in, max(ks), allow=holdout.allow, batch_size=batch_size).items

    return tallied(ranked, holdout, ks, catalogue=catalogue, keep=keep)


def judge(ranking: Ranking, holdout: Holdout, ks: tuple[int, ...], *, catalogue: Catalogue | None = None) -> Evaluation:
    """Judge lists (U, K), however they were made; where K is less than a k, what there is counts."""
    return tallied(lambda rows: ranking.items[rows], holdout, ks, catalogue=catalogue)


def tallied(
    lists_of: Callable[[slice], Lists],
    holdout: Holdout,
    ks: tuple[int, ...],
    *,
    catalogue: Catalogue | None = None,
    keep: Keep | None = None,
) -> Evaluation:
    """Judge what `lists_of` gives for each block of users, (B, K); the seconds that it takes are the Evaluation's."""
    tally = _Tally(holdout, ks, catalogue, keep)
    seconds = 0.0
    for start in range(0, len(holdout), USERS_AT_ONCE):
        rows = slice(start, start + USERS_AT_ONCE)
        begin = time.perf_counter()
        lists = lists_of(rows)
        seconds += time.perf_counter() - begin
        tally.add(rows, lists)
    return tally.evaluation(seconds)


class _Tally:
    """What an Evaluation is made of, block of users by block. Raises DataError without users."""

    def __init__(self, holdout: Holdout, ks: tuple[int, ...], catalogue: Catalogue | None, keep: Keep | None) -> None:
        if not len(holdout):
            raise DataError("no held-out user to judge; expected at least one with a history and a target")
        self._holdout, self._ks, self._catalogue = holdout, tuple(sorted(set(ks))), catalogue
        self._keep = keep
        self._curve_ks = tuple(k for k in CURVE if k <= self._ks[-1])
        self._per_user: dict[str, list[NDArray[np.float64]]] = {}
        self._curves = {name: np.zeros((3, len(self._curve_ks))) for name in METRICS}
        self._exposure = np.zeros((len(self._ks), holdout.n_items), np.int64)
        self._lists: list[Lists] = []
        self._ranks: list[NDArray[np.int32]] = []

    def add(self, rows: slice, items: Lists) -> None:
        """The lists (B, K) of the next users."""
        fold_in, held_out = self._holdout.fold_in.take(rows), self._holdout.held_out.take(rows)
        found, ranks = located(items, held_out)
        per_user: dict[str, NDArray[np.float64]] = {}
        asked = held_out.lengths > 0  # for nobody else is accuracy defined
        for name, metric in METRICS.items():
            lengths = dict.fromkeys((*self._ks, *self._curve_ks))
            at = {k: np.where(asked, metric(found, np.maximum(held_out.lengths, 1), k), np.nan) for k in lengths}
            per_user |= {f"{name}@{k}": at[k] for k in self._ks}
            values = np.stack([at[k][asked] for k in self._curve_ks])
            self._curves[name] += np.stack([np.full(len(values), values.shape[1]), values.sum(1), (values**2).sum(1)])
        if self._catalogue is not None:
            every = -(-len(self._holdout) // DIVERSE_USERS)
            diverse = np.flatnonzero(np.arange(rows.start, rows.start + len(items)) % every == 0)
            allow = self._holdout.allow
            for name, columns in beyond(items, found, self._ks, self._catalogue, fold_in, allow, diverse).items():
                per_user |= {f"{name}@{k}": columns[:, place].copy() for place, k in enumerate(self._ks)}
        if self._keep:
            self._keep(rows, items, per_user)
        else:
            for name, values in per_user.items():
                self._per_user.setdefault(name, []).append(values)
        for place, k in enumerate(self._ks):
            shown = items[:, :k]
            self._exposure[place] += np.bincount(shown[shown >= 0], minlength=self._holdout.n_items)
        self._lists.append(items[:, :SHOWN].copy())
        self._ranks.append(ranks)

    def evaluation(self, score_seconds: float) -> Evaluation:
        """All of it."""
        allowed = slice(None) if self._holdout.allow is None else self._holdout.allow
        exposure = dict(zip(self._ks, self._exposure[:, allowed], strict=True))
        overall = {f"{name}@{k}": measure(seen) for name, measure in OVERALL.items() for k, seen in exposure.items()}
        return Evaluation(
            {name: np.concatenate(parts) for name, parts in self._per_user.items()},
            overall,
            score_seconds,
            self._curve_ks,
            self._curves,
            np.concatenate(self._lists),
            np.concatenate(self._ranks),
        )


def pooled(parts: Sequence[Evaluation], per_user: Mapping[str, NDArray[np.float64]] | None = None) -> Evaluation:
    """One model's evaluations on several holdouts as one: every user of each counts once, what is one number is their mean.

    per_user: the figures of all parts' users, where they are kept elsewhere already.
    """
    first = parts[0]
    if len(parts) == 1:
        return first if per_user is None else replace(first, per_user=per_user)
    if per_user is None:
        per_user = {name: np.concatenate([part.per_user[name] for part in parts]) for name in first.per_user}
    return Evaluation(
        per_user,
        {name: float(np.mean([part.overall[name] for part in parts])) for name in first.overall},
        sum(part.score_seconds for part in parts),
        first.curve_ks,
        {name: np.sum([part.curves[name] for part in parts], axis=0) for name in first.curves},
        np.concatenate([part.lists for part in parts]),
        np.concatenate([part.ranks for part in parts]),
    )


def parse_metric(name: str) -> tuple[str, int]:
    """`ndcg@100` -> ("ndcg", 100). Raises ConfigError."""
    base, _, k = name.partition("@")
    if base not in METRICS or not (k.isascii() and k.isdigit()) or int(k) < 1:
        raise ConfigError(f"metric {name!r} is unknown; expected one of {', '.join(METRICS)} with @k, like ndcg@100")
    return base, int(k)


def mean_metric(model: "Recommender", holdout: Holdout, name: str, ranked: Callable[..., Ranking] = rank_top_k) -> float:
    """The mean of one metric of what `ranked` finds, called as `rank_top_k` is: what early stopping watches."""
    base, k = parse_metric(name)
    ranking = ranked(model, holdout.fold_in, k, allow=holdout.allow)
    return float(METRICS[base](hits(ranking, holdout.held_out), holdout.held_out.lengths, k).mean())
