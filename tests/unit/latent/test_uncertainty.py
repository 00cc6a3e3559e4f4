"""Draws of the scores: their spread is that of the code's, and one seed gives one draw."""

from functools import cache

import pytest
import torch

from recsys_ae.errors import ModelError
from recsys_ae.histories import Histories
from recsys_ae.latent.uncertainty import explored, has_posterior, uncertainty
from recsys_ae.models import MODELS, Recommender
from recsys_ae.models.mult_vae import MultVAE
from tests.worlds import N_ITEMS, fitted, tastes

pytestmark = pytest.mark.slow

VARIATIONAL = ("mult_vae", "rec_vae", "h_vamp", "vasp")


@cache
def vae() -> MultVAE:
    model = fitted("mult_vae", tastes())
    assert isinstance(model, MultVAE)
    return model


def history() -> Histories:
    return tastes(3, seed=4)


def test_mean_and_deviation_are_those_of_the_posterior() -> None:
    model, rows = vae(), history()
    found = uncertainty(model, rows, draws=500, seed=1)
    code = model.encode(rows)
    assert code.log_variance is not None
    weight, _ = model.head()
    exact = (code.log_variance.exp() @ (weight**2).T).sqrt()  # the decoder is linear
    assert torch.allclose(found.deviation, exact, rtol=0.2)
    assert ((found.mean - model.score(rows)).abs() < 5 * exact / 500**0.5).all()


def test_a_history_of_a_variational_model_alone_can_be_explored() -> None:
    models: dict[str, Recommender] = {name: MODELS[name](MODELS[name].Config(), N_ITEMS) for name in MODELS}
    for name in (*VARIATIONAL, "mult_dae", "ease", "popularity"):
        changes = {"hidden": (16,)} if name in VARIATIONAL[1:] else {}
        models[name] = fitted(name, tastes(), **changes)
        assert has_posterior(models[name]) == (name in VARIATIONAL), name
        if name not in VARIATIONAL:
            with pytest.raises(ModelError, match="has no posterior"):
                uncertainty(models[name], history())


def test_exploring_moves_from_the_scores_to_a_draw() -> None:
    model, row = vae(), history().take(slice(0, 1))
    scores = model.score(row)
    kept = scores.clone()
    whole = explored(model, row, scores, 1.0, seed=7)
    assert torch.equal(whole, explored(model, row, scores, 1.0, seed=7))
    assert not torch.equal(whole, explored(model, row, scores, 1.0, seed=8))
    assert torch.equal(whole, model.sample(row, torch.Generator().manual_seed(7)))
    assert torch.allclose(explored(model, row, scores, 0.25, seed=7), scores + 0.25 * (whole - scores), atol=1e-6)
    assert torch.equal(scores, kept)


def test_one_draw_says_nothing_of_a_spread() -> None:
    with pytest.raises(ValueError, match="1 draws; expected at least 2"):
        uncertainty(vae(), history(), draws=1)
