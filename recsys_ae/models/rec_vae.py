"""RecVAE: composite prior, a beta for each user, encoder and decoder trained in turns (Shenbin, Alekseev, Tutubalina, Malykh,
Nikolenko 2020, RecVAE: A New Variational Autoencoder for Top-N Recommendations with Implicit Feedback)."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Generator, Tensor

from recsys_ae.histories import Histories
from recsys_ae.models.autoencoder import Activation
from recsys_ae.models.base import ModelConfig
from recsys_ae.models.dense import DenseConfig, DenselyConnected
from recsys_ae.models.search import Choice, Search
from recsys_ae.models.variational import drawn
from recsys_ae.training.batches import Bags
from recsys_ae.training.loop import Objective
from recsys_ae.training.loss import log_normal

PRIOR_WEIGHTS = (3 / 20, 3 / 4, 1 / 10)  # of the standard normal, the old posterior, the wide normal
WIDE_LOG_VARIANCE = 10.0


class RecVAEConfig(DenseConfig):
    """Defaults chosen on validation users; see docs/experiments.md."""

    # densely connected; the decoder has none
    hidden: Annotated[tuple[PositiveInt, ...], Choice((), (600,) * 5)] = ()
    softmax: Annotated[Literal["exact"], Choice("exact")] = "exact"
    latent: Annotated[PositiveInt, Search(64, 600, log=True)] = 512
    activation: Annotated[Activation, Choice("swish", "tanh", "gelu")] = "swish"
    learning_rate: float = Field(5e-4, gt=0)
    # a user's beta is gamma times the sum of the row; 0: `beta` for everyone
    gamma: Annotated[float, Field(ge=0), Search(1e-5, 0.03, log=True)] = 0.0003
    encoder_passes: Annotated[PositiveInt, Search(1, 5)] = 3  # over the rows, before each pass of the decoder


class RecVAE(DenselyConnected):
    """x -> x / |x| -> dropout -> mean, log variance -> z -> logits, under the composite prior p(z | x), by dimension,

        3/20 N(0, 1) + 3/4 q_old(z | x) + 1/10 N(0, e^10)

    where q_old is the encoder as it was at the beginning of the epoch. An epoch is some passes in which the encoder alone
    learns, from thinned rows, by the ELBO with beta_u = gamma |X_u|, and one in which the decoder alone does, from whole rows
    and without a prior.
    """

    Config: ClassVar[type[ModelConfig]] = RecVAEConfig
    config: RecVAEConfig

    def _mean_beta(self, train: Histories) -> float:
        users = max(1, int((train.lengths > 0).sum()))
        return self.config.gamma * float(train.weights.sum()) / users if self.config.gamma else self.config.beta

    def _passes(self, parameters: dict[str, Tensor]) -> Sequence[Objective]:
        # A checkpoint needs no copy of the old encoder: an epoch that begins anew makes it of the parameters again.
        old = {name: t.detach().clone() for name, t in parameters.items() if name.startswith("encoder.")}
        return [partial(self._encoder_objective, old)] * self.config.encoder_passes + [self._objective]

    def _encoder_objective(
        self, old: dict[str, Tensor], parameters: dict[str, Tensor], bags: Bags, share: float, generator: Generator
    ) -> Tensor:
        """The negative ELBO of a batch; no gradient reaches the decoder."""
        corrupted, kept = self._corrupted(bags, generator)
        mean, log_variance = self._posterior(parameters, corrupted)
        z = drawn(mean, log_variance, generator, bags)
        with torch.no_grad():
            before = self._posterior(old, bags.normalised())
        divergence = (log_normal(z, mean, log_variance) - log_composite(z, *before)).sum(1)  # (B,), one draw's estimate
        beta = self.config.gamma * bags.row_sums(bags.weights) if self.config.gamma else self.config.beta
        decoder = {name: t.detach() for name, t in parameters.items()}
        return self._loss(decoder, z, bags, kept) + self._annealed(share) * (beta * divergence).mean()

    def _objective(self, parameters: dict[str, Tensor], bags: Bags, share: float, generator: Generator) -> Tensor:
        """The likelihood of a batch; no gradient reaches the encoder."""
        encoder = {name: t.detach() for name, t in parameters.items()}
        shown, kept = self._corrupted(bags, generator) if self.config.target == "dropped" else (bags.normalised(), None)
        return self._loss(parameters, drawn(*self._posterior(encoder, shown), generator, bags), bags, kept)


def log_composite(z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log of the composite prior by dimension, (B, Z); mean and log variance are the old posterior's."""
    zero = torch.zeros((), device=z.device)
    parts = (log_normal(z, zero, zero), log_normal(z, mean, log_variance), log_normal(z, zero, zero + WIDE_LOG_VARIANCE))
    weighted = [part + math.log(weight) for part, weight in zip(parts, PRIOR_WEIGHTS, strict=True)]
    return torch.stack(weighted).logsumexp(0)
