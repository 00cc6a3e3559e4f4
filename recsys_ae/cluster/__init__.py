"""Fits that are larger than one process: `fit_by_ranks` starts several here, by torchrun; `fit_on_ray` on a Ray cluster."""

from recsys_ae.cluster.ray_train import fit_on_ray
from recsys_ae.cluster.torchrun import fit_by_ranks

__all__ = ["fit_by_ranks", "fit_on_ray"]
