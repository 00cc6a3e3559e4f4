"""Explanation: what each item of a history has to say for each item of a list made from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys_ae.errors import DataError
from recsys_ae.histories import Histories

if TYPE_CHECKING:
    from recsys_ae.models.base import Recommender

CELLS = 2**24  # of the histories and scores held at once


@dataclass(frozen=True, eq=False)
class Influences:
    """By how much the scores of J items hang on each of the L distinct items of a history.

    history (L,) int32, columns, ascending; values (L, J) float32, in the units of the scores: what the score of the item loses
    where that item of the history goes. Negative where it speaks against the item.
    """

    history: NDArray[np.int32]
    values: NDArray[np.float32]

    def strongest(self, item: int, most: int) -> list[tuple[int, float]]:
        """Column and influence of at most `most` items of the history on the item at place `item`, the largest first."""
        own = self.values[:, item]
        best = np.argsort(-own, kind="stable")[:most]
        return list(zip(self.history[best].tolist(), own[best].tolist(), strict=True))


def explain(model: "Recommender", history: Histories, items: Sequence[int] | NDArray[np.integer]) -> Influences:
    """The influence of each item of one history (1, I) on each of `items` (J,), columns.

    Leave-one-out: the score of the whole history less that of the history without the item, of all L such histories in one
    batch. Of a linear model it is the weight of one item on the other, without leaving anything out. Raises DataError for
    other than one history.
    """
    if len(history) != 1:
        raise DataError(f"{len(history)} histories to explain a list by; expected one")
    wanted = torch.as_tensor(np.asarray(items, np.int64))
    own, weights = history.matrix.indices.astype(np.int32), history.matrix.data
    n_items = history.n_items
    if model.linear:
        nothing = model.score(Histories.from_rows([[]], n_items), wanted)
        alone = Histories(np.arange(len(own) + 1), own, weights, n_items)
        return Influences(own, _numbers(model.score(alone, wanted) - nothing))
    whole = model.score(history, wanted)
    size = max(1, CELLS // max(n_items, len(own)))
    blocks = [np.arange(start, min(start + size, len(own))) for start in range(0, len(own), size)]
    parts = [_numbers(whole - model.score(_without(own, weights, block, n_items), wanted)) for block in blocks]
    return Influences(own, np.concatenate([np.empty((0, len(wanted)), np.float32), *parts]))


def _without(items: NDArray[np.int32], weights: NDArray[np.float32], left_out: NDArray[np.int64], n_items: int) -> Histories:
    """A history (L,) without the item at each of the places `left_out` (b,): b rows of L - 1."""
    rest = np.arange(len(items) - 1)
    places = (rest + (rest >= left_out[:, None])).ravel()
    indptr = np.arange(len(left_out) + 1) * len(rest)
    return Histories(indptr, items[places], weights[places], n_items)


def _numbers(scores: Tensor) -> NDArray[np.float32]:
    found: NDArray[np.float32] = scores.cpu().numpy()
    return found
