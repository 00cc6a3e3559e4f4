"""Metrics: pure functions on arrays of hits. Each states its denominator.

`hits` (U, K) is 1 where the item at that rank is held out, K at least k; `n_held_out` (U,) is the number of held-out items
of each user, at least 1. Each returns float64 (U,), and equals trec_eval's measure of the name in brackets.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Hits: TypeAlias = NDArray[np.bool_]
Counts: TypeAlias = NDArray[np.int64]
PerUser: TypeAlias = NDArray[np.float64]
Metric: TypeAlias = Callable[[Hits, Counts, int], PerUser]


def recall(hits: Hits, n_held_out: Counts, k: int) -> PerUser:
    """Hits / |held out|. [recall_k]"""
    return hits[:, :k].sum(1) / n_held_out


def capped_recall(hits: Hits, n_held_out: Counts, k: int) -> PerUser:
    """Hits / min(k, |held out|): the Recall@R of Liang et al. 2018, 4.3."""
    return hits[:, :k].sum(1) / np.minimum(n_held_out, k)


def precision(hits: Hits, n_held_out: Counts, k: int) -> PerUser:
    """Hits / k. [P_k]"""
    return np.asarray(hits[:, :k].sum(1) / k, np.float64)


def hit_rate(hits: Hits, n_held_out: Counts, k: int) -> PerUser:
    """1 where anything was hit. [success_k]"""
    return np.asarray(hits[:, :k].any(1), np.float64)


def ndcg(hits: Hits, n_held_out: Counts, k: int) -> PerUser:
    """DCG / ideal DCG over min(k, |held out|): binary gains, discount log2(rank + 1). [ndcg_cut_k]"""
    discounts = 1 / np.log2(np.arange(2, k + 2))
    gained = hits[:, :k] @ discounts[: hits[:, :k].shape[1]]
    ideal = np.cumsum(discounts)[np.minimum(n_held_out, k) - 1]
    return np.asarray(gained / ideal, np.float64)


def average_precision(hits: Hits, n_held_out: Counts, k: int) -> PerUser:
    """Sum of the precisions at each hit / |held out|. [map_cut_k]"""
    cut = hits[:, :k]
    ranks = np.arange(1, cut.shape[1] + 1)
    return np.asarray((cut * np.cumsum(cut, 1) / ranks).sum(1) / n_held_out, np.float64)


def reciprocal_rank(hits: Hits, n_held_out: Counts, k: int) -> PerUser:
    """1 / rank of the first hit among k, 0 without one. [recip_rank of the list cut at k]"""
    cut = hits[:, :k]
    first = cut.argmax(1)
    return np.where(cut.any(1), 1 / (first + 1), 0.0)


METRICS: dict[str, Metric] = {
    "recall": recall,
    "capped_recall": capped_recall,
    "ndcg": ndcg,
    "precision": precision,
    "hit_rate": hit_rate,
    "map": average_precision,
    "mrr": reciprocal_rank,
}
