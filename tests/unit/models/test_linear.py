import numpy as np
import pytest

from recsys_ae import Histories
from recsys_ae.errors import ModelError
from recsys_ae.models import sparse_ease
from tests.worlds import fitted, ragged

SETTINGS = {"regularisation": 0.4, "dropout": 0.3, "user_exponent": 0.7, "item_exponent": 0.2}


def regressions(train: Histories, neighbours: int) -> np.ndarray:
    """Each item's ridge regression on its most similar others, one after the other, in float64."""
    x = train.matrix.toarray().astype(np.float64)
    weights = np.maximum(x.sum(1), 1e-12) ** -SETTINGS["user_exponent"]
    gram = x.T @ (weights[:, None] * x)
    diagonal = gram.diagonal().copy()
    ridge = SETTINGS["regularisation"] * diagonal.mean() + SETTINGS["dropout"] / (1 - SETTINGS["dropout"]) * diagonal
    cosine = gram / np.sqrt(np.outer(diagonal, diagonal))
    b = np.zeros_like(gram)
    for j in range(train.n_items):
        others = [i for i in np.argsort(-cosine[j], kind="stable") if i != j and gram[i, j] > 0][:neighbours]
        b[others, j] = np.linalg.solve(gram[np.ix_(others, others)] + np.diag(ridge[others]), gram[others, j])
    popularity = x.sum(0) ** SETTINGS["item_exponent"]
    return popularity[:, None] * b / popularity


def dense_world() -> Histories:
    """Every two items share a user."""
    return ragged(0, 200, 40, longest=20)


@pytest.mark.parametrize("neighbours", [1, 5, 39])
@pytest.mark.parametrize("entries", [1, 2**24])
def test_sparse_ease_regresses_each_item_on_its_nearest(neighbours: int, entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the items' numbers of neighbours differ."""
    monkeypatch.setattr(sparse_ease, "ENTRIES", entries)
    few = ragged(3, 30, 40, longest=6)
    rows = [*np.split(few.items, few.indptr[1:-1]), *([i, (7 * i + 1) % 40] for i in range(40))]
    for train in (dense_world(), Histories.from_rows(rows, 40)):
        found = fitted("sparse_ease", train, neighbours=neighbours, **SETTINGS)
        singles = found.score(Histories.from_rows([[i] for i in range(40)], 40))
        np.testing.assert_allclose(singles, regressions(train, neighbours), rtol=2e-3, atol=2e-4)


def test_with_all_neighbours_sparse_ease_is_edlae() -> None:
    train = dense_world()
    sparse = fitted("sparse_ease", train, neighbours=40, **SETTINGS).score(train)
    np.testing.assert_allclose(sparse, fitted("edlae", train, **SETTINGS).score(train), rtol=1e-3, atol=1e-3)


def test_edlae_without_its_extras_is_ease() -> None:
    train = dense_world()
    diagonal = float((train.matrix.toarray() ** 2).sum(0).mean())
    plain = fitted("edlae", train, regularisation=20.0 / diagonal, user_exponent=0.0)
    np.testing.assert_allclose(
        plain.score(train), fitted("ease", train, regularisation=20.0).score(train), rtol=1e-3, atol=1e-4
    )


def test_edlae_minimises_the_error_under_dropout() -> None:
    """The closed form is the minimum over B of what is lost on average over the dropout of the predictors (Steck 2020, 2.3)."""
    train = dense_world()
    p = 0.3
    b = fitted("edlae", train, regularisation=1e-6, dropout=p, user_exponent=0.0).tensors()["weights"].double().numpy()
    x = train.matrix.toarray().astype(np.float64)

    def loss(weights: np.ndarray) -> float:
        variance = p / (1 - p) * (x**2).sum(0) @ weights**2  # of inputs that are kept with probability 1 - p, and then enlarged
        return float(((x - x @ weights) ** 2).sum() + variance.sum())

    generator = np.random.default_rng(0)
    for _ in range(20):
        step = 1e-2 * generator.standard_normal(b.shape)
        np.fill_diagonal(step, 0)
        assert loss(b + step) > loss(b)


def test_a_matrix_that_is_not_positive_definite_is_a_clear_error() -> None:
    twins = Histories.from_rows([[0, 1]] * 3, 2, [[1e4, 1e4]] * 3)
    with pytest.raises(ModelError, match=r"2 items is not positive definite.*expected a regularisation greater than"):
        fitted("sparse_ease", twins, regularisation=1e-9)
