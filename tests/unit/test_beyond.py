"""Metrics beyond accuracy against slow and obvious references, and by hand."""

import math
import tracemalloc
from itertools import combinations

import numpy as np
import pytest

from recsys_ae import Histories, Holdout, IdMap, rank_top_k
from recsys_ae import beyond as b
from recsys_ae.evaluation import Evaluation, judge
from recsys_ae.ranking import Ranking
from tests.worlds import fitted

ITEMS, KS = 30, (1, 3, 10, 50)
CATEGORIES = [tuple({0: ("a", "b"), 1: ("b",), 2: (), 3: ("c", "a", "a")}[i % 4]) for i in range(ITEMS)]


def world(seed: int) -> tuple[Histories, Histories, Histories, np.ndarray]:
    """Training rows, histories, what is held out, and lists of up to 12 items, some shorter, one empty."""
    rng = np.random.default_rng(seed)
    chance = 1 / (1 + np.arange(ITEMS))
    chance[-2:] = 0  # that nobody had
    train = [np.flatnonzero(rng.random(ITEMS) < chance * 3).tolist() for _ in range(50)]
    fold_in = [rng.choice(ITEMS, rng.integers(0, 6), replace=False).tolist() for _ in range(20)]
    rest = [[i for i in range(ITEMS) if i not in row] for row in fold_in]
    held_out = [rng.choice(row, rng.integers(0, 8), replace=False).tolist() for row in rest]
    lists = np.full((20, 12), -1, np.int32)
    for row, (own, n) in enumerate(zip(rest, rng.integers(1, 13, 20), strict=True)):
        lists[row, :n] = rng.permutation(own)[:n]
    lists[3] = -1
    weights = [rng.integers(1, 5, len(row)).tolist() for row in fold_in]
    return (
        Histories.from_rows(train, ITEMS),
        Histories.from_rows(fold_in, ITEMS, weights),
        Histories.from_rows(held_out, ITEMS),
        lists,
    )


def naive(name: str, row: int, k: int, seed: int) -> float:
    """One user's metric straight from its definition; NaN where there is none."""
    train, fold_in, held_out, lists = world(seed)
    users = [set(train.row(u).tolist()) for u in range(len(train))]
    popularity = [sum(i in u for u in users) for i in range(ITEMS)]
    shown = [int(i) for i in lists[row][:k] if i >= 0]
    history = fold_in.row(row).tolist()
    if not shown and name != "serendipity" and name != "calibration":
        return math.nan
    match name:
        case "novelty":
            return sum(-math.log2((popularity[i] + 1) / (len(users) + 1)) for i in shown) / len(shown)
        case "arp":
            return sum(popularity[i] for i in shown) / len(shown)
        case "aplt":
            return sum(i in tail(popularity) for i in shown) / len(shown)
        case "popularity_lift":
            own = sum(popularity[i] for i in history) / len(history) if history else 0
            return sum(popularity[i] for i in shown) / len(shown) / own - 1 if own else math.nan
        case "diversity":
            if len(shown) < 2:
                return math.nan
            pairs = [1 - cosine(users, i, j) for i, j in combinations(shown, 2)]
            return sum(pairs) / len(pairs)
        case "serendipity":
            new = sorted((i for i in range(ITEMS) if i not in history), key=lambda i: (-popularity[i], i))
            return len(set(shown) & set(held_out.row(row).tolist()) - set(new[:k])) / k
        case "calibration":
            weights = fold_in.weights[fold_in.indptr[row] : fold_in.indptr[row + 1]].tolist()
            p, q = shares(history, weights), shares(shown, [1.0] * len(shown))
            if not p:
                return math.nan
            return sum(v * math.log(v / (0.99 * q.get(g, 0.0) + 0.01 * v)) for g, v in p.items())
    raise AssertionError(f"no naive {name}: write one")


def tail(popularity: list[int]) -> set[int]:
    """What remains once the most popular items have four fifths of all interactions."""
    found, before = set(), 0
    for item in sorted(range(ITEMS), key=lambda i: (-popularity[i], i)):
        if before >= 0.8 * sum(popularity):
            found.add(item)
        before += popularity[item]
    return found


def cosine(users: list[set[int]], one: int, other: int) -> float:
    a, c = ({u for u, row in enumerate(users) if i in row} for i in (one, other))
    return len(a & c) / math.sqrt(len(a) * len(c)) if a and c else 0.0


def shares(items: list[int], weights: list[float]) -> dict[str, float]:
    found: dict[str, float] = {}
    for item, weight in zip(items, weights, strict=True):
        for name in set(CATEGORIES[item]):
            found[name] = found.get(name, 0.0) + weight / len(set(CATEGORIES[item]))
    total = sum(found.values())
    return {name: value / total for name, value in found.items()}


def found(seed: int) -> dict[str, np.ndarray]:
    train, fold_in, held_out, lists = world(seed)
    catalogue = b.Catalogue.of(train, CATEGORIES)
    hits = np.array([[i in held_out.row(u) for i in row] for u, row in enumerate(lists)])
    return b.beyond(lists, hits, KS, catalogue, fold_in)


@pytest.mark.parametrize("name", b.BEYOND)
@pytest.mark.parametrize("seed", [0, 1])
def test_equals_the_definition(name: str, seed: int) -> None:
    expected = [[naive(name, row, k, seed) for k in KS] for row in range(20)]
    np.testing.assert_allclose(found(seed)[name], expected, rtol=1e-5, atol=1e-6)


def test_diversity_does_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = found(0)["diversity"]
    monkeypatch.setattr(b, "ROWS_AT_ONCE", 3)
    np.testing.assert_allclose(found(0)["diversity"], whole, rtol=1e-6)


@pytest.mark.parametrize("cells", [1, 20])
def test_calibration_does_not_depend_on_the_blocks(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = found(0)["calibration"]
    monkeypatch.setattr(b, "CELLS_AT_ONCE", cells)
    np.testing.assert_array_equal(found(0)["calibration"], whole)


def test_many_categories_are_never_dense_for_all_users() -> None:
    n = 4_000
    train = Histories.from_rows([range(n)], n)
    catalogue = b.Catalogue.of(train, [(f"author {i}",) for i in range(n)])
    lists = np.arange(2 * n, dtype=np.int32).reshape(n, 2) % n
    tracemalloc.start()
    b.calibration(lists, (1, 2), catalogue, Histories.from_rows([[i] for i in range(n)], n))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < n * n * 8  # what one dense array of all would take; a block's are 8 MiB each


def test_items_are_compared_over_evenly_spaced_users_where_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(b, "VECTOR_USERS", 2)
    train = Histories.from_rows([[0, 1], [0], [1], [0, 2]], 3)
    vectors = b.Catalogue.of(train).vectors.toarray()  # of the first user and the last
    np.testing.assert_allclose(vectors, [[2**-0.5, 2**-0.5], [1, 0], [0, 1]], rtol=1e-6)


def test_serendipity_compares_with_what_popularity_would_list() -> None:
    train, fold_in, held_out, lists = world(2)
    popular = rank_top_k(fitted("popularity", train), fold_in, 12).items
    hits = np.array([[i in held_out.row(u) for i in row] for u, row in enumerate(lists)])
    ks = (2, 5, 12)
    got = b.serendipity(lists, ks, hits, b.Catalogue.of(train), fold_in)
    for column, k in enumerate(ks):
        expected = [
            len({int(i) for i in row[:k][h[:k]]} - set(p[:k].tolist())) / k
            for row, h, p in zip(lists, hits, popular, strict=True)
        ]
        assert got[:, column].tolist() == expected
    own = b.serendipity(popular, ks, popular >= 0, b.Catalogue.of(train), fold_in)
    assert not own.any()  # popularity itself surprises nobody


def test_serendipity_among_candidates_compares_with_the_popular_candidates() -> None:
    train = Histories.from_rows([[0, 1, 2], [0, 1], [0]], 4)
    lists, hits = np.array([[2, 3]], np.int32), np.array([[True, True]])
    nothing = Histories.from_rows([[]], 4)
    everything = b.serendipity(lists, (1, 2), hits, b.Catalogue.of(train), nothing)
    assert everything.tolist() == [[1.0, 1.0]]  # popularity lists 0 and 1
    some = b.serendipity(lists, (1, 2), hits, b.Catalogue.of(train), nothing, np.array([False, False, True, True]))
    assert some.tolist() == [[0.0, 0.0]]


def test_a_list_with_the_categories_of_the_history_is_calibrated() -> None:
    train = Histories.from_rows([[0, 1, 2, 3]], 4)
    catalogue = b.Catalogue.of(train, [("a",), ("b",), ("a",), ("b",)])
    history = Histories.from_rows([[0, 1], [0, 1]], 4)
    got = b.calibration(np.array([[2, 3], [2, -1]], np.int32), (2,), catalogue, history)[:, 0]
    assert got[0] == pytest.approx(0, abs=1e-12)
    assert got[1] == pytest.approx(0.5 * math.log(0.5 / (0.99 + 0.005)) + 0.5 * math.log(0.5 / 0.005))


def test_head_middle_and_tail_are_shares_of_the_interactions() -> None:
    rows = [[i] for i, n in enumerate([4, 3, 1, 1, 1, 0]) for _ in range(n)]
    assert b.Catalogue.of(Histories.from_rows(rows, 6)).region.tolist() == [0, 1, 1, 2, 2, 2]


def test_gini_by_hand() -> None:
    assert b.gini(np.array([5, 5, 5])) == 0
    assert b.gini(np.array([0, 0, 9])) == pytest.approx(2 / 3)
    assert b.gini(np.zeros(4, np.int64)) == 0
    x = np.array([3, 0, 1, 7, 7])
    slow = np.abs(x[:, None] - x[None]).sum() / (2 * len(x) ** 2 * x.mean())
    assert b.gini(x) == pytest.approx(slow)


def test_coverage_counts_distinct_items_and_no_padding() -> None:
    holdout = Holdout(IdMap((1, 2)), Histories.from_rows([[7], [7]], 8), Histories.from_rows([[0], [1]], 8))
    items = np.array([[0, 1, 2], [1, 3, -1]], np.int32)
    got = judge(Ranking(items, np.zeros((2, 3), np.float32)), holdout, (1, 3)).overall
    assert (got["coverage@1"], got["coverage@3"]) == (2 / 8, 4 / 8)
    assert b.coverage(np.zeros(8, np.int64)) == 0


def test_jaccard_of_lists() -> None:
    one = np.array([[0, 1, 2], [0, 1, -1], [-1, -1, -1]], np.int32)
    other = np.array([[2, 1, 5], [3, -1, -1], [-1, -1, -1]], np.int32)
    np.testing.assert_array_equal(b.jaccard(one, other), [2 / 4, 0, np.nan])


def evaluation(rows: Histories, held_out: Histories, lists: np.ndarray, train: Histories) -> Evaluation:
    holdout = Holdout(IdMap.of(range(len(rows))), rows, held_out)
    ranking = Ranking(lists, np.zeros(lists.shape, np.float32))
    return judge(ranking, holdout, (2, 40), catalogue=b.Catalogue.of(train, CATEGORIES))


def test_users_without_target_history_or_list_are_left_out_of_what_is_not_defined_for_them() -> None:
    train, fold_in, held_out, lists = world(0)
    got = evaluation(fold_in, held_out, lists, train)
    asked, known = int((held_out.lengths > 0).sum()), int((fold_in.lengths > 0).sum())
    assert 0 < asked < 20 and 0 < known < 20
    assert got.scores["ndcg@40"].users == got.curve("ndcg")[-1].users == asked
    assert got.scores["novelty@40"].users == 19  # one list is empty
    assert got.scores["popularity_lift@40"].users <= known - (fold_in.lengths[3] > 0)
    assert got.scores["coverage@40"].users == 20
    assert all(np.isfinite(score.mean) for score in got.scores.values())


def test_curves_are_the_means_of_the_metric_at_each_k() -> None:
    train, fold_in, held_out, lists = world(1)
    got = evaluation(fold_in, held_out, lists, train)
    assert got.curve_ks == (1, 2, 3, 5, 7, 10, 15, 20, 30)
    at = got.curve_ks.index(2)
    for name in got.curves:
        one, other = got.curve(name)[at], got.scores[f"{name}@2"]
        assert one.users == other.users
        np.testing.assert_allclose([one.mean, one.se], [other.mean, other.se], rtol=1e-9)


def test_ranks_of_what_is_held_out() -> None:
    train, fold_in, held_out, lists = world(0)
    got = evaluation(fold_in, held_out, lists, train)
    slow = [lists[u].tolist().index(i) + 1 if i in lists[u] else 0 for u, i in zip(held_out.rows, held_out.items, strict=True)]
    assert got.ranks.tolist() == slow
    assert got.lists.shape == (20, 12)


def test_diversity_is_of_evenly_spaced_users_where_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    train, fold_in, held_out, lists = world(0)
    whole = evaluation(fold_in, held_out, lists, train).per_user
    monkeypatch.setattr("recsys_ae.evaluation.DIVERSE_USERS", 7)
    monkeypatch.setattr("recsys_ae.evaluation.USERS_AT_ONCE", 8)
    some = evaluation(fold_in, held_out, lists, train).per_user
    every = np.where(np.arange(20) % 3 == 0, whole["diversity@40"], np.nan)
    np.testing.assert_allclose(some["diversity@40"], every, rtol=1e-6)
    np.testing.assert_array_equal(some["novelty@40"], whole["novelty@40"])
