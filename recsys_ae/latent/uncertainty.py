"""How sure a variational autoencoder is of its scores, by draws from the posterior of a history's code (Kingma, Welling 2014,
Auto-Encoding Variational Bayes)."""

from typing import NamedTuple, cast

import torch
from torch import Generator, Tensor

from recsys_ae.errors import ModelError
from recsys_ae.histories import Histories
from recsys_ae.models.base import LatentRecommender, Recommender

DRAWS = 30


class Uncertainty(NamedTuple):
    """Mean and standard deviation of the scores over the draws, (B, I) each."""

    mean: Tensor
    deviation: Tensor


def has_posterior(model: Recommender) -> bool:
    """Whether the model's codes have a distribution to draw from."""
    if not isinstance(model, LatentRecommender):
        return False
    with torch.no_grad():
        return model.encode(Histories.from_rows([[]], model.n_items)).log_variance is not None


def uncertainty(model: Recommender, histories: Histories, draws: int = DRAWS, seed: int = 0) -> Uncertainty:
    """Of the scores of histories (B, I), by so many draws; memory is that of three score matrices, whatever the draws.

    Raises ModelError for a model without a posterior, ValueError for less than two draws.
    """
    if draws < 2:
        raise ValueError(f"{draws} draws; expected at least 2")
    latent, generator = _latent(model), Generator(model.device).manual_seed(seed)
    mean = torch.zeros(len(histories), model.n_items, device=model.device)
    squares = torch.zeros_like(mean)
    for n in range(1, draws + 1):  # Welford 1962
        drawn = latent.sample(histories, generator)
        off = drawn - mean
        mean += off / n
        squares += off * (drawn - mean)
    return Uncertainty(mean, (squares / (draws - 1)).sqrt())


def explored(model: Recommender, history: Histories, scores: Tensor, share: float, seed: int) -> Tensor:
    """Scores (1, I) of a history moved towards one draw of them: 0 the scores themselves, 1 the draw (Thompson 1933, On the
    Likelihood that One Unknown Probability Exceeds Another; Chapelle, Li 2011, An Empirical Evaluation of Thompson Sampling).

    The same seed gives the same scores. Raises ModelError for a model without a posterior.
    """
    return torch.lerp(scores, _latent(model).sample(history, Generator(model.device).manual_seed(seed)), share)


def _latent(model: Recommender) -> LatentRecommender:
    if not has_posterior(model):
        raise ModelError(f"{type(model).__name__} has no posterior to draw from; expected a variational autoencoder")
    return cast(LatentRecommender, model)
