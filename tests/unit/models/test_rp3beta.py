import numpy as np
import pytest

from recsys_ae.models import rp3beta
from tests.unit.models.test_item_knn import best_only
from tests.worlds import fitted, ragged


@pytest.mark.parametrize("block", [4, 1024])
@pytest.mark.parametrize(("alpha", "beta", "k"), [(1.0, 0.0, 29), (0.7, 0.5, 4)])
def test_scores_are_those_of_the_walks(alpha: float, beta: float, k: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rp3beta, "BLOCK", block)
    train, histories = ragged(0, 80, 30, longest=20), ragged(1, 9, 30)
    x = train.matrix.toarray().astype(np.float64)
    to_item = x / np.maximum(x.sum(1, keepdims=True), 1e-300)  # from a user
    to_user = x.T / x.sum(0)[:, None]  # from an item
    walks = to_user**alpha @ to_item**alpha / x.sum(0) ** beta
    walks = best_only(walks.T.copy(), k).T
    walks /= walks.sum(1, keepdims=True)
    scores = fitted("rp3beta", train, alpha=alpha, beta=beta, neighbours=k).score(histories)
    np.testing.assert_allclose(scores.numpy(), histories.matrix.toarray() @ walks, rtol=1e-4, atol=1e-6)
