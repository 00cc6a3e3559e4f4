"""CDAE: a collaborative denoising autoencoder (Wu, DuBois, Zheng, Ester 2016, Collaborative Denoising Auto-Encoders for
Top-N Recommender Systems), without its user node."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from recsys_ae.models.autoencoder import AutoencoderConfig, DenoisingAutoencoder
from recsys_ae.models.base import ModelConfig
from recsys_ae.models.search import Choice
from recsys_ae.training.loss import Likelihood


class CDAEConfig(AutoencoderConfig):
    """Defaults chosen on validation users; see docs/experiments.md."""

    dropout: float = Field(0.5, ge=0, lt=1)  # q of 3.1
    target: Literal["all", "dropped"] = "all"
    tied: bool = False
    learning_rate: float = Field(5e-4, gt=0)
    loss: Annotated[Likelihood, Choice("bernoulli", "gaussian")] = "gaussian"  # of 3.3


class CDAE(DenoisingAutoencoder):
    """x -> x / |x| -> dropout -> code -> logits; loss: of each item by itself, over all (eq. 4 without V_u).

    The paper adds a vector V_u of each training user to the code. Everyone who is scored here is unknown to training, so the
    node would be learnt and thrown away; it is left out altogether.
    """

    Config: ClassVar[type[ModelConfig]] = CDAEConfig
    config: CDAEConfig
