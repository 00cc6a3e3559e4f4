"""Ranking: the one mask-and-top-k that evaluation, batch scoring and the API share."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys_ae.errors import DataError, ModelError
from recsys_ae.histories import Histories
from recsys_ae.masks import masked_
from recsys_ae.pruning import PrunedProducts
from recsys_ae.top_k import top_k

if TYPE_CHECKING:
    from recsys_ae.models.base import Recommender

SCORES_PER_BATCH = {"cpu": 2**24, "cuda": 2**27}  # of one block: 64 MiB, 512 MiB


@dataclass(frozen=True, eq=False)
class Ranking:
    """The k best items of B histories: items (B, k) int32 and scores (B, k) float32, descending, ties by column.

    A row with fewer than k eligible items ends in items -1 with score -inf.
    """

    items: NDArray[np.int32]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.items)

    def part(self, index: int, k: int) -> "Ranking":
        """The first k of one row, (1, k)."""
        return Ranking(self.items[index : index + 1, :k], self.scores[index : index + 1, :k])

    def row(self, index: int) -> tuple[list[int], list[float]]:
        """Items and scores of one row, without the padding."""
        filled = self.items[index] >= 0
        return self.items[index][filled].tolist(), self.scores[index][filled].tolist()


def rank_top_k(
    model: "Recommender",
    histories: Histories,
    k: int,
    *,
    exclude_seen: bool = True,
    exclude: Histories | None = None,
    allow: NDArray[np.bool_] | None = None,
    batch_size: int | None = None,
) -> Ranking:
    """The k best items of each history.

    Args:
        model: fitted, over `histories.n_items` items.
        k: list length, at least 1; may exceed the catalogue.
        exclude_seen: leave out the items of the history itself.
        exclude: further items of each row to leave out, (B, I).
        allow: columns (I,) that may be returned at all; all where None.
        batch_size: rows scored at once; what fits a fixed block of memory where None. The result does not depend on it.
    """
    _check(histories, exclude, allow)
    if batch_size is None:
        batch_size = max(1, min(4_096, SCORES_PER_BATCH[model.device.type] // max(histories.n_items, 1)))
    banned = _banned(allow, model.device)
    pruned = PrunedProducts(k)
    lists = []  # on the device until the end
    for start in range(0, len(histories), batch_size):
        block = slice(start, start + batch_size)
        rows = histories.take(block)
        left_out = _left_out(rows, exclude_seen, None if exclude is None else exclude.take(block))
        best = pruned.top_k(model.factors(rows), left_out, banned) if pruned.pays(rows) else None
        lists.append(top_k(masked_(model.score(rows), left_out, banned), k) if best is None else best)
    return _ranking(lists, len(histories), k)


def rank_scores(
    scores: Tensor,
    histories: Histories,
    k: int,
    *,
    exclude_seen: bool = True,
    exclude: Histories | None = None,
    allow: NDArray[np.bool_] | None = None,
) -> Ranking:
    """As `rank_top_k`, by the scores (B, I) that a model gave for the histories; those left out become -inf in place."""
    _check(histories, exclude, allow)
    masked = masked_(scores, _left_out(histories, exclude_seen, exclude), _banned(allow, scores.device))
    return _ranking([top_k(masked, k)], len(histories), k)


def _check(histories: Histories, exclude: Histories | None, allow: NDArray[np.bool_] | None) -> None:
    if exclude is not None and (len(exclude), exclude.n_items) != (len(histories), histories.n_items):
        raise DataError(f"exclude has shape ({len(exclude)}, {exclude.n_items}); expected that of the histories")
    if allow is not None and allow.shape != (histories.n_items,):
        raise DataError(f"allow has shape {allow.shape}; expected ({histories.n_items},), one entry an item")


def _left_out(rows: Histories, exclude_seen: bool, exclude: Histories | None) -> list[Histories]:
    return ([rows] if exclude_seen else []) + ([exclude] if exclude is not None else [])


def _banned(allow: NDArray[np.bool_] | None, device: torch.device) -> Tensor | None:
    return None if allow is None else torch.from_numpy(~allow).to(device)


def _ranking(lists: list[tuple[Tensor, Tensor]], n_rows: int, k: int) -> Ranking:
    """Values and columns of batches as one ranking. Raises ModelError."""
    items = np.full((n_rows, k), -1, np.int32)
    scores = np.full((n_rows, k), -np.inf, np.float32)
    if lists:
        found, places = (torch.cat(part).cpu().numpy() for part in zip(*lists, strict=True))
        if np.isnan(found).any():  # NaN compares greater than all, so one in the row is one in the list
            raise ModelError("the model gave scores that are not a number; expected finite ones")
        scores[:, : found.shape[1]] = found
        items[:, : found.shape[1]] = np.where(np.isneginf(found), -1, places)
    return Ranking(items, scores)


def similar_items(model: "Recommender", item: int, n_items: int, k: int, *, allow: NDArray[np.bool_] | None = None) -> Ranking:
    """The k items most similar to one column: the list of a history of that item alone, itself left out, (1, k)."""
    return rank_top_k(model, Histories.from_rows([[item]], n_items), k, allow=allow)


def hits(ranking: Ranking, held_out: Histories) -> NDArray[np.bool_]:
    """Where a ranked item is held out, (U, K)."""
    return located(ranking.items, held_out)[0]


def located(items: NDArray[np.int32], held_out: Histories) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
    """Where an item of the lists (U, K) is held out, (U, K); and each held-out item's rank (N,), 0 where it is not listed."""
    ranks = np.zeros(held_out.n_interactions, np.int32)
    if not len(ranks) or not items.size:
        return np.zeros(items.shape, np.bool_), ranks
    wanted = held_out.rows * held_out.n_items + held_out.items
    order = np.argsort(wanted)
    wanted = wanted[order]
    keys = np.arange(len(items))[:, None] * held_out.n_items + items
    place = np.minimum(np.searchsorted(wanted, keys), len(wanted) - 1)
    found = (wanted[place] == keys) & (items >= 0)
    ranks[order[place[found]]] = found.nonzero()[1] + 1
    return found, ranks
