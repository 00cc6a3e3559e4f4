"""Metrics beyond accuracy: pure functions on ranked lists and on what is known of the items from training.

`items` (B, K) are lists of columns, -1 where a list is shorter. Each function gives one number a user and length of list,
float64 (B, len(ks)), NaN where the metric is not defined for a user; `ks` ascend and may exceed K, where what there is counts.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recsys_ae.histories import Histories
from recsys_ae.products import threads

HEAD, TAIL = 0.2, 0.8
"""Where the head ends and the tail begins, as shares of all interactions (Abdollahpouri et al. 2020)."""
VECTOR_USERS = 5_000
"""Training users over whom items are compared; of more, evenly spaced ones."""
DIVERSE_USERS = 10_000
"""Users whose lists' diversity is computed; of more, evenly spaced ones."""
SMOOTHING = 0.01
"""The share of the history's own distribution in the list's, so that the divergence is finite (Steck 2018, eq. 7)."""
ROWS_AT_ONCE = 256
CELLS_AT_ONCE = 2**20
"""Users times categories that are held as a dense array, of 8 MiB."""

Lists = NDArray[np.int32]
PerUserAndK = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Items as the training users saw them: `popularity` (I,) is their number of users, `users` how many there are.

    `categories` (I, G) has rows that sum to 1, or to 0 where nothing is known of an item; None without categories.
    """

    users: int
    popularity: NDArray[np.int64]
    train: Histories
    categories: csr_array | None = None
    category_names: tuple[str, ...] = ()

    @classmethod
    def of(cls, train: Histories, categories: Sequence[tuple[str, ...]] = ()) -> "Catalogue":
        """From the training histories (U, I), and each item's categories where any are known."""
        popularity = np.bincount(train.matrix.indices, minlength=train.n_items).astype(np.int64)
        names, shares = category_shares(categories)
        return cls(len(train), popularity, train, shares if names else None, names)

    @cached_property
    def region(self) -> NDArray[np.int8]:
        """0 head, 1 middle, 2 tail (I,): most popular first, the items up to a share of the interactions; ties by column."""
        order = np.argsort(-self.popularity, kind="stable")
        before = np.cumsum(self.popularity[order]) - self.popularity[order]
        region = np.empty(len(order), np.int8)
        total = max(int(self.popularity.sum()), 1)
        region[order] = np.where(before < HEAD * total, 0, np.where(before < TAIL * total, 1, 2))
        return region

    @cached_property
    def vectors(self) -> csr_array:
        """Each item by who had it, (I, V) float32 of length 1, or 0 where nobody had."""
        rows = np.unique(np.linspace(0, max(self.users - 1, 0), min(self.users, VECTOR_USERS)).astype(np.int64))
        had = csr_array(self.train.take(rows).matrix.T)
        had.data[:] = np.repeat(1 / np.sqrt(np.maximum(np.diff(had.indptr), 1)), np.diff(had.indptr))
        return had


def category_shares(categories: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], csr_array]:
    """Names (G,) of all categories, and each item's share of each (I, G): rows that sum to 1, or to 0 where it has none."""
    names = tuple(sorted({name for own in categories for name in own}))
    place = {name: column for column, name in enumerate(names)}
    rows = [[place[name] for name in dict.fromkeys(own)] for own in categories]
    indptr = np.cumsum([0, *map(len, rows)])
    shares = np.repeat(1 / np.maximum(np.diff(indptr), 1), np.diff(indptr))
    columns = np.array([column for row in rows for column in row], np.int64)
    return names, csr_array((shares, columns, indptr), shape=(len(rows), len(names)))


def prefix_sums(items: Lists, ks: Sequence[int], rows: csr_array) -> Iterator[csr_array]:
    """For each k the sum (B, W) of the rows (I, W) of a list's first k items."""
    total: csr_array | None = None
    start = 0
    for k in ks:
        part = items[:, start:k]
        filled = part >= 0
        indptr = np.concatenate([[0], np.cumsum(filled.sum(1))])
        chosen = csr_array((np.ones(indptr[-1], rows.dtype), part[filled], indptr), shape=(len(items), rows.shape[0]))
        more = chosen @ rows
        total = more if total is None else total + more
        start = k
        yield csr_array(total)


def filled(items: Lists, ks: Sequence[int]) -> PerUserAndK:
    """How many items a list has among its first k, (B, len(ks))."""
    return np.stack([(items[:, :k] >= 0).sum(1) for k in ks], 1).astype(np.float64)


def list_mean(items: Lists, ks: Sequence[int], values: NDArray[np.float64]) -> PerUserAndK:
    """The mean of `values` (I,) over the first k items; NaN for an empty list."""
    of_items = np.where(items >= 0, values[items], 0.0)
    sums = np.stack([of_items[:, :k].sum(1) for k in ks], 1)
    return divided(sums, filled(items, ks))


def divided(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0)


def novelty(items: Lists, ks: Sequence[int], catalogue: Catalogue) -> PerUserAndK:
    """Mean self-information of the listed items in bits, -log2 of (users who had it + 1) / (users + 1).

    Zhou et al. 2010, Solving the apparent diversity-accuracy dilemma; the ones are ours, for items that nobody had.
    """
    return list_mean(items, ks, -np.log2((catalogue.popularity + 1) / (catalogue.users + 1)))


def average_popularity(items: Lists, ks: Sequence[int], catalogue: Catalogue) -> PerUserAndK:
    """Mean number of training users of the listed items: ARP (Yin et al. 2012, Challenging the Long Tail Recommendation)."""
    return list_mean(items, ks, catalogue.popularity.astype(np.float64))


def tail_share(items: Lists, ks: Sequence[int], catalogue: Catalogue) -> PerUserAndK:
    """Share of the list that is of the tail: APLT (Abdollahpouri et al. 2019, Managing Popularity Bias, eq. 9)."""
    return list_mean(items, ks, (catalogue.region == 2).astype(np.float64))


def popularity_lift(items: Lists, ks: Sequence[int], catalogue: Catalogue, fold_in: Histories) -> PerUserAndK:
    """Mean popularity of the list over that of the user's own history, less 1; NaN without a history.

    Abdollahpouri et al. 2020, The Connection Between Popularity Bias, Calibration, and Fairness (their PL, by user).
    """
    own = np.asarray(np.bincount(fold_in.rows, catalogue.popularity[fold_in.items], len(fold_in)), np.float64)
    before = divided(own, fold_in.lengths.astype(np.float64))[:, None]
    return divided(average_popularity(items, ks, catalogue), np.nan_to_num(before)) - 1


def diversity(items: Lists, ks: Sequence[int], catalogue: Catalogue) -> PerUserAndK:
    """Mean over all pairs of the list of 1 - the cosine of the two items' training users; NaN for fewer than two items.

    Intra-list diversity: Smyth & McClave 2001; Ziegler et al. 2005. The sum over pairs of unit vectors is that of the squared
    length of their sum. The users are `Catalogue.vectors`'.
    """
    vectors = catalogue.vectors
    known = (np.diff(vectors.indptr) > 0)[items] & (items >= 0)

    def twice_the_pairs(start: int) -> NDArray[np.float64]:
        block = slice(start, start + ROWS_AT_ONCE)
        sums = prefix_sums(items[block], ks, vectors)
        # less each with itself
        return np.stack([lengths_squared(total) - known[block, :k].sum(1) for total, k in zip(sums, ks, strict=True)], 1)

    with ThreadPoolExecutor(threads()) as pool:  # scipy's products hold no lock
        cosines = np.concatenate(list(pool.map(twice_the_pairs, range(0, max(len(items), 1), ROWS_AT_ONCE))))
    n = filled(items, ks)
    return 1 - divided(cosines, n * (n - 1))


def lengths_squared(rows: csr_array) -> NDArray[np.float64]:
    """Of each row (B,), one without repeated columns."""
    before = np.concatenate([[0.0], np.cumsum(rows.data.astype(np.float64) ** 2)])
    return before[rows.indptr[1:]] - before[rows.indptr[:-1]]


def calibration(items: Lists, ks: Sequence[int], catalogue: Catalogue, fold_in: Histories) -> PerUserAndK:
    """Divergence of the list's categories from those of the history, in nats; NaN where history or catalogue has none.

    KL(p || (1 - a) q + a p) with a = 0.01, p(g|u) the mean of the history's p(g|i) by weight and q(g|u) of the list's, each of
    the items with categories: Steck 2018, Calibrated Recommendations, eq. 2 to 7. 0 is perfect.
    """
    if catalogue.categories is None:
        return np.full((len(items), len(ks)), np.nan)
    size = max(CELLS_AT_ONCE // catalogue.categories.shape[1], 1)  # brands or authors are categories too, and many
    blocks = [slice(start, start + size) for start in range(0, len(items), size)]
    found = [_divergence(items[b], ks, catalogue.categories, fold_in.take(b)) for b in blocks]
    return np.concatenate([np.empty((0, len(ks))), *found])


def _divergence(items: Lists, ks: Sequence[int], categories: csr_array, fold_in: Histories) -> PerUserAndK:
    """`calibration` of a block of users."""
    history = (fold_in.matrix @ categories).toarray()
    p = divided(history, history.sum(1, keepdims=True) * np.ones_like(history))
    found = np.empty((len(items), len(ks)))
    for place, sums in enumerate(prefix_sums(items, ks, categories)):
        q = sums.toarray()
        q /= np.maximum(q.sum(1, keepdims=True), 1e-300)
        mixed = (1 - SMOOTHING) * q + SMOOTHING * p
        with np.errstate(divide="ignore", invalid="ignore"):
            found[:, place] = np.where(p > 0, p * np.log(p / mixed), np.where(np.isnan(p), np.nan, 0.0)).sum(1)
    return found


def serendipity(
    items: Lists,
    ks: Sequence[int],
    hits: NDArray[np.bool_],
    catalogue: Catalogue,
    fold_in: Histories,
    allow: NDArray[np.bool_] | None = None,
) -> PerUserAndK:
    """Hits that are not among the k most popular items new to the user, / k; `hits` (B, K) where a listed item is held out.

    Ge, Delgado-Battenfeld, Jannach 2010, Beyond Accuracy, with popularity as the primitive recommender, which ranks the items
    `allow` (I,) has, or all, as the judged model does.
    """
    popularity = catalogue.popularity if allow is None else np.where(allow, catalogue.popularity, -1)
    rank = np.empty(len(popularity), np.int64)
    rank[np.argsort(-popularity, kind="stable")] = np.arange(len(popularity))
    rows, at = hits.nonzero()
    own = rank[items[rows, at]]
    history = fold_in.matrix  # each item once
    lengths = np.diff(history.indptr)
    seen = np.sort((np.repeat(np.arange(len(lengths), dtype=np.int64), lengths) << 32) + rank[history.indices])
    # its place in the user's own list of popular items: without the seen ones before it
    place = own - (np.searchsorted(seen, (rows << 32) + own) - np.searchsorted(seen, rows << 32))
    counts = [np.bincount(rows[(at < k) & (place >= k)], minlength=len(items)) / k for k in ks]
    return np.stack(counts, 1)


def coverage(exposure: NDArray[np.int64]) -> float:
    """Share of the items (I,) that stand in at least one list: exposure counts in how many."""
    return float((exposure > 0).mean()) if len(exposure) else 0.0


def gini(exposure: NDArray[np.int64]) -> float:
    """Inequality of how often each item (I,) is listed: 0 all alike, towards 1 a few have it all; 0 where nothing is listed.

    Gini index by Brown's formula; of recommendations: Fleder & Hosanagar 2009, Adamopoulos & Tuzhilin 2014.
    """
    n, total = len(exposure), int(exposure.sum())
    if not total:
        return 0.0
    ranks = np.arange(1, n + 1)
    return float(((2 * ranks - n - 1) @ np.sort(exposure)) / (n * total))


def jaccard(one: Lists, other: Lists) -> NDArray[np.float64]:
    """What two lists of each user share, over what either has, (B,); NaN where both are empty."""
    rows = np.arange(len(one), dtype=np.int64)[:, None] << 32
    a, b = ((rows + lists)[lists >= 0] for lists in (one, other))
    both = np.intersect1d(a, b, assume_unique=True)
    shared = np.bincount((both >> 32).astype(np.int64), minlength=len(one)).astype(np.float64)
    either = (one >= 0).sum(1) + (other >= 0).sum(1) - shared
    return divided(shared, either)


OVERALL = {"coverage": coverage, "gini": gini}
"""One number of all lists, from the exposure of each candidate."""
BEYOND = (
    "novelty",
    "diversity",
    "serendipity",
    "arp",
    "aplt",
    "popularity_lift",
    "calibration",
)
"""Names of what `beyond` gives, in the order of the report."""


def beyond(
    items: Lists,
    hits: NDArray[np.bool_],
    ks: Sequence[int],
    catalogue: Catalogue,
    fold_in: Histories,
    allow: NDArray[np.bool_] | None = None,
    diverse: NDArray[np.integer] | None = None,
) -> dict[str, PerUserAndK]:
    """All of them by name, diversity of the rows `diverse` alone, or of all."""
    pairs = np.full((len(items), len(ks)), np.nan)
    some = np.arange(len(items)) if diverse is None else diverse
    pairs[some] = diversity(items[some], ks, catalogue)
    return {
        "novelty": novelty(items, ks, catalogue),
        "diversity": pairs,
        "serendipity": serendipity(items, ks, hits, catalogue, fold_in, allow),
        "arp": average_popularity(items, ks, catalogue),
        "aplt": tail_share(items, ks, catalogue),
        "popularity_lift": popularity_lift(items, ks, catalogue, fold_in),
        "calibration": calibration(items, ks, catalogue, fold_in),
    }
