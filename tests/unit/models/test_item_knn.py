import numpy as np
import pytest

from recsys_ae import Histories
from tests.worlds import fitted, ragged


def best_only(similarity: np.ndarray, k: int) -> np.ndarray:
    """The k largest of each row of a matrix without equal entries."""
    np.fill_diagonal(similarity, 0)
    return np.where(similarity >= np.sort(similarity, 1)[:, [-k]], similarity, 0)


def weighed(x: np.ndarray, similarity: str) -> tuple[np.ndarray, np.ndarray]:
    """The two factors of the similarity, (U, I) each, as implicit has them."""
    n_items = x.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        if similarity == "bm25":
            length = 0.25 + 0.75 * x.sum(0) / x.sum(0).mean()
            w = x * 2.2 / (1.2 * length + x) * (np.log(n_items) - np.log1p((x > 0).sum(1, keepdims=True)))
        elif similarity == "tfidf":
            w = np.sqrt(x) * (np.log(n_items) - np.log1p((x > 0).sum(1, keepdims=True)))
            w = np.nan_to_num(w / np.linalg.norm(w, axis=0))
        else:
            w = np.nan_to_num(x / np.linalg.norm(x, axis=0))
    return w, w


@pytest.mark.parametrize("similarity", ["cosine", "tfidf", "bm25"])
@pytest.mark.parametrize("score", ["sum", "average"])
@pytest.mark.parametrize("k", [3, 29])
def test_scores_are_the_similarities_of_the_nearest_items(similarity: str, k: int, score: str) -> None:
    train, histories = ragged(0, 80, 30, longest=20), ragged(1, 9, 30)
    left, right = weighed(train.matrix.toarray().astype(np.float64), similarity)
    nearest, x = best_only(left.T @ right, k), histories.matrix.toarray()
    expected = x @ nearest.T
    if score == "average":
        means = train.matrix.toarray().mean(0)
        expected = means + (x - means) @ nearest.T / nearest.sum(1)
    scores = fitted("item_knn", train, similarity=similarity, neighbours=k, score=score).score(histories)
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_an_item_without_neighbours_scores_zero() -> None:
    model = fitted("item_knn", Histories.from_rows([[0, 1], [0, 1, 2], [3]], 5), score="sum")
    assert model.score(Histories.from_rows([[3], [4], [0, 3]], 5))[:, 3:].eq(0).all()
    assert model.tensors()["neighbours"].shape == (5, 5)  # never more than there are items
