"""Mult-VAE: a variational autoencoder with the multinomial likelihood (Liang et al. 2018, Variational Autoencoders for
Collaborative Filtering)."""

from dataclasses import replace
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Generator, Tensor

from recsys_ae.histories import Histories, Holdout
from recsys_ae.models.autoencoder import Autoencoder, AutoencoderConfig
from recsys_ae.models.base import Latent, ModelConfig
from recsys_ae.models.search import Search
from recsys_ae.training.batches import Bags
from recsys_ae.training.loss import kl_to_standard_normal
from recsys_ae.training.run import FitRecord, RunContext

FIRST_LOG_VARIANCE = -4.0
KL_SAMPLE = 10_000  # users whose KL by dimension the record holds


class MultVAEConfig(AutoencoderConfig):
    """Defaults chosen on validation users of ML-1M and movielens-small; see docs/experiments.md."""

    dropout: float = Field(0.3, ge=0, lt=1)  # of the stored entries of the input
    learning_rate: float = Field(2e-3, gt=0)
    beta: Annotated[float, Field(ge=0), Search(1e-3, 1.0, log=True)] = 0.01  # weight of the KL term once annealing is over
    # share of all steps over which beta rises from 0
    annealing: Annotated[float, Field(ge=0, le=1), Search(0.0, 1.0)] = 0.3


class MultVAE(Autoencoder):
    """x -> x / |x| -> dropout -> mean, log variance -> z -> logits; loss: the negative ELBO with beta times the KL (eq. 7)."""

    Config: ClassVar[type[ModelConfig]] = MultVAEConfig
    config: MultVAEConfig

    @property
    def _code_width(self) -> int:
        return 2 * self.config.latent

    def _initial(self, generator: Generator) -> dict[str, Tensor]:
        """As the parent's, with codes that begin nearly certain: noise of variance 1 would drown the small first means."""
        tensors = super()._initial(generator)
        tensors[f"encoder.{len(self.config.hidden)}.bias"][self.config.latent :] += FIRST_LOG_VARIANCE
        return tensors

    def _objective(self, parameters: dict[str, Tensor], bags: Bags, share: float, generator: Generator) -> Tensor:
        corrupted, kept = self._corrupted(bags, generator)
        mean, log_variance = (part.float() for part in self._encoded(parameters, corrupted).chunk(2, 1))
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        z = mean + noise * (0.5 * log_variance).exp()  # (B, Z), eq. 6
        beta = self.config.beta * (min(1.0, share / self.config.annealing) if self.config.annealing else 1.0)
        return self._loss(parameters, z, bags, kept) + beta * kl_to_standard_normal(mean, log_variance).sum()

    def fit(self, train: Histories, *, validation: Holdout | None, run: RunContext) -> FitRecord:
        record = super().fit(train, validation=validation, run=run)
        with torch.no_grad():
            latent = self.encode(train.take(slice(0, KL_SAMPLE)))
            assert latent.log_variance is not None
            kl = kl_to_standard_normal(latent.mean, latent.log_variance)
        return replace(record, kl_by_dimension=kl.tolist(), beta=self.config.beta)

    def encode(self, histories: Histories) -> Latent:
        self._require_fitted()
        mean, log_variance = self._encoded(self._tensors, self._bags(histories).normalised()).chunk(2, 1)
        return Latent(mean, log_variance)
