"""The search of `top_k` by torch, on any device: nothing leaves a GPU."""

import torch
from torch import Tensor

from recsys_ae.top_k_numpy import BLOCK, MOST

NARROW = 8  # rows of fewer than so many times k columns are searched as they are
WIDE = 200  # columns of the last level of maxima, at least


def top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """As `recsys_ae.top_k.top_k`, k at most I."""
    if scores.shape[1] < NARROW * k:
        return _first(scores, k)
    scores = scores.contiguous()
    rows, columns, failed, _ = contenders(scores, k)
    values, places = lists(scores.view(-1)[rows * scores.shape[1] + columns], rows, columns, len(scores), k)
    if failed.any():
        values[failed], places[failed] = _first(scores[failed], k)
    return values, places


def untied(scores: Tensor, k: int) -> tuple[Tensor, Tensor] | None:
    """The k best of rows (B, I) where no two of the k + 1 best of a row are equal; else None."""
    values, columns = scores.topk(min(k + 1, scores.shape[1]))
    if ((values[:, 1:] == values[:, :-1]) & (values[:, 1:] > -torch.inf)).any():
        return None
    return values[:, :k].contiguous(), columns[:, :k]


def contenders(scores: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `recsys_ae.top_k.contenders`.

    torch.topk is slow on wide rows. Maxima of blocks of columns are cheap, and so are theirs; the k-th largest maximum is a
    bound that few entries reach.
    """
    levels = _levels(scores, NARROW * k // 2)
    bound = levels[-1].topk(k, sorted=False).values.amin(1)
    rows, columns, failed = _reaching(levels, bound, MOST * k)
    return rows, columns, failed, bound


def reaching(scores: Tensor, bound: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """As `contenders`, with the bound (B,) given; a row fails that has more than `most` entries."""
    return _reaching(_levels(scores, WIDE), bound, most)


def _levels(scores: Tensor, least: int) -> list[Tensor]:
    """The scores (B, I), the maxima of blocks of their columns, the maxima of those, down to `least` columns or more."""
    levels = [scores.contiguous()]
    while levels[-1].shape[1] // BLOCK >= least:
        wide = levels[-1]
        blocks = wide.shape[1] // BLOCK
        maxima = wide[:, : blocks * BLOCK].reshape(-1, BLOCK, blocks).amax(1)  # of columns b, b + blocks, b + 2 blocks, ...
        levels.append(torch.cat([maxima, wide[:, blocks * BLOCK :]], 1))  # what is left over stands for itself
    return levels


def _reaching(levels: list[Tensor], bound: Tensor, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, columns and failed rows; only blocks whose maximum reaches the bound hold entries that do."""
    reached = levels.pop() >= bound[:, None]
    failed = (reached.sum(1) > most) | bound.isnan()
    rows, columns = (reached & ~failed[:, None]).nonzero(as_tuple=True)
    step = torch.arange(BLOCK, device=bound.device)
    for wide in reversed(levels):
        blocks = wide.shape[1] // BLOCK
        alone = (columns >= blocks)[:, None]
        below = columns[:, None] + torch.where(alone, (BLOCK - 1) * blocks, blocks * step)  # (N, BLOCK)
        found = wide.view(-1).index_select(0, (rows[:, None] * wide.shape[1] + below).view(-1)).view_as(below)
        kept = (found >= bound.index_select(0, rows)[:, None]) & ((step == 0) | ~alone)
        places = kept.view(-1).nonzero()[:, 0]
        rows, columns = rows.index_select(0, places // BLOCK), below.view(-1).index_select(0, places)
        many = rows.bincount(minlength=len(bound)) > most
        if many.any():
            failed |= many
            rows, columns = rows[~many[rows]], columns[~many[rows]]
    return rows, columns, failed


def lists(scores: Tensor, rows: Tensor, columns: Tensor, n_rows: int, k: int) -> tuple[Tensor, Tensor]:
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
    whole = (chosen.sum(1) == k) & ~values.isnan().any(1)
    places = chosen[whole].nonzero()[:, 1].view(-1, k)
    values[whole], order = scores[whole].gather(1, places).sort(dim=1, descending=True, stable=True)
    columns[whole] = places.gather(1, order)
    return values, columns
