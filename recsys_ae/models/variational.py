"""What the variational autoencoders share: a normal code, its first variance, annealing, the KL on record."""

from dataclasses import replace
from typing import Annotated, TypeAlias

import torch
from pydantic import Field
from torch import Generator, Tensor

from recsys_ae.histories import Histories, Holdout
from recsys_ae.models.autoencoder import Autoencoder, AutoencoderConfig
from recsys_ae.models.base import Latent
from recsys_ae.models.search import Search
from recsys_ae.training.batches import Bags
from recsys_ae.training.loss import kl_to_standard_normal
from recsys_ae.training.run import FitRecord, RunContext

Normal: TypeAlias = tuple[Tensor, Tensor]  # mean and log variance, (B, Z) each

FIRST_LOG_VARIANCE = -4.0
KL_SAMPLE = 10_000  # users whose KL by dimension the record holds


class VariationalConfig(AutoencoderConfig):
    """Keys that every variational autoencoder shares."""

    beta: Annotated[float, Field(ge=0), Search(1e-3, 1.0, log=True)] = 0.01  # weight of the KL term once annealing is over
    # share of all steps over which beta rises from 0
    annealing: Annotated[float, Field(ge=0, le=1), Search(0.0, 1.0)] = 0.3


class VariationalAutoencoder(Autoencoder):
    """The encoder's outputs are mean and log variance of the code, (B, Z) each; scores use the mean."""

    config: VariationalConfig

    @property
    def _code_width(self) -> int:
        return 2 * self.config.latent

    def initial(self, generator: Generator) -> dict[str, Tensor]:
        """As the parent's, with codes that begin nearly certain: noise of variance 1 would drown the small first means."""
        tensors = super().initial(generator)
        for name in self._variances:
            tensors[name][-self.config.latent :] += FIRST_LOG_VARIANCE
        return tensors

    @property
    def _variances(self) -> tuple[str, ...]:
        """The biases whose last Z entries are log variances of codes."""
        return (f"encoder.{len(self.config.hidden)}.bias",)

    def _annealed(self, share: float) -> float:
        """The part of the prior's weight that counts after a share of all steps."""
        return min(1.0, share / self.config.annealing) if self.config.annealing else 1.0

    def _mean_beta(self, train: Histories) -> float:
        """Weight of the divergence once annealing is over, mean over users."""
        return self.config.beta

    def _posterior(self, p: dict[str, Tensor], bags: Bags) -> Normal:
        """The code's distribution, of normalised bags."""
        return normal(self._encoded(p, bags))

    def fit(self, train: Histories, *, validation: Holdout | None, run: RunContext) -> FitRecord:
        record = super().fit(train, validation=validation, run=run)
        with torch.no_grad():
            known = self._bags(train.take(slice(0, KL_SAMPLE))).normalised()
            kl = kl_to_standard_normal(*self._posterior(self._tensors, known))
        return replace(record, kl_by_dimension=kl.tolist(), beta=self._mean_beta(train))

    def encode(self, histories: Histories) -> Latent:
        self._require_fitted()
        return Latent(*self._posterior(self._tensors, self._bags(histories).normalised()))


def normal(outputs: Tensor) -> Normal:
    """Mean and log variance, (B, Z) float32 each, side by side in a layer's outputs (B, 2 Z)."""
    mean, log_variance = outputs.float().chunk(2, 1)
    return mean, log_variance


def drawn(mean: Tensor, log_variance: Tensor, generator: Generator, bags: Bags | None = None) -> Tensor:
    """mean + exp(log variance / 2) * noise: a draw that gradients pass through (Kingma, Welling 2014, 2.4). The noise is of the
    rows of `bags`, where given."""
    if bags is None:
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
    else:
        noise = bags.noise(mean.shape[1], generator)
    return mean + noise * (0.5 * log_variance).exp()
