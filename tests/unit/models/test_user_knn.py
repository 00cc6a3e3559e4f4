import numpy as np
import pytest

from recsys_ae.models import user_knn
from tests.worlds import fitted, ragged


@pytest.mark.parametrize("held", [1, 200, 2**24])
@pytest.mark.parametrize("similarity", ["cosine", "idf"])
@pytest.mark.parametrize(("k", "exponent"), [(3, 1.0), (10**6, 2.5)])
def test_scores_are_the_votes_of_the_users_most_alike(
    k: int, exponent: float, similarity: str, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_knn, "SIMILARITIES", held)
    train, histories = ragged(0, 80, 30, longest=20), ragged(1, 9, 30)
    x, h = train.matrix.toarray().astype(np.float64), histories.matrix.toarray().astype(np.float64)
    rarity = np.log(81 / (1 + (x > 0).sum(0))) if similarity == "idf" else np.ones(30)
    norms = np.linalg.norm(h * rarity, axis=1)[:, None] * np.linalg.norm(x * rarity, axis=1)
    cosines = np.divide(h * rarity @ (x * rarity).T, norms, out=np.zeros_like(norms), where=norms > 0)
    expected = np.zeros_like(h)
    for row, own in enumerate(cosines):
        best = np.argsort(-own)[:k]
        expected[row] = own[best] ** exponent @ x[best]
    scores = fitted("user_knn", train, similarity=similarity, neighbours=k, exponent=exponent).score(histories)
    np.testing.assert_allclose(scores.numpy(), expected, rtol=1e-4, atol=1e-5)
