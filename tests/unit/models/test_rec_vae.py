"""RecVAE against the equations of its paper, written out densely."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.stats import norm
from torch import Tensor
from torch.nn import functional as F

from recsys_ae.models.rec_vae import RecVAE, RecVAEConfig, log_composite
from recsys_ae.training.batches import DeviceHistories
from tests.worlds import N_ITEMS, cpu, fitted, ragged, tastes

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {
    "hidden": (6, 6, 6),
    "latent": 6,
    "activation": "swish",
    "dropout": 0.4,
    "gamma": 0.05,
    "annealing": 0.0,
}


def encoded(p: Mapping[str, Tensor], x: Tensor, depth: int) -> tuple[Tensor, Tensor]:
    """Mean and log variance of dense rows (B, I), already normalised: each layer is fed the one before and the sum of all."""
    hidden: list[Tensor] = []
    out = x @ p["encoder.0.weight"] + p["encoder.0.bias"]
    for j in range(depth):
        out = out + sum(hidden)
        out = out * torch.sigmoid(out)
        centred = out - out.mean(1, keepdim=True)
        scaled = centred / (centred.square().mean(1, keepdim=True) + 0.1).sqrt()
        hidden.append(scaled * p[f"encoder.norm.{j}.weight"] + p[f"encoder.norm.{j}.bias"])
        out = hidden[-1] @ p[f"encoder.{j + 1}.weight"].T + p[f"encoder.{j + 1}.bias"]
    return out.chunk(2, 1)  # type: ignore[return-value]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("hidden", [(), (6,), (6, 6, 6)])
def test_scores_equal_a_dense_forward_pass(hidden: tuple[int, ...], tied: bool) -> None:
    model = fitted("rec_vae", tastes(), **SMALL | {"hidden": hidden, "tied": tied})
    p = model.tensors()
    histories = ragged(2, 10, N_ITEMS)
    z, _ = encoded(p, F.normalize(torch.from_numpy(histories.matrix.toarray())), len(hidden))
    head = p["encoder.0.weight"][:, :6] if tied else p["decoder.0.weight"]
    torch.testing.assert_close(model.score(histories), z @ head.T + p["decoder.0.bias"], rtol=1e-4, atol=1e-5)


def test_the_composite_prior_is_the_mixture_of_three_normals() -> None:
    rng = np.random.default_rng(0)
    z, mean, log_variance = (rng.normal(size=(5, 4)) for _ in range(3))
    expected = np.log(
        3 / 20 * norm.pdf(z) + 3 / 4 * norm.pdf(z, mean, np.exp(log_variance / 2)) + 1 / 10 * norm.pdf(z, 0, np.exp(10 / 2))
    )
    found = log_composite(*(torch.from_numpy(a) for a in (z, mean, log_variance)))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def started(**changes: Any) -> tuple[RecVAE, dict[str, Tensor]]:
    model = RecVAE(RecVAEConfig(**SMALL | changes), N_ITEMS)
    tensors = model.initial(torch.Generator().manual_seed(1))
    return model, {name: t.requires_grad_() for name, t in tensors.items()}


@pytest.mark.parametrize(("gamma", "beta"), [(0.05, 0.3), (0.0, 0.3)])
def test_the_encoders_objective_is_the_elbo_with_a_beta_for_each_user(gamma: float, beta: float) -> None:
    """The old encoder is given another row scale here, so that it is seen to be the one that the prior reads."""
    model, p = started(gamma=gamma, beta=beta, target="all", tied=False)
    old = {name: 1.5 * t.detach() for name, t in p.items()}
    bags = DeviceHistories(tastes(), CPU).whole()
    loss = model._encoder_objective(old, p, bags, 1.0, torch.Generator().manual_seed(2))

    draws = torch.Generator().manual_seed(2)
    kept = bags.kept(0.4, draws)
    x = torch.zeros(len(bags), N_ITEMS).index_put((bags.rows, bags.columns), bags.weights)
    shown = torch.zeros(len(bags), N_ITEMS).index_put((bags.rows, bags.columns), kept.float())
    mean, log_variance = encoded(p, F.normalize(x) * shown / 0.6, 3)
    deviation = (log_variance / 2).exp()
    z = mean + torch.randn(mean.shape, generator=draws) * deviation
    before = encoded(old, F.normalize(x), 3)
    numbers = [t.detach().double().numpy() for t in (z, mean, deviation, before[0], (before[1] / 2).exp())]
    prior = 0.15 * norm.pdf(numbers[0]) + 0.75 * norm.pdf(numbers[0], numbers[3], numbers[4])
    prior += 0.1 * norm.pdf(numbers[0], 0, np.exp(5))
    divergence = (norm.logpdf(numbers[0], numbers[1], numbers[2]) - np.log(prior)).sum(1)
    weight = gamma * x.sum(1).numpy() if gamma else beta
    likelihood = (F.log_softmax(z @ p["decoder.0.weight"].T + p["decoder.0.bias"], 1) * x).sum(1).mean()
    assert float(loss.detach()) == pytest.approx(float(-likelihood.detach()) + float((weight * divergence).mean()), rel=1e-4)


def test_the_decoders_objective_is_the_likelihood_of_whole_rows_without_noise_on_them() -> None:
    model, p = started(target="all", tied=False)
    bags = DeviceHistories(tastes(), CPU).whole()
    loss = model._objective(p, bags, 1.0, torch.Generator().manual_seed(2))
    x = torch.zeros(len(bags), N_ITEMS).index_put((bags.rows, bags.columns), bags.weights)
    mean, log_variance = encoded(p, F.normalize(x), 3)
    z = mean + torch.randn(mean.shape, generator=torch.Generator().manual_seed(2)) * (log_variance / 2).exp()
    expected = -(F.log_softmax(z @ p["decoder.0.weight"].T + p["decoder.0.bias"], 1) * x).sum(1).mean()
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("target", ["all", "dropped"])
def test_encoder_and_decoder_learn_in_turns(target: str) -> None:
    model, p = started(target=target, tied=False, encoder_passes=2)
    bags = DeviceHistories(tastes(), CPU).whole()
    moved = []
    for objective in model._passes(p):
        for t in p.values():
            t.grad = None
        objective(p, bags, 0.5, torch.Generator().manual_seed(0)).backward()  # type: ignore[no-untyped-call]
        moved.append({name.split(".")[0] for name, t in p.items() if t.grad is not None})
    assert moved == [{"encoder"}, {"encoder"}, {"decoder"}]


def test_the_old_encoder_stays_as_it_was_when_the_epoch_began() -> None:
    model, p = started()
    first = model._passes(p)[0]
    bags = DeviceHistories(tastes(), CPU).whole()
    with torch.no_grad():
        for t in p.values():
            t *= 1.5
        after = first(p, bags, 1.0, torch.Generator().manual_seed(0))
        again = model._passes(p)[0](p, bags, 1.0, torch.Generator().manual_seed(0))
    assert float(after) != pytest.approx(float(again), rel=1e-6)


def test_the_record_holds_the_mean_beta() -> None:
    train = tastes()
    for gamma, expected in ((0.05, 0.05 * train.weights.sum() / len(train)), (0.0, 0.3)):
        model = RecVAE(RecVAEConfig(**SMALL | {"gamma": gamma}, beta=0.3, epochs=1), N_ITEMS)
        assert model.fit(train, validation=None, run=cpu()).beta == pytest.approx(expected)


def test_widths_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ValidationError, match="all the same"):
        RecVAEConfig(hidden=(6, 7))
    with pytest.raises(ValidationError, match="not below latent"):
        RecVAEConfig(hidden=(6, 6), latent=7, tied=True)
