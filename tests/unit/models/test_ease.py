import numpy as np
import pytest
import torch

from recsys_ae import Histories
from recsys_ae.errors import ModelError
from recsys_ae.models import ease
from tests.worlds import fitted, ragged


def closed_form(train: Histories, regularisation: float) -> np.ndarray:
    """Steck 2019, eq. 8, in float64."""
    x = train.matrix.toarray().astype(np.float64)
    p = np.linalg.inv(x.T @ x + regularisation * np.eye(train.n_items))
    b = -p / np.diag(p)
    np.fill_diagonal(b, 0)
    return b


@pytest.mark.parametrize("block", [7, 256])
@pytest.mark.parametrize("regularisation", [5.0, 500.0])
def test_equals_the_closed_form(regularisation: float, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ease, "BLOCK", block)
    train = ragged(0, 200, 60, longest=20)
    model = fitted("ease", train, regularisation=regularisation)
    expected = closed_form(train, regularisation)
    weights = model.tensors()["weights"].numpy()
    np.testing.assert_allclose(weights, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())
    scores = model.score(train).numpy()
    np.testing.assert_allclose(scores, train.matrix.toarray() @ expected, rtol=1e-3, atol=1e-4)


def test_an_item_says_nothing_of_itself() -> None:
    weights = fitted("ease", ragged(0, 50, 300)).tensors()["weights"]
    assert (weights.diagonal() == 0).all()


def test_an_item_never_met_has_no_weight() -> None:
    weights = fitted("ease", Histories.from_rows([[0, 1], [1, 2]], 4)).tensors()["weights"]
    assert (weights[3] == 0).all()
    assert (weights[:, 3] == 0).all()
    assert torch.isfinite(weights).all()


def test_a_matrix_that_is_not_positive_definite_is_a_clear_error() -> None:
    twins = Histories.from_rows([[0, 1]] * 3, 2, [[1e4, 1e4]] * 3)  # two equal columns; lambda is lost in rounding
    with pytest.raises(ModelError, match=r"2 items is not positive definite.*expected a regularisation greater than 0\.001"):
        fitted("ease", twins, regularisation=1e-3)
