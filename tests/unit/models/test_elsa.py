import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from recsys_ae import Histories
from recsys_ae.models.elsa import ELSA, ELSAConfig
from recsys_ae.training.batches import DeviceHistories
from tests.worlds import N_ITEMS, cpu, fitted, tastes

CPU = torch.device("cpu")


def test_items_are_vectors_of_length_one_and_scores_their_products() -> None:
    model = fitted("elsa", tastes())
    (weight,) = model.tensors().values()
    torch.testing.assert_close(weight.norm(dim=1), torch.ones(N_ITEMS))
    x = torch.from_numpy(tastes().matrix.toarray())
    torch.testing.assert_close(model.score(tastes()), x @ weight @ weight.T, rtol=1e-4, atol=1e-4)


def test_the_objective_is_the_distance_of_directions_without_self_similarity() -> None:
    """Against dense rows; the gradient is that along the sphere and across it, of a row of length 1."""
    model = ELSA(ELSAConfig(latent=5), N_ITEMS)
    p = {"encoder.0.weight": 3 * torch.randn(N_ITEMS, 5, generator=torch.Generator().manual_seed(0))}
    p["encoder.0.weight"].requires_grad_()
    bags = DeviceHistories(tastes(), CPU).whole()
    loss = model._objective(p, bags, 0.0, torch.Generator().manual_seed(0))
    loss.backward()
    a = p["encoder.0.weight"].detach().clone().requires_grad_()
    torch.testing.assert_close(a.norm(dim=1), torch.ones(N_ITEMS))
    x = torch.from_numpy(tastes().matrix.toarray())
    expected = (F.normalize(x) - F.normalize(x @ a @ a.T - x)).square().sum(1).mean()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(p["encoder.0.weight"].grad, *torch.autograd.grad(expected, a), rtol=1e-3, atol=1e-5)


def test_a_fit_that_goes_on_begins_where_the_other_ended() -> None:
    model = fitted("elsa", tastes())
    before = {name: tensor.clone() for name, tensor in model.tensors().items()}
    again = ELSA(ELSAConfig(latent=8, epochs=1, learning_rate=1e-9, batch_size=10), N_ITEMS)
    again.fit(tastes(), validation=None, run=cpu(initial=before))
    np.testing.assert_allclose(again.score(tastes()), model.score(tastes()), atol=1e-5)


@pytest.mark.parametrize("key", [{"hidden": [8]}, {"activation": "tanh"}, {"tied": False}, {"target": "dropped"}])
def test_what_elsa_is_cannot_be_set(key: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ELSAConfig(**key)  # type: ignore[arg-type]


def test_an_empty_history_has_scores() -> None:
    assert fitted("elsa", tastes()).score(Histories.from_rows([[]], N_ITEMS)).isfinite().all()
