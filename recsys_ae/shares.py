"""Shares of things that users have several of: users are clusters, whose things are not independent. Pure functions."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from recsys_ae.errors import DataError

ROUNDING = 1e-12
"""A sum of squares below this part of its terms is rounding."""


class Ratio(NamedTuple):
    """A share with its standard error, interval and number of users, in the order of a Score; None for a single user."""

    mean: float
    se: float | None
    interval: tuple[float, float] | None
    users: int


class Difference(NamedTuple):
    """A share less another, with its interval; None where one of them has none."""

    mean: float
    interval: tuple[float, float] | None


class Sums(NamedTuple):
    """Over users who have something counted: what `ratio_of_sums` needs of hits h and counts c, which a database can add up."""

    users: int
    hits: float
    counts: float
    hits_squared: float  # sum h^2
    hits_counts: float  # sum h c
    counts_squared: float  # sum c^2


class Products(NamedTuple):
    """Over users who have something counted on both sides, a and b: sums of products."""

    hits_hits: float = 0.0  # sum h_a h_b
    hits_counts: float = 0.0  # sum h_a c_b
    counts_hits: float = 0.0  # sum c_a h_b
    counts_counts: float = 0.0  # sum c_a c_b


NOBODY = Products()
"""Of two sides that have no user in common."""


def ratio(hits: NDArray[Any], counts: NDArray[Any], level: float = 0.95) -> Ratio:
    """`ratio_of_sums` of hits (U,) among counts (U,), a user each. Raises DataError without anything counted."""
    h, c = np.asarray(hits, np.float64)[counts > 0], np.asarray(counts, np.float64)[counts > 0]
    return ratio_of_sums(Sums(len(c), float(h.sum()), float(c.sum()), float(h @ h), float(h @ c), float(c @ c)), level)


def ratio_of_sums(sums: Sums, level: float = 0.95) -> Ratio:
    """Share of all counted things that are hits, sum hits / sum counts: users are clusters.

    The standard error is that of the ratio estimator (Cochran 1977, chapter 6), from hits - share * counts by user. The
    interval is Wilson's with the effective number of things, share (1 - share) / se^2 (Korn & Graubard 1998), at most their
    number, and Student's t of users - 1: shares are near 0, where the share ± 2 se covers far less than it says. With one thing
    a user it is Wilson's own but for t. Where nothing or everything was hit, each user counts as one thing.

    Raises DataError without anything counted.
    """
    users, total = sums.users, float(sums.counts)
    if not users:
        raise DataError("nothing counted for any user; expected a count above 0")
    share = float(sums.hits / total)
    if users < 2:
        return Ratio(share, None, None, users)
    squares = sums.hits_squared - 2 * share * sums.hits_counts + share**2 * sums.counts_squared  # of hits - share * counts
    squares = squares if squares > ROUNDING * sums.hits_squared else 0.0
    se = float(np.sqrt(users / (users - 1) * squares) / total)
    inside = 0 < share < 1 and se > 0
    effective = min(share * (1 - share) / se**2, total) if inside else float(users)
    z2 = float(stdtrit(users - 1, (1 + level) / 2)) ** 2 / effective
    centre = share + z2 / 2
    half = float(np.sqrt(z2 * (share * (1 - share) + z2 / 4)))
    low, high = (centre - half) / (1 + z2), (centre + half) / (1 + z2)
    return Ratio(share, se, (max(low, 0.0), min(high, 1.0)), users)


def ratio_difference(a: Sums, b: Sums, both: Products = NOBODY, level: float = 0.95) -> Difference:
    """The share of a less that of b, of which users may have a part each.

    The interval is put together of those of `ratio_of_sums` (Zou & Donner 2008; for independent proportions Newcombe's 1998
    method 10), with the correlation of the two shares over users who are in both. Raises DataError as `ratio_of_sums` does.
    """
    first, second = ratio_of_sums(a, level), ratio_of_sums(b, level)
    difference = first.mean - second.mean
    if first.interval is None or second.interval is None:
        return Difference(difference, None)
    p, q = first.mean, second.mean
    products = both.hits_hits - q * both.hits_counts - p * both.counts_hits + p * q * both.counts_counts
    errors = (first.se or 0.0) * (second.se or 0.0)
    r = float(np.clip(products / (a.counts * b.counts) / errors, -1, 1)) if errors else 0.0
    below, above = p - first.interval[0], first.interval[1] - p
    below_b, above_b = q - second.interval[0], second.interval[1] - q
    low = np.sqrt(max(below**2 - 2 * r * below * above_b + above_b**2, 0.0))
    high = np.sqrt(max(above**2 - 2 * r * above * below_b + below_b**2, 0.0))
    return Difference(difference, (max(difference - float(low), -1.0), min(difference + float(high), 1.0)))
