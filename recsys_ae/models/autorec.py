"""AutoRec: the plain undercomplete autoencoder under a squared loss (Sedhain et al. 2015, AutoRec: Autoencoders Meet
Collaborative Filtering), user-based."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveInt

from recsys_ae.models.autoencoder import AutoencoderConfig, DenoisingAutoencoder
from recsys_ae.models.base import ModelConfig
from recsys_ae.models.search import Search
from recsys_ae.training.loss import Likelihood


class AutoRecConfig(AutoencoderConfig):
    """Defaults chosen on validation users; see docs/experiments.md."""

    # narrow, since nothing else keeps the network from copying its input
    latent: Annotated[PositiveInt, Search(16, 512, log=True)] = 128
    dropout: Annotated[float, Field(ge=0, lt=1), Search(0.0, 0.7)] = 0.0  # the paper has none
    target: Literal["all", "dropped"] = "all"
    tied: bool = False
    loss: Likelihood = "gaussian"


class AutoRec(DenoisingAutoencoder):
    """x -> x / |x| -> code -> reconstruction; loss: sum_i (x_i - logits_i)^2 over all items (eq. 1 for users, where a rating
    that is not there is a 0 and counts)."""

    Config: ClassVar[type[ModelConfig]] = AutoRecConfig
    config: AutoRecConfig
