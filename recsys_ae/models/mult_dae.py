"""Mult-DAE: a denoising autoencoder with the multinomial likelihood (Liang et al. 2018, Variational Autoencoders for
Collaborative Filtering, 2.1 and 3)."""

from typing import ClassVar

from recsys_ae.models.autoencoder import AutoencoderConfig, DenoisingAutoencoder
from recsys_ae.models.base import ModelConfig


class MultDAEConfig(AutoencoderConfig):
    """Defaults chosen on validation users of ML-1M and movielens-small; see docs/experiments.md."""


class MultDAE(DenoisingAutoencoder):
    """x -> x / |x| -> dropout -> code -> logits; loss: sum_i x_i (logsumexp(logits) - logits_i).

    By default the sums run over the items that dropout hid and the softmax over all that it did not show, as they do when
    a history is continued; and the decoder's item rows are the encoder's. `target = "all"`, `tied = false` is the paper's.
    """

    Config: ClassVar[type[ModelConfig]] = MultDAEConfig
    config: MultDAEConfig
