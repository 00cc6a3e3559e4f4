"""Mult-DAE: a denoising autoencoder with the multinomial likelihood (Liang et al. 2018, Variational Autoencoders for
Collaborative Filtering, 2.1 and 3)."""

from typing import ClassVar

from torch import Generator, Tensor

from recsys_ae.histories import Histories
from recsys_ae.models.autoencoder import Autoencoder, AutoencoderConfig
from recsys_ae.models.base import Latent, ModelConfig
from recsys_ae.training.batches import Bags


class MultDAEConfig(AutoencoderConfig):
    """Defaults chosen on validation users of ML-1M and movielens-small; see docs/experiments.md."""


class MultDAE(Autoencoder):
    """x -> x / |x| -> dropout -> code -> logits; loss: sum_i x_i (logsumexp(logits) - logits_i).

    By default the sums run over the items that dropout hid and the softmax over all that it did not show, as they do when
    a history is continued; and the decoder's item rows are the encoder's. `target = "all"`, `tied = false` is the paper's.
    """

    Config: ClassVar[type[ModelConfig]] = MultDAEConfig
    config: MultDAEConfig

    @property
    def _code_width(self) -> int:
        return self.config.latent

    def _code(self, p: dict[str, Tensor], bags: Bags) -> Tensor:
        return self._activate(self._encoded(p, bags))

    def _objective(self, parameters: dict[str, Tensor], bags: Bags, share: float, generator: Generator) -> Tensor:
        corrupted, kept = self._corrupted(bags, generator)
        return self._loss(parameters, self._code(parameters, corrupted), bags, kept)

    def encode(self, histories: Histories) -> Latent:
        self._require_fitted()
        return Latent(self._code(self._tensors, self._bags(histories).normalised()))
