"""The autoencoders against the equations of their papers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional as F

from recsys_ae import Histories
from recsys_ae.models import MODELS
from recsys_ae.models.autoencoder import Autoencoder
from recsys_ae.models.mult_dae import MultDAE, MultDAEConfig
from recsys_ae.models.mult_vae import MultVAE, MultVAEConfig
from recsys_ae.training.batches import DeviceHistories
from recsys_ae.training.loss import kl_to_standard_normal
from tests.worlds import N_ITEMS, cpu, fitted, ragged, small_config, tastes

CPU = torch.device("cpu")
PAPER: dict[str, Any] = {"target": "all", "tied": False}  # as Liang et al. have it
autoencoders = pytest.mark.parametrize("name", ["mult_dae", "mult_vae", "autorec", "cdae"])


@autoencoders
@pytest.mark.parametrize("activation", ["identity", "sigmoid", "tanh", "gelu", "relu"])
@pytest.mark.parametrize("hidden", [(), (6,), (9, 6)])
@pytest.mark.parametrize("tied", [True, False])
def test_scores_equal_a_dense_forward_pass(name: str, hidden: tuple[int, ...], activation: str, tied: bool) -> None:
    model = fitted(name, tastes(), hidden=hidden, activation=activation, tied=tied)
    histories = ragged(2, 10, N_ITEMS)
    expected = dense_forward(model.tensors(), histories, len(hidden), activation, code_is_active=name != "mult_vae")
    torch.testing.assert_close(model.score(histories), expected, rtol=1e-4, atol=1e-5)


def dense_forward(p: Mapping[str, Tensor], histories: Histories, depth: int, activation: str, code_is_active: bool) -> Tensor:
    act = {"identity": lambda x: x, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "gelu": F.gelu, "relu": torch.relu}[
        activation
    ]
    x = F.normalize(torch.from_numpy(histories.matrix.toarray()))
    x = x @ p["encoder.0.weight"] + p["encoder.0.bias"]
    for j in range(1, depth + 1):
        x = act(x) @ p[f"encoder.{j}.weight"].T + p[f"encoder.{j}.bias"]
    z = act(x) if code_is_active else x.chunk(2, 1)[0]
    for j in range(depth):
        z = act(z @ p[f"decoder.{j}.weight"].T + p[f"decoder.{j}.bias"])
    last = p[f"decoder.{depth}.weight"] if f"decoder.{depth}.weight" in p else p["encoder.0.weight"][:, : z.shape[1]]
    return z @ last.T + p[f"decoder.{depth}.bias"]


@autoencoders
def test_tied_item_rows_are_stored_once(name: str) -> None:
    one, two = (fitted(name, tastes(), hidden=(6,), tied=tied) for tied in (True, False))
    assert set(two.tensors()) - set(one.tensors()) == {"decoder.1.weight"}
    assert two.n_parameters - one.n_parameters == 6 * N_ITEMS
    weight, bias = one.head()  # type: ignore[attr-defined]
    assert (weight.shape, bias.shape) == ((N_ITEMS, 6), (N_ITEMS,))


def test_the_dropped_target_is_the_likelihood_of_what_was_hidden_among_what_was_not_shown() -> None:
    """Against a dense loop over rows; and no gradient reaches an item that was shown."""
    model = MultDAE(MultDAEConfig(latent=7, dropout=0.4), N_ITEMS)
    p = {name: t.requires_grad_() for name, t in model.initial(torch.Generator().manual_seed(1)).items()}
    bags = DeviceHistories(tastes(), CPU).whole()
    loss = model._objective(p, bags, 0.5, torch.Generator().manual_seed(2))
    kept = bags.kept(0.4, torch.Generator().manual_seed(2))
    x = torch.zeros(len(bags), N_ITEMS).index_put((bags.rows, bags.columns), bags.weights)
    shown = torch.zeros(len(bags), N_ITEMS, dtype=torch.bool).index_put((bags.rows, bags.columns), kept)
    z = (F.normalize(x) * shown / 0.6) @ p["encoder.0.weight"] + p["encoder.0.bias"]
    logits = (z @ p["encoder.0.weight"].T + p["decoder.0.bias"]).masked_fill(shown, -torch.inf)
    expected = -(F.log_softmax(logits, 1).masked_fill(shown, 0) * x).sum(1).mean()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    for tensor, gradient in zip(p.values(), torch.autograd.grad(expected, list(p.values())), strict=True):
        torch.testing.assert_close(tensor.grad, gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "loss"), [("autorec", None), ("cdae", "gaussian"), ("cdae", "bernoulli")])
def test_the_objective_is_the_pointwise_loss_of_the_whole_row(name: str, loss: str | None) -> None:
    """AutoRec's and CDAE's, against a dense row; what dropout hid is to be found too."""
    chosen = {"loss": loss} if loss else {}
    model = MODELS[name](small_config(name, target="all", tied=True, dropout=0.4, **chosen), N_ITEMS)
    assert isinstance(model, Autoencoder)
    p = model.initial(torch.Generator().manual_seed(1))
    bags = DeviceHistories(tastes(weighted=False), CPU).whole()
    kept = bags.kept(0.4, torch.Generator().manual_seed(2))
    x = torch.zeros(len(bags), N_ITEMS).index_put((bags.rows, bags.columns), bags.weights)
    shown = torch.zeros(len(bags), N_ITEMS).index_put((bags.rows, bags.columns), kept.float())
    code = (F.normalize(x) * shown / 0.6) @ p["encoder.0.weight"] + p["encoder.0.bias"]
    if model.config.activation == "sigmoid":
        code = code.sigmoid()
    logits = code @ p["encoder.0.weight"].T + p["decoder.0.bias"]
    if loss == "bernoulli":
        expected = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1).mean()
    else:
        expected = (x - logits).square().sum(1).mean()
    found = model._objective(p, bags, 0.5, torch.Generator().manual_seed(2))
    torch.testing.assert_close(found, expected)


def test_a_dropped_target_without_dropout_is_refused() -> None:
    with pytest.raises(ValidationError, match="leaves nothing to find"):
        MultDAEConfig(dropout=0.0)


@autoencoders
@pytest.mark.parametrize(
    "wrong", [{"hidden": (0,)}, {"latent": 0}, {"dropout": 1.0}, {"learning_rate": 0}, {"batch_size": "large"}, {"epochs": 0}]
)
def test_impossible_hyperparameters_are_refused(name: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MODELS[name].Config(**wrong)


def plain_vae(n: int, log_variance: float, **changes: Any) -> tuple[MultVAE, dict[str, Tensor]]:
    """A VAE over n items whose code is N(0, exp(log_variance)) whatever comes in, and whose logits are the code."""
    model = MultVAE(MultVAEConfig(latent=n, **PAPER, dropout=0.0, annealing=0.0, **changes), n)
    tensors = {
        "encoder.0.weight": torch.zeros(n, 2 * n),
        "encoder.0.bias": torch.cat([torch.zeros(n), torch.full((n,), log_variance)]),
        "decoder.0.weight": torch.eye(n),
        "decoder.0.bias": torch.zeros(n),
    }
    return model.restore(tensors), tensors


@pytest.mark.parametrize("log_variance", [0.0, 2.0])
def test_noise_has_standard_deviation_1_in_training(log_variance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tensors = plain_vae(50, log_variance)
    codes = []
    real = Autoencoder._queried
    monkeypatch.setattr(Autoencoder, "_queried", lambda self, p, z: (codes.append(z), real(self, p, z))[1])
    bags = DeviceHistories(Histories.from_rows([[0]] * 400, 50), CPU).whole()
    model._objective(tensors, bags, 0.5, torch.Generator().manual_seed(0))
    assert float(codes[0].std()) == pytest.approx(np.exp(log_variance / 2), rel=0.02)
    assert float(codes[0].mean()) == pytest.approx(0, abs=0.05)


def test_noise_has_standard_deviation_1_in_samples() -> None:
    model, _ = plain_vae(50, 0.0)
    drawn = model.sample(Histories.from_rows([[0]] * 400, 50), torch.Generator().manual_seed(0))
    assert float(drawn.std()) == pytest.approx(1, rel=0.02)


def test_the_prior_is_summed_over_latent_dimensions_not_averaged() -> None:
    """Negative ELBO with beta 1 less that with beta 0 is the KL divergence, summed over Z and averaged over users."""
    bags = DeviceHistories(ragged(1, 8, 6), CPU).whole()
    losses = []
    for beta in (0.0, 1.0):
        model, tensors = plain_vae(6, 1.5, beta=beta)
        losses.append(float(model._objective(tensors, bags, 1.0, torch.Generator().manual_seed(0))))
    per_dimension = 0.5 * (np.exp(1.5) - 1 - 1.5)
    assert losses[1] - losses[0] == pytest.approx(6 * per_dimension, rel=1e-5)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0.0), (0.1, 0.25), (0.2, 0.5), (0.4, 0.5), (1.0, 0.5)])
def test_beta_rises_over_the_annealing_share_of_all_steps(share: float, expected: float) -> None:
    bags = DeviceHistories(ragged(1, 8, 6), CPU).whole()
    _, tensors = plain_vae(6, 1.5)
    with_, without = (
        float(
            MultVAE(MultVAEConfig(latent=6, **PAPER, dropout=0.0, beta=beta, annealing=0.2), 6)._objective(
                tensors, bags, share, torch.Generator().manual_seed(0)
            )
        )
        for beta in (0.5, 0.0)
    )
    assert with_ - without == pytest.approx(expected * 6 * 0.5 * (np.exp(1.5) - 2.5), abs=1e-4)


def test_the_posterior_is_not_sampled_at_prediction_time() -> None:
    model = fitted("mult_vae", tastes())
    histories = ragged(2, 10, N_ITEMS)
    assert torch.equal(model.score(histories), model.score(histories))
    assert isinstance(model, MultVAE)
    weight, bias = model.head()
    torch.testing.assert_close(model.score(histories), model.query(model.encode(histories).mean) @ weight.T + bias)


@autoencoders
def test_input_is_not_dropped_out_at_prediction_time(name: str) -> None:
    one, other = (fitted(name, tastes(), target="all", dropout=p) for p in (0.0, 0.9))
    scores = MODELS[name](other.config, N_ITEMS).restore(one.tensors()).score(tastes())
    assert torch.equal(scores, one.score(tastes()))


def test_the_record_holds_the_kl_of_each_dimension() -> None:
    train = tastes()
    model = MultVAE(small_config("mult_vae"), N_ITEMS)
    record = model.fit(train, validation=None, run=cpu())
    latent = model.encode(train)
    assert latent.log_variance is not None
    assert record.kl_by_dimension == kl_to_standard_normal(latent.mean, latent.log_variance).tolist()
    assert record.beta == model.config.beta
