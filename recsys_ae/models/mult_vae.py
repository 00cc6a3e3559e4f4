"""Mult-VAE: a variational autoencoder with the multinomial likelihood (Liang et al. 2018, Variational Autoencoders for
Collaborative Filtering)."""

from typing import ClassVar

from pydantic import Field
from torch import Generator, Tensor

from recsys_ae.models.base import ModelConfig
from recsys_ae.models.variational import VariationalAutoencoder, VariationalConfig, drawn
from recsys_ae.training.batches import Bags
from recsys_ae.training.loss import kl_to_standard_normal


class MultVAEConfig(VariationalConfig):
    """Defaults chosen on validation users of ML-1M and movielens-small; see docs/experiments.md."""

    dropout: float = Field(0.3, ge=0, lt=1)  # of the stored entries of the input
    learning_rate: float = Field(2e-3, gt=0)


class MultVAE(VariationalAutoencoder):
    """x -> x / |x| -> dropout -> mean, log variance -> z -> logits; loss: the negative ELBO with beta times the KL (eq. 7)."""

    Config: ClassVar[type[ModelConfig]] = MultVAEConfig
    config: MultVAEConfig

    def _objective(self, parameters: dict[str, Tensor], bags: Bags, share: float, generator: Generator) -> Tensor:
        corrupted, kept = self._corrupted(bags, generator)
        mean, log_variance = self._posterior(parameters, corrupted)
        z = drawn(mean, log_variance, generator, bags)  # (B, Z), eq. 6
        beta = self.config.beta * self._annealed(share)
        return self._loss(parameters, z, bags, kept) + beta * kl_to_standard_normal(mean, log_variance).sum()
