"""Codes, neighbours and maps: planted tastes are found again, measures agree with independent ones."""

import numpy as np
import pytest

from recsys_ae.errors import DataError
from recsys_ae.latent import codes as module
from recsys_ae.latent.codes import item_codes, neighbours, user_codes
from recsys_ae.latent.map import placed, purity, trustworthiness
from recsys_ae.models.base import LatentRecommender
from tests.worlds import N_ITEMS, N_TASTES, fitted, tastes


def clusters(n: int = 120, width: int = 16, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    kind = np.repeat(np.arange(3), n // 3)
    return (rng.normal(size=(3, width))[kind] + 0.1 * rng.normal(size=(n, width))).astype(np.float32), kind


def test_maps_keep_what_is_near_together_and_a_seed_gives_the_same_one() -> None:
    vectors, kind = clusters()
    for method in ("pca", "tsne"):
        places, explained = placed(vectors, method, 0)  # type: ignore[arg-type]
        assert (explained is None) == (method == "tsne")
        np.testing.assert_array_equal(places, placed(vectors, method, 0)[0])  # type: ignore[arg-type]
        middle = np.stack([places[kind == k].mean(0) for k in range(3)])
        nearest = ((places[:, None] - middle) ** 2).sum(2).argmin(1)
        assert (nearest == kind).mean() > 0.95


def test_two_tastes_lie_apart_and_neighbours_share_theirs() -> None:
    train = tastes(120, weighted=False)
    model = fitted("mult_dae", train, epochs=15, learning_rate=0.02)
    taste = np.arange(120) % N_TASTES
    rows = np.flatnonzero(taste < 2)
    users, items = user_codes(model, train.take(rows)), item_codes(model)
    assert users is not None and items is not None
    near, cosines = neighbours(users, 5)
    assert (taste[rows][near] == taste[rows][:, None]).mean() > 0.9
    assert (np.diff(cosines, axis=1) <= 0).all()
    places, _ = placed(users, "pca", 0)
    first, second = (places[taste[rows] == k] for k in range(2))
    apart = np.linalg.norm(first.mean(0) - second.mean(0))
    assert apart > 2 * max(part.std() for part in (first, second))
    near, _ = neighbours(items, 5)
    assert (near % N_TASTES == np.arange(N_ITEMS)[:, None] % N_TASTES).mean() > 0.8


def test_codes_are_the_models_own(monkeypatch: pytest.MonkeyPatch) -> None:
    train = tastes()
    monkeypatch.setattr(module, "ROWS", 5)
    for name in ("mult_vae", "mult_dae"):
        model = fitted(name, train)
        assert isinstance(model, LatentRecommender)
        np.testing.assert_allclose(user_codes(model, train), model.encode(train).mean.numpy(), atol=1e-6)
        np.testing.assert_array_equal(item_codes(model), model.head()[0].numpy())
    als = fitted("als", train)
    users, items = user_codes(als, train), item_codes(als)
    assert users is not None and items is not None
    np.testing.assert_allclose(users @ items.T, als.score(train).numpy(), atol=1e-5)
    assert user_codes(als, train.take(np.arange(0))).shape == (0, users.shape[1])  # type: ignore[union-attr]
    for name in ("popularity", "item_knn"):
        assert user_codes(fitted(name, train), train) is None and item_codes(fitted(name, train)) is None


def test_neighbours_are_the_nearest_by_cosine(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    codes[7] = 3 * codes[5]  # the same direction
    codes[9] = 0
    unit = codes / np.maximum(np.linalg.norm(codes, axis=1, keepdims=True), 1e-12)
    similar = unit @ unit.T
    np.fill_diagonal(similar, -np.inf)
    for held in (2**24, 100):
        monkeypatch.setattr(module, "SIMILARITIES", held)
        near, cosines = neighbours(codes, 4)
        np.testing.assert_allclose(cosines, -np.sort(-similar, axis=1)[:, :4], atol=1e-6)
        assert near[5, 0] == 7 and near[7, 0] == 5
        assert (near != np.arange(40)[:, None]).all()
    assert near[9].tolist() == [0, 1, 2, 3]  # all are equally far from nothing
    assert neighbours(codes[:3], 10)[0].shape == (3, 2)
    assert neighbours(codes[:1], 10)[0].shape == (1, 0)


def test_trustworthiness_is_scikit_learns() -> None:
    from sklearn.manifold import trustworthiness as independent

    rng = np.random.default_rng(1)
    codes = rng.normal(size=(300, 9)).astype(np.float32)
    for places in (codes[:, :2], rng.normal(size=(300, 2)), placed(codes, "pca", 0)[0]):
        expected = independent(codes, places, n_neighbors=7, metric="cosine")
        assert trustworthiness(codes, places, 7) == pytest.approx(expected, abs=2e-6)
    with pytest.raises(DataError, match="k = 150 for 300 points; expected k from 1 to below half"):
        trustworthiness(codes, places, 150)


def test_purity_counts_shared_labels() -> None:
    labels = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 1], [0, 0, 0]], bool)
    near = np.array([[1, 2], [0, 4], [3, 0], [2, 4], [0, 1]])
    own, chance = purity(near, labels)
    # 0: 1 and 0; 1: 1, the fifth has no label; 2: 1/2 and 0; 3: 1/2
    assert own == pytest.approx((1 + 0 + 1 + 0.5 + 0 + 0.5) / 6)
    assert chance == pytest.approx(2 * (1 + 0.5) / 12)  # of the six pairs, each way round
    with pytest.raises(DataError, match="1 points with a label; expected two or more"):
        purity(near, labels & (np.arange(5) == 3)[:, None])


def test_one_point_has_a_place() -> None:
    places, explained = placed(np.ones((1, 4), np.float32), "tsne", 0)
    assert places.shape[0] == 1 and np.isfinite(places).all() and explained is not None


def test_codes_of_zeros_have_a_place() -> None:
    vectors, _ = clusters()
    vectors[:2] = 0
    assert np.isfinite(placed(vectors, "tsne", 0)[0]).all()
