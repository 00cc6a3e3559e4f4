"""Ranking: the one mask-and-top-k that evaluation, batch scoring and the API share."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys_ae.errors import DataError, ModelError
from recsys_ae.histories import Histories

if TYPE_CHECKING:
    from recsys_ae.models.base import Recommender

SCORES_PER_BATCH = {"cpu": 2**23, "cuda": 2**27}  # floats of one block of scores: 32 MiB, what a cache may hold; 512 MiB
BLOCK = 8  # columns whose maximum stands for them in a wide row
NARROW = 8  # rows of fewer than so many times k columns are searched as they are


@dataclass(frozen=True, eq=False)
class Ranking:
    """The k best items of B histories: items (B, k) int32 and scores (B, k) float32, descending, ties by column.

    A row with fewer than k eligible items ends in items -1 with score -inf.
    """

    items: NDArray[np.int32]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.items)

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
    if exclude is not None and (len(exclude), exclude.n_items) != (len(histories), histories.n_items):
        raise DataError(f"exclude has shape ({len(exclude)}, {exclude.n_items}); expected that of the histories")
    if allow is not None and allow.shape != (histories.n_items,):
        raise DataError(f"allow has shape {allow.shape}; expected ({histories.n_items},), one entry an item")
    if batch_size is None:
        batch_size = max(1, min(4_096, SCORES_PER_BATCH[model.device.type] // max(histories.n_items, 1)))
    lists = []  # on the device until the end
    for start in range(0, len(histories), batch_size):
        block = slice(start, start + batch_size)
        rows = histories.take(block)
        masked = model.score(rows)
        for left_out in ([rows] if exclude_seen else []) + ([exclude.take(block)] if exclude is not None else []):
            mask_(masked, left_out)
        if allow is not None:
            masked[:, torch.from_numpy(~allow).to(masked.device)] = -torch.inf
        best, columns = top_k(masked, k)
        lists.append((best, columns.int()))
    items = np.full((len(histories), k), -1, np.int32)
    scores = np.full((len(histories), k), -np.inf, np.float32)
    if lists:
        found, places = (torch.cat(part).cpu().numpy() for part in zip(*lists, strict=True))
        if np.isnan(found).any():  # NaN compares greater than all, so one in the row is one in the list
            raise ModelError(f"{type(model).__name__} gave scores that are not a number; expected finite ones")
        scores[:, : found.shape[1]] = found
        items[:, : found.shape[1]] = np.where(np.isneginf(found), -1, places)
    return Ranking(items, scores)


def mask_(scores: Tensor, histories: Histories) -> None:
    """Set the scores (B, I) of the histories' items to -inf, in place: 0 would still beat a negative score."""
    rows = torch.from_numpy(histories.rows).to(scores.device)
    columns = torch.from_numpy(histories.items.astype(np.int64)).to(scores.device)
    scores[rows, columns] = -torch.inf


def top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Values and columns (B, min(k, I)) of the k best scores (B, I), descending; equal scores in order of column."""
    k = min(k, scores.shape[1])
    if k == 0:
        return scores[:, :0], torch.empty(len(scores), 0, dtype=torch.int64, device=scores.device)
    values, columns, contested = _largest(scores, k)
    # Which of several equal scores were found, and in which order, is left open so far. Few rows have any.
    finite = values > -torch.inf
    contested &= finite[:, -1]
    unordered = ((values[:, 1:] == values[:, :-1]) & finite[:, 1:]).any(1) & ~contested
    if unordered.any():
        places, order = columns[unordered].sort(dim=1)
        values[unordered], order = values[unordered].gather(1, order).sort(dim=1, descending=True, stable=True)
        columns[unordered] = places.gather(1, order)
    if contested.any():
        values[contested], columns[contested] = _first_of_equal(scores[contested], values[contested, -1:], k)
    return values, columns


def _largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Values (B, k) descending and columns of k largest scores, and whether others equal the last of them (B,).

    torch.topk is slow on wide rows. The k largest stand in the k blocks of the largest maxima, and maxima are cheap.
    """
    n = scores.shape[1]
    if n < NARROW * k:
        values, columns = scores.topk(k)
        return values, columns, (scores >= values[:, -1:]).sum(1) > k
    blocks = n // BLOCK
    maxima = scores[:, : blocks * BLOCK].reshape(-1, BLOCK, blocks).amax(1)  # of columns b, b + blocks, b + 2 blocks, ...
    _, best, _ = _largest(maxima, k)
    starts = blocks * torch.arange(BLOCK, device=scores.device)
    rest = torch.arange(blocks * BLOCK, n, device=scores.device).expand(len(scores), -1)
    candidates = torch.cat([(best[:, None, :] + starts[:, None]).flatten(1), rest], 1)
    found = scores.gather(1, candidates)
    values, places = found.topk(k)
    least = values[:, -1:]
    contested = ((found >= least).sum(1) > k) | ((maxima >= least).sum(1) > k)
    return values, candidates.gather(1, places), contested


def _first_of_equal(scores: Tensor, least: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best of rows (B, I) in which more than k scores are at least `least` (B, 1), the k-th: the first of the equal."""
    chosen, equal = scores > least, scores == least
    chosen |= equal & (equal.cumsum(1) <= k - chosen.sum(1, keepdim=True))
    columns = chosen.nonzero()[:, 1].view(-1, k)
    values, order = scores.gather(1, columns).sort(dim=1, descending=True, stable=True)
    return values, columns.gather(1, order)


def similar_items(model: "Recommender", item: int, n_items: int, k: int, *, allow: NDArray[np.bool_] | None = None) -> Ranking:
    """The k items most similar to one column: the list of a history of that item alone, itself left out, (1, k)."""
    return rank_top_k(model, Histories.from_rows([[item]], n_items), k, allow=allow)


def hits(ranking: Ranking, held_out: Histories) -> NDArray[np.bool_]:
    """Where a ranked item is held out, (U, K)."""
    if not held_out.n_interactions:
        return np.zeros(ranking.items.shape, np.bool_)
    wanted = np.unique(held_out.rows * held_out.n_items + held_out.items)
    keys = np.arange(len(ranking))[:, None] * held_out.n_items + ranking.items
    place = np.minimum(np.searchsorted(wanted, keys), len(wanted) - 1)
    return (wanted[place] == keys) & (ranking.items >= 0)
