"""The model like VASP: two paths, one last layer, and why the diagonal needs no subtraction."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from recsys_ae.models.vasp import VASP, VASPConfig
from recsys_ae.training.batches import DeviceHistories
from tests.unit.models.test_rec_vae import encoded
from tests.worlds import N_ITEMS, fitted, ragged, tastes

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {"hidden": (6, 6), "latent": 5, "shallow": 7, "activation": "swish", "dropout": 0.4, "annealing": 0.0}


def test_scores_are_the_sum_of_both_paths() -> None:
    model = fitted("vasp", tastes(), **SMALL)
    p, histories = model.tensors(), ragged(2, 10, N_ITEMS)
    x = F.normalize(torch.from_numpy(histories.matrix.toarray()))
    deep, linear = p["decoder.0.weight"][:, :5], p["decoder.0.weight"][:, 5:]
    expected = encoded(p, x, 2)[0] @ deep.T + x @ linear @ linear.T + p["decoder.0.bias"]
    torch.testing.assert_close(model.score(histories), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("diagonal", ["left", "subtracted"])
def test_the_objective_is_the_focal_loss_of_what_was_withheld_and_no_diagonal_enters_it(diagonal: str) -> None:
    model = VASP(VASPConfig(**SMALL, beta=0.5), N_ITEMS)
    p = model.initial(torch.Generator().manual_seed(1))
    bags = DeviceHistories(tastes(weighted=False), CPU).whole()
    loss = model._objective(p, bags, 1.0, torch.Generator().manual_seed(2))

    draws = torch.Generator().manual_seed(2)
    kept = bags.kept(0.4, draws)
    x = torch.zeros(len(bags), N_ITEMS).index_put((bags.rows, bags.columns), bags.weights)
    shown = torch.zeros(len(bags), N_ITEMS, dtype=torch.bool).index_put((bags.rows, bags.columns), kept)
    part = F.normalize(x) * shown / 0.6
    mean, log_variance = encoded(p, part, 2)
    z = mean + torch.randn(mean.shape, generator=draws) * (log_variance / 2).exp()
    deep, linear = p["decoder.0.weight"][:, :5], p["decoder.0.weight"][:, 5:]
    between = linear @ linear.T
    if diagonal == "subtracted":
        between = between - torch.diag(between.diagonal())
    logits = z @ deep.T + part @ between + p["decoder.0.bias"]
    probability = logits.sigmoid()
    right = torch.where(x > 0, probability, 1 - probability)
    weight = torch.where(x > 0, 0.25, 0.75)
    likelihood = (weight * (1 - right) ** 2 * -right.log()).masked_fill(shown, 0).sum(1).mean()
    divergence = 0.5 * (log_variance.exp() + mean.square() - 1 - log_variance).sum(1).mean()
    torch.testing.assert_close(loss, likelihood + 0.5 * divergence, rtol=1e-4, atol=1e-5)


def test_the_linear_code_is_not_drawn() -> None:
    model = fitted("vasp", tastes(), **SMALL)
    assert isinstance(model, VASP)
    latent = model.encode(tastes())
    assert latent.log_variance is not None
    assert latent.mean.shape == latent.log_variance.shape == (len(tastes()), 12)
    assert float((0.5 * latent.log_variance[:, 5:]).exp().max()) < 1e-12


@pytest.mark.parametrize("wrong", [{"target": "all"}, {"dropout": 0.0}, {"tied": True}])
def test_what_would_let_an_item_predict_itself_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        VASPConfig(**wrong)
