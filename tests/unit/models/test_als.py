import numpy as np
import pytest
import torch

from recsys_ae import Histories
from recsys_ae.models import als
from tests.worlds import N_ITEMS, fitted, ragged, tastes


@pytest.mark.parametrize("alpha", [1.0, 5.0])
@pytest.mark.parametrize("factors", [4, 24])
def test_fold_in_equals_a_naive_solve_for_each_user(alpha: float, factors: int) -> None:
    """Hu, Koren, Volinsky 2008, eq. 4, with c = alpha x and c = 1 for items never met; histories of more and fewer items than
    factors."""
    model = fitted("als", tastes(), alpha=alpha, factors=factors, regularisation=3.0)
    y = model.tensors()["item_factors"].numpy().astype(np.float64)
    histories = ragged(4, 15, N_ITEMS)
    expected = []
    for row in histories.matrix.toarray().astype(np.float64):
        met = row > 0
        confidence = np.where(met, alpha * row, 1.0)
        system = y.T @ np.diag(confidence) @ y + 3.0 * np.eye(y.shape[1])
        expected.append(y @ np.linalg.solve(system, y.T @ (confidence * met)))
    scores = model.score(histories).numpy()
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-5)


def test_only_item_factors_are_kept() -> None:
    assert list(fitted("als", tastes()).tensors()) == ["item_factors"]


def test_an_empty_history_scores_zero() -> None:
    assert (fitted("als", tastes()).score(Histories.from_rows([[]], N_ITEMS)) == 0).all()


def test_other_factors_make_other_users() -> None:
    model, rows = fitted("als", tastes()), ragged(4, 15, N_ITEMS)
    before = model.score(rows)
    model.restore({"item_factors": model.tensors()["item_factors"][:, :2].contiguous()})
    fresh = type(model)(model.config, N_ITEMS).restore(model.tensors())
    torch.testing.assert_close(model.score(rows), fresh.score(rows))
    assert not torch.allclose(model.score(rows), before, atol=1e-3)


def test_how_many_users_are_folded_in_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = fitted("als", tastes())
    expected = model.score(tastes())
    monkeypatch.setattr(als, "SYSTEMS", 1)
    torch.testing.assert_close(model.score(tastes()), expected)
