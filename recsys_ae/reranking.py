"""Re-ranking: the same candidates in an order that looks at the list as a whole. Greedy, on one user's best items.

Relevance is the score brought to 0 for the last candidate and 1 for the first. Candidates are in order of score; of equal
values the better ranked candidate is taken, so that strength 0 gives the plain list.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recsys_ae.beyond import SMOOTHING
from recsys_ae.errors import DataError
from recsys_ae.histories import Histories
from recsys_ae.ranking import Ranking

if TYPE_CHECKING:
    from recsys_ae.models.base import Recommender

TIMES, MORE = 4, 500

Numbers = NDArray[np.float64]
Places = NDArray[np.int64]


def candidates(k: int) -> int:
    """How many of the best items a list of k is chosen from: 4 k, but no more than 500 beyond k."""
    return min(TIMES * k, k + MORE)


def diversify(model: "Recommender", ranking: Ranking, k: int, diversity: float) -> Ranking:
    """The list of k of one user's candidates, a ranking (1, C), by maximal marginal relevance; see `mmr`.

    Scores stay the model's.
    """
    items, scores = _one(ranking)
    if diversity == 0 or not len(items):
        return _at(ranking, np.arange(min(k, len(items))))
    return _at(ranking, mmr(relevance(scores), item_cosines(model, items), k, diversity))


def calibrate(ranking: Ranking, history: Histories, categories: csr_array, k: int, strength: float) -> Ranking:
    """The list of k of one user's candidates, a ranking (1, C), whose categories are those of the history; see `calibrated`.

    `categories` (I, G) has rows that sum to 1, or to 0 where nothing is known of an item. Where nothing is known of the whole
    history (1, I), the plain list. Scores stay the model's.
    """
    items, scores = _one(ranking)
    liked = np.asarray((history.matrix @ categories).sum(0), np.float64)
    if strength == 0 or not liked.any():
        return _at(ranking, np.arange(min(k, len(items))))
    return _at(ranking, calibrated(relevance(scores), csr_array(categories[items]), liked / liked.sum(), k, strength))


def mmr(relevances: Numbers, similarity: Numbers, k: int, diversity: float) -> Places:
    """Places (min(k, C),) of C candidates: each next one has the largest

        (1 - diversity) relevance_i - diversity max_{j chosen} similarity_ij

    Carbonell & Goldstein 1998, The Use of MMR, with lambda = 1 - diversity; `relevances` (C,), `similarity` (C, C).
    """
    chosen = np.empty(min(k, len(relevances)), np.int64)
    worth, nearest = (1 - diversity) * relevances, np.zeros(len(relevances))
    for place in range(len(chosen)):
        best = int(np.argmax(worth - diversity * nearest))
        chosen[place], worth[best] = best, -np.inf
        nearest = np.maximum(nearest, similarity[best]) if place else similarity[best].copy()
    return chosen


def calibrated(relevances: Numbers, categories: csr_array, target: Numbers, k: int, strength: float) -> Places:
    """Places (min(k, C),) of C candidates: each next one gives the list the largest

        (1 - strength) sum_i relevance_i - strength KL(p || (1 - a) q + a p)

    with a = 0.01, p = `target` (G,) the history's distribution over categories and q that of the list, the mean of its items'
    rows of `categories` (C, G), those that have any. Steck 2018, Calibrated Recommendations, eq. 6, 7 and 9.
    """
    liked = target > 0
    p, own = target[liked], csr_array(categories[:, np.flatnonzero(liked)])
    rows = np.repeat(np.arange(own.shape[0]), np.diff(own.indptr))
    known = np.diff(categories.indptr) > 0  # an item of other categories counts in q too
    chosen = np.empty(min(k, len(relevances)), np.int64)
    worth = (1 - strength) * relevances
    total, n = np.zeros(len(p)), 0  # of the list so far: q = total / n
    for place in range(len(chosen)):
        # sum p log((1 - a) q + a p) after one more item: the same for all but for the categories that an item has.
        before = (1 - SMOOTHING) * total + SMOOTHING * (n + 1) * p
        after = before[own.indices] + (1 - SMOOTHING) * own.data
        gains = np.bincount(rows, p[own.indices] * np.log(after / before[own.indices]), len(worth))
        likelihood = np.where(known, p @ np.log(before / (n + 1)) + gains, _likelihood(p, total, n))
        best = int(np.argmax(worth + strength * likelihood))
        chosen[place], worth[best] = best, -np.inf
        if known[best]:
            entries = slice(own.indptr[best], own.indptr[best + 1])
            np.add.at(total, own.indices[entries], own.data[entries])
            n += 1
    return chosen


def _likelihood(p: Numbers, total: Numbers, n: int) -> float:
    """sum p log((1 - a) q + a p), the part of -KL that depends on the list."""
    return float(p @ np.log((1 - SMOOTHING) * total / max(n, 1) + SMOOTHING * p))


def relevance(scores: NDArray[np.floating]) -> Numbers:
    """Scores (C,) as numbers from 0 to 1; all 1 where they are equal."""
    wide = scores.astype(np.float64)
    span = np.ptp(wide) if len(wide) else 0.0
    return (wide - wide.min()) / span if span > 0 else np.ones(len(wide))


def item_cosines(model: "Recommender", items: Sequence[int] | NDArray[np.integer]) -> Numbers:
    """Cosines (C, C) between items, columns: of their rows in the last layer where scores are inner products with such rows,
    else of what each of them alone adds to the scores of all items. 0 for an item of which the model knows nothing."""
    n_items = model.n_items
    nothing = Histories.from_rows([[]], n_items)
    factors = model.factors(nothing)
    if factors is not None:
        rows = factors.weight[np.asarray(items, np.int64)]
    else:
        rows = model.score(Histories.from_rows([[int(i)] for i in items], n_items)) - model.score(nothing)
    vectors = rows.detach().cpu().numpy().astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return np.asarray(vectors @ vectors.T)


def _one(ranking: Ranking) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Items and scores of a ranking of one row, without the padding."""
    if len(ranking) != 1:
        raise DataError(f"{len(ranking)} lists to re-rank; expected one")
    filled = ranking.items[0] >= 0
    return ranking.items[0][filled], ranking.scores[0][filled]


def _at(ranking: Ranking, places: Places) -> Ranking:
    return Ranking(ranking.items[:, places], ranking.scores[:, places])
