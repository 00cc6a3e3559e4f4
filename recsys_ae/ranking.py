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

SCORES_PER_BATCH = {"cpu": 2**22, "cuda": 2**27}  # of one block: 16 MiB, which a cache holds; 512 MiB
BLOCK = 8  # columns whose maximum stands for them in a wide row
MOST = 8  # times k contenders; with more, most are equal
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
    banned = None if allow is None else torch.from_numpy(~allow).to(model.device)
    lists = []  # on the device until the end
    for start in range(0, len(histories), batch_size):
        block = slice(start, start + batch_size)
        rows = histories.take(block)
        left_out = ([rows] if exclude_seen else []) + ([exclude.take(block)] if exclude is not None else [])
        masked = model.score(rows)
        for seen in left_out:
            mask_(masked, seen)
        if banned is not None:
            masked[:, banned] = -torch.inf
        lists.append(top_k(masked, k))
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
    if scores.shape[1] < NARROW * k:
        return _first(scores, k)
    scores = scores.contiguous()
    rows, columns, failed = _contenders(scores, k)
    values, places = _lists(scores.view(-1)[rows * scores.shape[1] + columns], rows, columns, len(scores), k)
    if failed.any():
        values[failed], places[failed] = _first(scores[failed], k)
    return values, places


def _contenders(scores: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows and columns (N,), in order of row, of all entries that reach a lower bound of their row's k-th largest, of (B, I).

    torch.topk is slow on wide rows. Maxima of blocks of columns are cheap, and so are theirs; the k-th largest maximum is such
    a bound, and only blocks whose maximum reaches it hold entries that do. The third is (B,), rows that fail: too many entries
    are equal, or one is not a number.
    """
    levels = [scores]
    while levels[-1].shape[1] // BLOCK >= NARROW * k // 2:
        wide = levels[-1]
        blocks = wide.shape[1] // BLOCK
        maxima = wide[:, : blocks * BLOCK].reshape(-1, BLOCK, blocks).amax(1)  # of columns b, b + blocks, b + 2 blocks, ...
        levels.append(torch.cat([maxima, wide[:, blocks * BLOCK :]], 1))  # what is left over stands for itself
    bound = levels[-1].topk(k, sorted=False).values.amin(1)  # (B,)
    reached = levels.pop() >= bound[:, None]
    failed = (reached.sum(1) > MOST * k) | bound.isnan()
    rows, columns = (reached & ~failed[:, None]).nonzero(as_tuple=True)
    step = torch.arange(BLOCK, device=scores.device)
    for wide in reversed(levels):
        blocks = wide.shape[1] // BLOCK
        alone = (columns >= blocks)[:, None]
        below = columns[:, None] + torch.where(alone, (BLOCK - 1) * blocks, blocks * step)  # (N, BLOCK)
        found = wide.view(-1).index_select(0, (rows[:, None] * wide.shape[1] + below).view(-1)).view_as(below)
        kept = (found >= bound.index_select(0, rows)[:, None]) & ((step == 0) | ~alone)
        places = kept.view(-1).nonzero()[:, 0]
        rows, columns = rows.index_select(0, places // BLOCK), below.view(-1).index_select(0, places)
        many = rows.bincount(minlength=len(scores)) > MOST * k
        if many.any():
            failed |= many
            rows, columns = rows[~many[rows]], columns[~many[rows]]
    return rows, columns, failed


def _lists(scores: Tensor, rows: Tensor, columns: Tensor, n_rows: int, k: int) -> tuple[Tensor, Tensor]:
    """Values and columns (B, k) of entries (N,) in order of row, of which a row has k or more, or none."""
    counts = rows.bincount(minlength=n_rows)
    width = max(k, int(counts.max())) if n_rows else k
    flat = rows * width + torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
    values = scores.new_full((n_rows * width,), -torch.inf).index_copy_(0, flat, scores).view(n_rows, width)
    places = columns.new_zeros(n_rows * width).index_copy_(0, flat, columns).view(n_rows, width)
    best, order = values.topk(min(k + 1, width))
    found = places.gather(1, order)[:, :k]
    tied = ((best[:, 1:] == best[:, :-1]) & (best[:, 1:] > -torch.inf)).any(1)
    best = best[:, :k].contiguous()
    if tied.any():
        inorder, order = places[tied].sort(dim=1)
        equal, order = values[tied].gather(1, order).sort(dim=1, descending=True, stable=True)
        best[tied], found[tied] = equal[:, :k], inorder.gather(1, order)[:, :k]
    return best, found


def _first(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best of rows (B, I) by topk, of equal ones the first: where many are equal, or rows are narrow."""
    values, columns = scores.topk(k)
    least = values[:, -1:]
    chosen, equal = scores > least, scores == least
    chosen |= equal & (equal.cumsum(1) <= k - chosen.sum(1, keepdim=True))
    whole = chosen.sum(1) == k  # not so where a score is not a number
    places = chosen[whole].nonzero()[:, 1].view(-1, k)
    values[whole], order = scores[whole].gather(1, places).sort(dim=1, descending=True, stable=True)
    columns[whole] = places.gather(1, order)
    return values, columns


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
