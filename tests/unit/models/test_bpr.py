import numpy as np
import torch
from implicit.cpu.bpr import BayesianPersonalizedRanking
from scipy.sparse import csr_matrix

from recsys_ae import Histories
from tests.worlds import N_ITEMS, fitted, ragged, tastes


def test_a_history_is_the_weighted_mean_of_its_items_and_biases_count() -> None:
    model = fitted("bpr", tastes())
    factors, bias = (model.tensors()[name].numpy() for name in ("item_factors", "item_bias"))
    histories = ragged(4, 15, N_ITEMS)
    x = histories.matrix.toarray()
    users = np.divide(x, x.sum(1, keepdims=True), out=np.zeros_like(x), where=x > 0) @ factors
    np.testing.assert_allclose(model.score(histories).numpy(), users @ factors.T + bias, rtol=1e-4, atol=1e-6)


def test_what_all_met_has_the_greatest_bias() -> None:
    train = Histories.from_rows([[0, 1 + user % 9] for user in range(60)], 10)
    bias = fitted("bpr", train, iterations=100).tensors()["item_bias"]
    assert int(bias.argmax()) == 0


def test_the_mean_of_a_training_history_is_as_long_beside_the_bias_as_the_users_own_factors() -> None:
    """Fitted as implicit does it, b against u is b / s against the mean m, with s the least-squares length of u along m."""
    train = tastes(60)
    engine = BayesianPersonalizedRanking(factors=8, learning_rate=0.05, num_threads=1, iterations=50, random_state=0)
    matrix = train.matrix
    engine.fit(csr_matrix((matrix.data, matrix.indices, matrix.indptr), matrix.shape), show_progress=False)
    x, factors = matrix.toarray(), engine.item_factors[:, :-1]
    means = x / x.sum(1, keepdims=True) @ factors
    length = np.linalg.lstsq(means.reshape(-1, 1), engine.user_factors[:, :-1].ravel())[0].item()
    model = fitted("bpr", train, learning_rate=0.05, regularisation=0.01, iterations=50)
    np.testing.assert_array_equal(model.tensors()["item_factors"].numpy(), factors)
    np.testing.assert_allclose(model.tensors()["item_bias"].numpy(), engine.item_factors[:, -1] / length, rtol=1e-4)
    assert length > 1.1


def test_an_empty_history_is_scored_by_bias_alone() -> None:
    model = fitted("bpr", tastes())
    assert torch.equal(model.score(Histories.from_rows([[]], N_ITEMS))[0], model.tensors()["item_bias"])
