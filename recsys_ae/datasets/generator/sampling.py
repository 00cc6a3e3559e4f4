"""Drawing from many discrete distributions at once, and without repeats."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Ints = NDArray[np.integer]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

BLOCK = 1 << 20  # places worked on at once: bounds temporary memory, and fits caches better than all
ROUNDS = 30  # of redrawing repeats; what is left then is drawn from all values alike


@dataclass(frozen=True, eq=False)
class Tables:
    """Discrete distributions, one a group, as one inverse CDF.

    values (E,) stand group by group; cumulative (E,) runs from g to g + 1 over the entries of group g.
    """

    values: NDArray[np.int32]
    cumulative: Floats

    @classmethod
    def of(cls, groups: Ints, values: Ints, weights: Floats) -> "Tables":
        """From entries (E,) in any order; every group from 0 on has one at least."""
        order = np.argsort(groups, kind="stable")
        groups, shares = groups[order], (weights / np.bincount(groups, weights)[groups])[order]
        cumulative = np.cumsum(shares)
        ends = np.cumsum(np.bincount(groups)) - 1
        cumulative[ends] = np.arange(1, len(ends) + 1)  # to the bit, so that no draw strays into the next group
        return cls(values[order].astype(np.int32), cumulative)

    def draw(self, rng: Generator, groups: Ints) -> NDArray[np.int32]:
        """A value (n,) from the group of each."""
        entries = np.searchsorted(self.cumulative, groups + rng.random(len(groups)), side="right")
        return self.values[np.minimum(entries, len(self.values) - 1)]


def draw_distinct(rng: Generator, owners: Ints, n_values: int, draw: Callable[[Ints], Ints]) -> NDArray[np.int32]:
    """A value (N,) for every place, no two alike of one owner: successive sampling, many owners at once.

    Args:
        owners: (N,) of each place; ascending; none has more than n_values places.
        draw: proposes values for the given places.

    Repeats are drawn again, round by round. Which of two alike stays is left to chance: a place says nothing of its value.
    """
    values = np.empty(len(owners), np.int32)
    for block in blocks(owners):
        places = np.arange(block.start, block.stop)
        values[block] = draw(places)
        for attempt in itertools.count(1):
            repeated = places[repeats(rng, owners[places], values[places], n_values)]
            if not len(repeated):
                break
            open_ = np.zeros(owners[block.stop - 1] + 1 - owners[block.start], np.bool_)
            open_[owners[repeated] - owners[block.start]] = True
            places = places[open_[owners[places] - owners[block.start]]]  # nobody else can have a repeat
            values[repeated] = draw(repeated) if attempt < ROUNDS else rng.integers(n_values, size=len(repeated))
    return values


def blocks(owners: Ints) -> Iterator[slice]:
    """Slices of about BLOCK places each, which part no owner."""
    edges = np.unique(np.append(np.searchsorted(owners, owners[::BLOCK]), len(owners)))
    yield from (slice(int(a), int(b)) for a, b in itertools.pairwise(edges))


def repeats(rng: Generator, owners: Ints, values: Ints, n_values: int) -> Flags:
    """Which places (N,) must be drawn again: all but one, any, of those of an owner that hold the same. Owners ascend."""
    n = len(owners)
    lots = rng.permutation(n)
    # Owner, value and lot as one number: numpy sorts these far faster than it finds their order.
    keys = ((owners.astype(np.int64) - owners[0]) * n_values + values) * n + lots
    keys.sort()
    pairs = keys // n
    lost = np.zeros(n, np.bool_)
    lost[keys[1:][pairs[1:] == pairs[:-1]] % n] = True
    return lost[lots]


def lengths_of(rng: Generator, n: int, total: int, shortest: int, longest: int, spread: float) -> NDArray[np.int64]:
    """Lengths (n,) between shortest and longest that sum to total: shifted lognormal, cut at the longest."""
    shape = rng.lognormal(0.0, spread, n)
    low, high = 0.0, (longest - shortest + 1) / shape.min()
    for _ in range(100):  # bisection: the sum grows with the factor
        factor = (low + high) / 2
        lengths = np.minimum(shortest + factor * shape, longest)
        low, high = (factor, high) if lengths.sum() < total else (low, factor)
    whole = lengths.astype(np.int64)
    missing = total - int(whole.sum())
    fractions = np.where(whole < longest, lengths - whole, -1.0)
    whole[np.argsort(-fractions, kind="stable")[:missing]] += 1
    return whole
