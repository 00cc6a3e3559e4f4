"""The models. A new one is one file, one line here, and one heading in docs/models.md."""

from recsys_ae.models.als import ALS
from recsys_ae.models.autorec import AutoRec
from recsys_ae.models.base import Latent, LatentRecommender, ModelConfig, Recommender
from recsys_ae.models.bpr import BPR
from recsys_ae.models.cdae import CDAE
from recsys_ae.models.conv_vae import ConvVAE
from recsys_ae.models.ease import EASE
from recsys_ae.models.edlae import EDLAE
from recsys_ae.models.elsa import ELSA
from recsys_ae.models.ensemble import Ensemble
from recsys_ae.models.h_vamp import HVamp
from recsys_ae.models.item_knn import ItemKNN
from recsys_ae.models.mult_dae import MultDAE
from recsys_ae.models.mult_vae import MultVAE
from recsys_ae.models.popularity import Popularity
from recsys_ae.models.rec_vae import RecVAE
from recsys_ae.models.rp3beta import RP3Beta
from recsys_ae.models.sparse_ease import SparseEASE
from recsys_ae.models.user_knn import UserKNN
from recsys_ae.models.vasp import VASP

MODELS: dict[str, type[Recommender]] = {
    "popularity": Popularity,
    "als": ALS,
    "bpr": BPR,
    "item_knn": ItemKNN,
    "user_knn": UserKNN,
    "rp3beta": RP3Beta,
    "ease": EASE,
    "edlae": EDLAE,
    "sparse_ease": SparseEASE,
    "elsa": ELSA,
    "autorec": AutoRec,
    "cdae": CDAE,
    "mult_dae": MultDAE,
    "mult_vae": MultVAE,
    "rec_vae": RecVAE,
    "h_vamp": HVamp,
    "vasp": VASP,
    "conv_vae": ConvVAE,
    "ensemble": Ensemble,
}

__all__ = ["MODELS", "Latent", "LatentRecommender", "ModelConfig", "Recommender"]
