"""Mult-DAE: a denoising autoencoder with the multinomial likelihood (Liang et al. 2018, Variational Autoencoders for
Collaborative Filtering, 2.1 and 3)."""

from typing import ClassVar

from torch import Generator, Tensor

from recsys_ae.histories import Histories
from recsys_ae.models.autoencoder import Autoencoder, AutoencoderConfig
from recsys_ae.models.base import Latent, ModelConfig
from recsys_ae.training.batches import Bags
from recsys_ae.training.loss import multinomial_loss


class MultDAEConfig(AutoencoderConfig):
    """Defaults chosen on validation users of ML-1M and movielens-small; see docs/experiments.md."""


class MultDAE(Autoencoder):
    """x -> x / |x| -> dropout -> code -> logits; loss: sum_i x_i (logsumexp(logits) - logits_i)."""

    Config: ClassVar[type[ModelConfig]] = MultDAEConfig
    config: MultDAEConfig

    @property
    def _code_width(self) -> int:
        return self.config.latent

    def _code(self, p: dict[str, Tensor], bags: Bags) -> Tensor:
        return self._activate(self._encoded(p, bags))

    def _objective(self, parameters: dict[str, Tensor], bags: Bags, share: float, generator: Generator) -> Tensor:
        corrupted = bags.normalised().dropout(self.config.dropout, generator)
        return multinomial_loss(self._logits(parameters, self._code(parameters, corrupted)), bags)

    def encode(self, histories: Histories) -> Latent:
        self._require_fitted()
        return Latent(self._code(self._tensors, self._bags(histories).normalised()))
