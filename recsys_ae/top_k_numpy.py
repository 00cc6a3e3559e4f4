"""The search of `top_k` by numpy, whose partition and sort use a CPU's wide registers, which torch's do not."""

import numpy as np
from numpy.typing import NDArray

from recsys_ae.products import in_threads

BLOCK = 8  # columns whose maximum stands for them in a wide row
WIDE = 400  # columns of the last level of maxima, at least
AT_ONCE = 2**20  # scores: what the caches hold
DENSE = 4  # times k maxima, at least: among fewer the k-th largest would be a low bound
MOST = 8  # times k contenders; with more, most are equal

Scores = NDArray[np.float32]
Places = NDArray[np.int64]
Marks = NDArray[np.bool_]

LAST = np.iinfo(np.int64).max
ALL_BITS = np.int32(0x7FFFFFFF)


def top_k(scores: Scores, k: int) -> tuple[Scores, Places]:
    """As `recsys_ae.top_k.top_k`, k at most I; a score of -0 comes back as 0."""
    values, columns = np.empty((len(scores), k), np.float32), np.empty((len(scores), k), np.int64)

    def search(block: slice) -> None:
        part = scores[block]
        rows, places, failed, _ = contenders(part, k)
        values[block], columns[block] = lists(part.ravel()[rows * part.shape[1] + places], rows, places, len(part), k)
        for row in failed.nonzero()[0]:
            columns[block.start + row] = _first(part[row], k)
            values[block.start + row] = part[row, columns[block.start + row]]

    size = max(1, AT_ONCE // scores.shape[1])
    in_threads(search, [slice(start, start + size) for start in range(0, len(scores), size)])
    return values, columns


def contenders(scores: Scores, k: int) -> tuple[Places, Places, Marks, Scores]:
    """As `recsys_ae.top_k.contenders`. The bound is the k-th largest maximum of blocks of columns."""
    maxima = _maxima(scores, max(WIDE, DENSE * k))
    width = maxima.shape[1]
    bound = np.partition(maxima, width - k, axis=1)[:, width - k :].min(1)  # NaN is sorted last, and stays through min
    return *reaching(scores, bound, MOST * k), bound


def reaching(scores: Scores, bound: Scores, most: int) -> tuple[Places, Places, Marks]:
    """As `recsys_ae.top_k.reaching`; a row fails that has more than `most` entries."""
    places = np.flatnonzero(scores >= bound[:, None])
    rows = places // scores.shape[1]
    columns = places - rows * scores.shape[1]
    many = np.bincount(rows, minlength=len(bound)) > most
    if many.any():
        kept = ~many[rows]
        rows, columns = rows[kept], columns[kept]
    return rows, columns, many | np.isnan(bound)


def lists(scores: Scores, rows: Places, columns: Places, n_rows: int, k: int) -> tuple[Scores, Places]:
    """As `recsys_ae.top_k.lists`; what a row without entries has is no score.

    An entry is one number that orders as its score does, downwards, and among equal scores as its column.
    """
    bits = (scores + np.float32(0)).view(np.int32)  # -0 becomes 0, which it equals
    rising = bits ^ ((bits >> 31) & ALL_BITS)
    counts = np.bincount(rows, minlength=n_rows)
    keys = np.full((n_rows, max(k, int(counts.max(initial=0)))), LAST)
    keys[rows, np.arange(len(rows)) - np.repeat(counts.cumsum() - counts, counts)] = (-rising.astype(np.int64) << 32) + columns
    keys.sort(axis=1)
    best = keys[:, :k]
    found = (-(best >> 32)).astype(np.int32)
    return (found ^ ((found >> 31) & ALL_BITS)).view(np.float32), best & 0xFFFFFFFF


def _maxima(scores: Scores, least: int) -> Scores:
    """The maxima of blocks of columns of (B, I), or those of blocks of them, `least` or more."""
    while (blocks := scores.shape[1] // BLOCK) >= least:
        parts = [scores[:, n * blocks : (n + 1) * blocks] for n in range(BLOCK)]  # columns b, b + blocks, b + 2 blocks, ...
        maxima = np.maximum(parts[0], parts[1])
        for part in parts[2:]:
            np.maximum(maxima, part, out=maxima)
        rest = scores[:, BLOCK * blocks :]  # fewer than BLOCK, which join the first blocks
        np.maximum(maxima[:, : rest.shape[1]], rest, out=maxima[:, : rest.shape[1]])
        scores = maxima
    return scores


def _first(scores: Scores, k: int) -> Places:
    """Columns (k,) of the k best of a row (I,), of equal ones the first; where some are not numbers, those and any others."""
    if (odd := np.isnan(scores)).any():
        return np.argsort(~odd, kind="stable")[:k]
    least = np.partition(scores, len(scores) - k)[len(scores) - k]
    above = np.flatnonzero(scores > least)
    chosen = np.concatenate([above, np.flatnonzero(scores == least)[: k - len(above)]])
    return chosen[np.argsort(-scores[chosen], kind="stable")]
