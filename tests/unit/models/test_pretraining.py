"""What a fit begins with: item vectors of other models, layers that were trained one by one."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Generator, Tensor

from recsys_ae.evaluation import mean_metric
from recsys_ae.histories import Histories
from recsys_ae.models import MODELS
from recsys_ae.models.autoencoder import Autoencoder
from recsys_ae.models.ease import EASE, EASEConfig
from recsys_ae.models.pretraining import als_factors, ease_factors
from tests.worlds import N_ITEMS, cpu, fitted, holdout, small_config, tastes

pytestmark = pytest.mark.slow

AUTOENCODERS = [name for name, kind in MODELS.items() if issubclass(kind, Autoencoder)]


def begun(name: str, train: Histories, **changes: object) -> tuple[Autoencoder, dict[str, Tensor]]:
    """A model with what its fit begins with."""
    model = MODELS[name](small_config(name, **changes), N_ITEMS)
    assert isinstance(model, Autoencoder)
    return model, model._begun(train, cpu(), Generator().manual_seed(0))


def test_factors_of_ease_are_the_leading_part_of_its_symmetric_weights() -> None:
    """Against a whole eigendecomposition in float64."""
    train = tastes(60)
    weights = fitted("ease", train, regularisation=500.0).tensors()["weights"].double().numpy()
    values, vectors = np.linalg.eigh((weights + weights.T) / 2)
    leading = vectors[:, -5:] @ np.diag(values[-5:].clip(0)) @ vectors[:, -5:].T
    found = ease_factors(train, 5)
    assert found.shape == (N_ITEMS, 5)
    np.testing.assert_allclose((found @ found.T).numpy(), leading, atol=1e-5 * np.abs(leading).max())
    assert torch.equal(found, ease_factors(train, 5))
    assert EASE(EASEConfig(), N_ITEMS).config.regularisation == 500.0


def test_factors_are_as_wide_as_asked_for_though_the_catalogue_is_narrower() -> None:
    wide = ease_factors(tastes(), N_ITEMS + 5)
    assert wide.shape == (N_ITEMS, N_ITEMS + 5) and (wide[:, N_ITEMS - 1 :] == 0).all() and wide.isfinite().all()
    assert als_factors(tastes(), N_ITEMS + 5, 0).shape == (N_ITEMS, N_ITEMS + 5)


def test_factors_of_fewer_users_than_their_width_leave_nothing_out() -> None:
    """No eigenvalue past the number of users is above 0, so what is not looked for is not there."""
    train = tastes(60).take(slice(0, 4))
    weights = fitted("ease", train).tensors()["weights"].double().numpy()
    values, vectors = np.linalg.eigh((weights + weights.T) / 2)
    found = ease_factors(train, 20)
    assert (found[:, 4:] == 0).all()
    np.testing.assert_allclose((found @ found.T).numpy(), vectors @ np.diag(values.clip(0)) @ vectors.T, atol=1e-6)


@pytest.mark.parametrize("how", ["als", "ease"])
@pytest.mark.parametrize("name", AUTOENCODERS)
def test_a_fit_of_any_autoencoder_may_begin_with_the_vectors_of_another_model(name: str, how: str) -> None:
    model, begins = begun(name, tastes(), pretrain=how)
    _, fresh = begun(name, tastes())
    assert {key: tensor.shape for key, tensor in begins.items()} == {key: tensor.shape for key, tensor in fresh.items()}
    changed = {key for key in begins if not torch.equal(begins[key], fresh[key])}
    assert changed == {"encoder.0.weight", model.item_rows}


@pytest.mark.parametrize("how", ["als", "ease"])
@pytest.mark.parametrize("name", ["mult_dae", "mult_vae", "cdae"])
def test_vectors_of_another_model_rank_before_anything_is_trained(name: str, how: str) -> None:
    """Three tastes of 14 items each: chance finds one of three."""
    judged = holdout(200)
    found = [
        mean_metric(model.restore(p), judged, "recall@10")
        for model, p in (begun(name, tastes(300), pretrain=h) for h in (how, "none"))
    ]
    assert found[0] > 0.5 and found[0] > 1.4 * found[1]


@pytest.mark.parametrize("name", ["mult_dae", "mult_vae", "autorec", "cdae"])
def test_layers_trained_one_by_one_reconstruct_better_than_chance(name: str) -> None:
    train = tastes(200)
    changes = {"hidden": (16, 12), "activation": "tanh", "learning_rate": 0.02, "pretrain_epochs": 10, "batch_size": 50}
    losses, begins = [], {}
    for how in ("layerwise", "none"):
        model, begins = begun(name, train, pretrain=how, **changes)
        bags = model.rows(train, torch.device("cpu")).whole()
        losses.append(float(model._objective(begins, bags, 1.0, Generator().manual_seed(0))))
        if how == "layerwise":
            torch.testing.assert_close(begins["decoder.1.weight"], begins["encoder.1.weight"].T)
            again = begun(name, train, pretrain=how, **changes)[1]
            assert all(torch.equal(tensor, again[key]) for key, tensor in begins.items())
    assert losses[0] < losses[1]


def test_a_layer_of_the_code_is_a_denoising_autoencoder_of_the_layer_below() -> None:
    """It reconstructs what the layer below makes of histories better than one that was not trained does."""
    train = tastes(200)
    changes = {"hidden": (16,), "activation": "tanh", "learning_rate": 0.02, "pretrain_epochs": 20, "batch_size": 50}
    model, p = begun("mult_dae", train, pretrain="layerwise", **changes)
    h = model.activations(p, model.rows(train, torch.device("cpu")).whole().normalised(), 1)
    code = torch.tanh(h @ p["encoder.1.weight"].T + p["encoder.1.bias"])
    back = code @ p["decoder.0.weight"].T + p["decoder.0.bias"]
    assert (back - h).square().sum() < 0.7 * (h - h.mean(0)).square().sum()


def test_a_warm_start_takes_the_place_of_pretraining() -> None:
    initial = fitted("mult_dae", tastes()).tensors()
    found = []
    for how in ("none", "als"):
        model = MODELS["mult_dae"](small_config("mult_dae", pretrain=how), N_ITEMS)
        model.fit(tastes(), validation=None, run=cpu(initial=initial))
        found.append(model.tensors())
    assert all(torch.equal(tensor, found[1][key]) for key, tensor in found[0].items())


@pytest.mark.parametrize(
    ("name", "changes"), [("mult_dae", {}), ("elsa", {}), ("conv_vae", {}), ("rec_vae", {"hidden": (8,)}), ("h_vamp", {})]
)
def test_layerwise_is_refused_where_no_layer_stands_by_itself(name: str, changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"layers to train one by one|Input should be 'none', 'als' or 'ease'"):
        MODELS[name].Config(pretrain="layerwise", **changes)
