"""Greedy re-ranking against brute force that writes the objectives down as the papers do."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from recsys_ae import Histories, calibrate, diversify, rank_top_k
from recsys_ae.beyond import SMOOTHING, Catalogue, calibration, category_shares
from recsys_ae.errors import DataError
from recsys_ae.models.als import ALS, ALSConfig
from recsys_ae.models.ease import EASE, EASEConfig
from recsys_ae.ranking import Ranking
from recsys_ae.reranking import calibrated, candidates, item_cosines, mmr, relevance


def descending(rng: np.random.Generator, n: int) -> np.ndarray:
    """Relevances (n,), some of them equal."""
    return -np.sort(-rng.integers(0, 5, n) / 4)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 9), k=st.integers(1, 12), diversity=st.sampled_from([0, 0.2, 0.7, 1]))
def test_mmr_is_that_of_carbonell_and_goldstein(seed: int, n: int, k: int, diversity: float) -> None:
    rng = np.random.default_rng(seed)
    relevances, vectors = descending(rng, n), rng.integers(-2, 3, (n, 3)).astype(float)
    similarity = vectors @ vectors.T
    chosen: list[int] = []
    for _ in range(min(k, n)):
        left = [i for i in range(n) if i not in chosen]
        chosen.append(
            max(
                left,
                key=lambda i: (
                    (1 - diversity) * relevances[i] - diversity * max((similarity[i, j] for j in chosen), default=0.0),
                    -i,
                ),
            )
        )
    assert mmr(relevances, similarity, k, diversity).tolist() == chosen
    if diversity == 0:
        assert chosen == list(range(min(k, n)))


def divergence(target: np.ndarray, listed: np.ndarray) -> float:
    """KL(p || (1 - a) q + a p), q the mean of those rows (n, G) that have a category."""
    q = listed.sum(0) / max((listed.sum(1) > 0).sum(), 1)
    mixed = (1 - SMOOTHING) * q + SMOOTHING * target
    return float(sum(p * np.log(p / m) for p, m in zip(target, mixed, strict=True) if p > 0))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 9), k=st.integers(1, 12), strength=st.sampled_from([0, 0.3, 0.9, 1]))
def test_calibration_is_that_of_steck(seed: int, n: int, k: int, strength: float) -> None:
    rng = np.random.default_rng(seed)
    relevances, shares = descending(rng, n), (rng.random((n, 4)) < 0.4).astype(float)
    shares /= np.maximum(shares.sum(1, keepdims=True), 1)
    target = rng.integers(0, 3, 4) + np.array([1.0, 0, 0, 0])
    target /= target.sum()
    found = calibrated(relevances, csr_array(shares), target, k, strength).tolist()
    assert len(found) == len(set(found)) == min(k, n)
    for place in range(len(found)):

        def value(i: int, chosen: list[int] = found[:place]) -> float:
            listed = [*chosen, i]
            return float((1 - strength) * relevances[listed].sum() - strength * divergence(target, shares[listed]))

        left = [i for i in range(n) if i not in found[:place]]
        assert value(found[place]) == pytest.approx(max(map(value, left)), abs=1e-9)
    if strength == 0:
        assert found == list(range(min(k, n)))


def ranked(scores: list[float]) -> Ranking:
    """Items 0, 1, 2, ... with those scores."""
    return Ranking(np.arange(len(scores), dtype=np.int32)[None], np.array([scores], np.float32))


def test_a_diverse_list_takes_the_best_of_each_kind_first() -> None:
    factors = torch.tensor([[1.0, 0.0], [2.0, 0.1], [1.0, 0.05], [0.0, 1.0], [0.0, 3.0]])
    model = ALS(ALSConfig(factors=2), 5).restore({"item_factors": factors})
    ranking = ranked([0.9, 0.85, 0.8, 0.3, 0.1])
    assert diversify(model, ranking, 3, 0.0).row(0)[0] == [0, 1, 2]
    items, scores = diversify(model, ranking, 3, 0.6).row(0)
    assert items == [0, 3, 1]
    assert scores == [ranking.scores[0][item] for item in items]


def test_a_calibrated_list_has_the_categories_of_the_history() -> None:
    names = [("a",)] * 6 + [("b",)] * 4 + [()]
    shares = category_shares(names)[1]
    history = Histories.from_rows([[0, 1, 6]], 11)
    ranking = Ranking(np.array([[2, 3, 4, 5, 7, 8, 10]], np.int32), np.array([[7, 6, 5, 4, 3, 2, 1]], np.float32))
    found = calibrate(ranking, history, shares, 3, 0.99)
    assert sorted(found.row(0)[0]) == [2, 3, 7]
    catalogue = Catalogue.of(history, names)
    plain, own = (float(calibration(lists, [3], catalogue, history)[0, 0]) for lists in (ranking.items, found.items))
    assert own == pytest.approx(0, abs=1e-9) and plain > 1
    assert calibrate(ranking, Histories.from_rows([[10]], 11), shares, 3, 0.99).row(0)[0] == [2, 3, 4]
    assert calibrate(ranking, Histories.from_rows([[]], 11), shares, 3, 0.99).row(0)[0] == [2, 3, 4]
    assert calibrate(ranking, history, category_shares([()] * 11)[1], 3, 0.99).row(0)[0] == [2, 3, 4]


def test_items_are_alike_that_say_alike() -> None:
    weights = torch.zeros(5, 5)
    weights[0, 2], weights[1, 2], weights[3, 4] = 1.0, 2.0, 1.0  # 0 and 1 speak for 2; 3 for 4; 2 and 4 for nothing
    cosines = item_cosines(EASE(EASEConfig(), 5).restore({"weights": weights}), [0, 1, 3, 4])
    np.testing.assert_allclose(cosines, [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])


def test_relevance_goes_from_1_to_0() -> None:
    assert relevance(np.array([3.0, 2.0, -1.0], np.float32)).tolist() == [1.0, 0.75, 0.0]
    assert relevance(np.array([2.0, 2.0])).tolist() == [1.0, 1.0]
    assert len(relevance(np.array([]))) == 0


def test_candidates() -> None:
    assert [candidates(k) for k in (1, 10, 1_000)] == [4, 40, 1_500]


def test_padding_is_no_candidate_and_one_list_at_a_time() -> None:
    model = EASE(EASEConfig(), 5).restore({"weights": torch.eye(5)})
    history = Histories.from_rows([[0, 1]], 5)
    short = rank_top_k(model, history, 9)
    for found in (diversify(model, short, 9, 0.5), calibrate(short, history, category_shares([("a",)] * 5)[1], 9, 0.5)):
        assert sorted(found.row(0)[0]) == [2, 3, 4]
    with pytest.raises(DataError, match="2 lists"):
        diversify(model, rank_top_k(model, Histories.from_rows([[0], [1]], 5), 3), 3, 0.5)
