"""The models. A new one is one file, one line here, and one heading in docs/models.md."""

from recsys_ae.models.als import ALS
from recsys_ae.models.base import Latent, LatentRecommender, ModelConfig, Recommender
from recsys_ae.models.ease import EASE
from recsys_ae.models.mult_dae import MultDAE
from recsys_ae.models.mult_vae import MultVAE
from recsys_ae.models.popularity import Popularity

MODELS: dict[str, type[Recommender]] = {
    "popularity": Popularity,
    "als": ALS,
    "ease": EASE,
    "mult_dae": MultDAE,
    "mult_vae": MultVAE,
}

__all__ = ["MODELS", "Latent", "LatentRecommender", "ModelConfig", "Recommender"]
