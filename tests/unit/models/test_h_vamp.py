"""H+Vamp against the equations of its papers, written out densely."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence
from torch.nn import functional as F

from recsys_ae.models.h_vamp import HVamp, HVampConfig
from recsys_ae.training.batches import DeviceHistories
from tests.worlds import N_ITEMS, N_USERS, fitted, ragged, tastes

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {"hidden": (9, 6), "latent": 5, "pseudo_inputs": 4, "dropout": 0.4, "annealing": 0.0}


def gated(p: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    """(W x + b) * sigmoid(V x + c), the layers one above the other in one tensor."""
    w, v = p[f"{name}.weight"].chunk(2)
    b, c = p[f"{name}.bias"].chunk(2)
    return (x @ w.T + b) * torch.sigmoid(x @ v.T + c)


def normal(p: Mapping[str, Tensor], name: str, h: Tensor) -> Normal:
    mean, log_variance = (h @ p[f"{name}.weight"].T + p[f"{name}.bias"]).chunk(2, 1)
    return Normal(mean, (log_variance / 2).exp())


def encoded(p: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """The encoder's last hidden layer of dense rows (B, I), already normalised."""
    first = {"first.weight": p["encoder.0.weight"].T, "first.bias": p["encoder.0.bias"]}
    return gated(p, "encoder.1", gated(first, "first", x))


def low(p: Mapping[str, Tensor], h: Tensor, z2: Tensor) -> Normal:
    return normal(p, "low", gated(p, "low.joint", torch.cat([h, z2], 1)))


def logits(p: Mapping[str, Tensor], z2: Tensor, z1: Tensor) -> Tensor:
    h = gated(p, "decoder.1", gated(p, "decoder.0", torch.cat([z2, z1], 1)))
    head = p["decoder.2.weight"] if "decoder.2.weight" in p else p["encoder.0.weight"][:, :9]
    return h @ head.T + p["decoder.2.bias"]


def dense(histories: Any) -> Tensor:
    return torch.from_numpy(histories.matrix.toarray())


@pytest.mark.parametrize("tied", [True, False])
def test_scores_are_those_of_the_means_of_both_codes(tied: bool) -> None:
    model = fitted("h_vamp", tastes(), **SMALL, tied=tied)
    p, histories = model.tensors(), ragged(2, 10, N_ITEMS)
    h = encoded(p, F.normalize(dense(histories)))
    top = normal(p, "top", h).mean
    torch.testing.assert_close(model.score(histories), logits(p, top, low(p, h, top).mean), rtol=1e-4, atol=1e-5)


def test_the_objective_is_the_negative_elbo_of_two_levels_under_the_vampprior() -> None:
    model = HVamp(HVampConfig(**SMALL, beta=0.5, tied=False, target="all"), N_ITEMS)
    p = model.initial(torch.Generator().manual_seed(1))
    p["pseudo"] *= 3  # components that differ
    bags = DeviceHistories(tastes(), CPU).whole()
    loss = model._objective(p, bags, 1.0, torch.Generator().manual_seed(2))

    draws = torch.Generator().manual_seed(2)
    kept = bags.kept(0.4, draws)
    shown = torch.zeros(N_USERS, N_ITEMS).index_put((bags.rows, bags.columns), kept.float())
    x = dense(tastes())
    h = encoded(p, F.normalize(x) * shown / 0.6)
    top = normal(p, "top", h)
    z2 = top.mean + torch.randn(N_USERS, 5, generator=draws) * top.stddev
    below = low(p, h, z2)
    z1 = below.mean + torch.randn(N_USERS, 5, generator=draws) * below.stddev
    a, b = p["pseudo"].chunk(2, 1)
    components = normal(p, "top", gated(p, "encoder.1", a * torch.sigmoid(b)))
    by_component = Independent(Normal(components.mean, components.stddev), 1).log_prob(z2[:, None])  # (B, K)
    divergence = Independent(top, 1).log_prob(z2) - by_component.exp().mean(1).log()
    divergence = divergence + kl_divergence(below, normal(p, "prior", gated(p, "prior.joint", z2))).sum(1)
    likelihood = (F.log_softmax(logits(p, z2, z1), 1) * x).sum(1)
    torch.testing.assert_close(loss, (-likelihood + 0.5 * divergence).mean(), rtol=1e-4, atol=1e-4)


def test_a_pseudo_input_is_what_the_first_layer_makes_of_a_row() -> None:
    """The component of a row over the catalogue is that row's own posterior."""
    model = fitted("h_vamp", tastes(), **SMALL)
    assert isinstance(model, HVamp)
    p, row = model.tensors(), F.normalize(dense(tastes()))[:4]
    rows = row @ p["encoder.0.weight"] + p["encoder.0.bias"]
    mean, _ = model._normal(p, "top", model._hidden(p, rows))
    torch.testing.assert_close(mean, model.encode(tastes()).mean[:4, :5], rtol=1e-4, atol=1e-5)


def test_pseudo_inputs_are_learnt() -> None:
    one, two = (fitted("h_vamp", tastes(), **SMALL, beta=0.5, epochs=n).tensors()["pseudo"] for n in (1, 3))
    assert not torch.equal(one, two)


def test_a_sample_draws_the_top_code_first() -> None:
    model = fitted("h_vamp", tastes(), **SMALL)
    assert isinstance(model, HVamp)
    p, draws = model.tensors(), torch.Generator().manual_seed(3)
    h = encoded(p, F.normalize(dense(tastes())))
    top = normal(p, "top", h)
    z2 = top.mean + torch.randn(N_USERS, 5, generator=draws) * top.stddev
    below = low(p, h, z2)
    z1 = below.mean + torch.randn(N_USERS, 5, generator=draws) * below.stddev
    found = model.sample(tastes(), torch.Generator().manual_seed(3))
    torch.testing.assert_close(found, logits(p, z2, z1), rtol=1e-4, atol=1e-5)


def test_codes_begin_nearly_certain() -> None:
    model = HVamp(HVampConfig(**SMALL), N_ITEMS)
    model.restore(model.initial(torch.Generator().manual_seed(0)))
    log_variance = model.encode(tastes()).log_variance
    assert log_variance is not None
    np.testing.assert_allclose(log_variance.numpy(), -4, atol=0.5)


def test_it_needs_a_hidden_layer() -> None:
    with pytest.raises(ValidationError, match="at least 1"):
        HVampConfig(hidden=())
