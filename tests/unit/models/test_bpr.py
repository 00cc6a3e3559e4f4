import numpy as np
import torch

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


def test_an_empty_history_is_scored_by_bias_alone() -> None:
    model = fitted("bpr", tastes())
    assert torch.equal(model.score(Histories.from_rows([[]], N_ITEMS))[0], model.tensors()["item_bias"])
