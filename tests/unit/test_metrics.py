import math

import numpy as np
import pytest
import pytrec_eval

from recsys_ae.metrics import METRICS

KS = (1, 3, 10, 50)
CATALOGUE = 60
# Our name -> trec_eval's measure, from the docstrings of metrics.py.
TREC = {"recall": "recall_{k}", "precision": "P_{k}", "hit_rate": "success_{k}", "ndcg": "ndcg_cut_{k}", "map": "map_cut_{k}"}


def case(seed: int, n_users: int = 40, width: int = 50) -> tuple[list[list[int]], list[set[int]]]:
    """Random lists of `width` distinct items, and random targets of 1 to 30 items."""
    rng = np.random.default_rng(seed)
    lists = [rng.permutation(CATALOGUE)[:width].tolist() for _ in range(n_users)]
    wanted = [set(rng.choice(CATALOGUE, int(rng.integers(1, 31)), replace=False).tolist()) for _ in range(n_users)]
    return lists, wanted


def arrays(lists: list[list[int]], wanted: list[set[int]]) -> tuple[np.ndarray, np.ndarray]:
    hits = np.array([[item in w for item in row] for row, w in zip(lists, wanted, strict=True)])
    return hits, np.array([len(w) for w in wanted])


def naive(name: str, ranked: list[int], wanted: set[int], k: int) -> float:
    """One user's metric straight from its definition."""
    cut = ranked[:k]
    ranks = [rank for rank, item in enumerate(cut, 1) if item in wanted]
    match name:
        case "recall":
            return len(ranks) / len(wanted)
        case "capped_recall":
            return len(ranks) / min(k, len(wanted))
        case "precision":
            return len(ranks) / k
        case "hit_rate":
            return float(bool(ranks))
        case "mrr":
            return 1 / ranks[0] if ranks else 0.0
        case "map":
            return sum(n / rank for n, rank in enumerate(ranks, 1)) / len(wanted)
        case "ndcg":
            ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(wanted)) + 1))
            return sum(1 / math.log2(rank + 1) for rank in ranks) / ideal
    raise AssertionError(f"no naive {name}: write one")


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("k", KS)
def test_equals_the_definition(name: str, k: int) -> None:
    lists, wanted = case(k)
    found = METRICS[name](*arrays(lists, wanted), k)
    expected = [naive(name, ranked, w, k) for ranked, w in zip(lists, wanted, strict=True)]
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("k", KS)
@pytest.mark.parametrize("name", [*TREC, "mrr"])
def test_equals_trec_eval(name: str, k: int) -> None:
    lists, wanted = case(100 + k)
    measure = TREC.get(name, "recip_rank").format(k=k)
    cut = k if name == "mrr" else CATALOGUE
    relevant = {f"u{u}": {f"i{i}": 1 for i in w} for u, w in enumerate(wanted)}
    run = {f"u{u}": {f"i{i}": -float(rank) for rank, i in enumerate(row[:cut])} for u, row in enumerate(lists)}
    judged = pytrec_eval.RelevanceEvaluator(relevant, {measure.replace(f"_{k}", f".{k}")}).evaluate(run)
    expected = [judged[f"u{u}"][measure] for u in range(len(lists))]
    np.testing.assert_allclose(METRICS[name](*arrays(lists, wanted), k), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_a_list_shorter_than_k_counts_as_missed(name: str) -> None:
    """Where k exceeds the catalogue, hits are narrower than k."""
    lists, wanted = case(7, width=8)
    expected = [naive(name, ranked, w, 20) for ranked, w in zip(lists, wanted, strict=True)]
    np.testing.assert_allclose(METRICS[name](*arrays(lists, wanted), 20), expected, rtol=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_worst_and_best_list(name: str) -> None:
    perfect = METRICS[name](np.ones((1, 5), np.bool_), np.array([5]), 5)
    missed = METRICS[name](np.zeros((1, 5), np.bool_), np.array([5]), 5)
    np.testing.assert_allclose([perfect[0], missed[0]], [1, 0])


def test_capped_recall_of_a_full_list_is_one_where_recall_is_not() -> None:
    hits, n_held_out = np.ones((1, 5), np.bool_), np.array([20])
    assert METRICS["capped_recall"](hits, n_held_out, 5)[0] == 1.0
    assert METRICS["recall"](hits, n_held_out, 5)[0] == 0.25
