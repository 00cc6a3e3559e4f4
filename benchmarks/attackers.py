"""Profiles of attackers and bots to plant in a log of pairs, where which items stand in a profile is all there is.

Kinds of Mobasher, Burke, Bhaumik, Williams (2007), Toward Trustworthy Recommender Systems. Their ratings are gone; what
differs is the choice of items. Targets are pushed from the less popular half.
"""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from recsys_ae.histories import Histories

TARGETS = 1
SEGMENT = 10
Row = NDArray[np.int64]


class Planter:
    """Draws profiles in answer to genuine histories, which an attacker can see. One target, one segment, one script for all."""

    def __init__(self, genuine: Histories, rng: Generator) -> None:
        self.rng = rng
        self.n_items = genuine.n_items
        counts = np.bincount(genuine.items, minlength=genuine.n_items)
        self.shares = (counts + 1e-9) / (counts + 1e-9).sum()
        self.by_popularity = np.argsort(-counts, kind="stable")
        met = self.by_popularity[counts[self.by_popularity] > 0]
        self.target = rng.choice(met[len(met) // 2 :], TARGETS, replace=False)
        matrix = genuine.matrix.tocsc()
        theme = int(rng.choice(self.by_popularity[: max(20, len(met) // 20)]))
        norms = np.sqrt(np.maximum(counts, 1))
        likeness = (matrix.T @ matrix[:, [theme]]).toarray()[:, 0] / norms
        self.segment = np.argsort(-likeness, kind="stable")[:SEGMENT]
        self.script = rng.permutation(self.by_popularity)

    def profile(self, kind: str, filler: int) -> Row:
        """The items of one profile, its filler about so many."""
        return np.unique(KINDS[kind](self, filler))

    def _any(self, size: int) -> Row:
        return self.rng.choice(self.n_items, min(size, self.n_items), replace=False)

    def random(self, filler: int) -> Row:
        """The target, and fillers drawn alike."""
        return np.concatenate([self.target, self._any(filler)])

    def average(self, filler: int) -> Row:
        """The target, and each filler by its own share of the interactions, as the attack rates each by its own mean."""
        return np.concatenate([self.target, self.rng.choice(self.n_items, filler, replace=False, p=self.shares)])

    def bandwagon(self, filler: int) -> Row:
        """The target, the most popular items as half of the filler, the rest drawn alike."""
        selected = self.by_popularity[: filler // 2]
        return np.concatenate([self.target, selected, self._any(filler - len(selected))])

    def segment_attack(self, filler: int) -> Row:
        """The target, the ten items of one taste, fillers drawn alike."""
        return np.concatenate([self.target, self.segment, self._any(filler)])

    def love_hate(self, filler: int) -> Row:
        """Fillers drawn alike, which are loved; the hated target leaves no trace in a log of what is liked."""
        return self._any(filler)

    def sequence(self, filler: int) -> Row:
        """A bot that walks through the ids."""
        return (int(self.rng.integers(self.n_items)) + np.arange(filler)) % self.n_items

    def repeat(self, filler: int) -> Row:
        """A bot that replays one list, of items met by somebody."""
        return self.script[:filler]


KINDS: dict[str, Callable[[Planter, int], Row]] = {
    "random": Planter.random,
    "average": Planter.average,
    "bandwagon": Planter.bandwagon,
    "segment": Planter.segment_attack,
    "love_hate": Planter.love_hate,
    "bot, sequential ids": Planter.sequence,
    "bot, one list": Planter.repeat,
}


def planted(planter: Planter, kinds: list[str], sizes: tuple[int, ...], each: int) -> tuple[Histories, list[tuple[str, int]]]:
    """So many profiles of every kind and size, and what each row is."""
    what = [(kind, size) for kind in kinds for size in sizes for _ in range(each)]
    rows = [planter.profile(kind, size).tolist() for kind, size in what]
    return Histories.from_rows(rows, planter.n_items), what
