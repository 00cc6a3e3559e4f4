"""EASE: a linear autoencoder without self-similarity, in closed form (Steck 2019, Embarrassingly Shallow Autoencoders)."""

import time
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy.linalg import lapack
from torch import Tensor
from torch.nn import functional as F

from recsys_ae.errors import ModelError
from recsys_ae.histories import Histories, Holdout
from recsys_ae.models.base import ModelConfig, Recommender
from recsys_ae.training.device import resolve_device
from recsys_ae.training.run import FitRecord, RunContext

BLOCK = 256  # columns of the Gram matrix made at once


class EASEConfig(ModelConfig):
    """One hyperparameter."""

    regularisation: float = Field(500.0, gt=0)  # lambda of eq. 3


class EASE(Recommender):
    """B = -P / diag(P) with a zero diagonal, P = (X'X + lambda I)^-1 (eq. 8); scores = x B. B is (I, I)."""

    Config: ClassVar[type[ModelConfig]] = EASEConfig
    config: EASEConfig

    def fit(self, train: Histories, *, validation: Holdout | None, run: RunContext) -> FitRecord:
        self._require_width(train)
        begin = time.perf_counter()
        weights = item_weights(train, self.config.regularisation)
        device = resolve_device(run.device)
        self._tensors = {"weights": torch.from_numpy(weights).to(device)}
        return FitRecord(device=str(device), seconds={"training": time.perf_counter() - begin})

    def _score(self, histories: Histories, items: Tensor | None) -> Tensor:
        weights = self._tensors["weights"]
        if items is not None:
            weights = weights[:, items.to(weights.device)]
        bags = self._bags(histories)
        return F.embedding_bag(bags.columns, weights, bags.offsets, mode="sum", per_sample_weights=bags.weights)

    def layout(self) -> dict[str, int | None]:
        return {"weights": 0}


def item_weights(train: Histories, regularisation: float) -> NDArray[np.float32]:
    """B (I, I) float32, C order. Everything happens in the one item-item matrix: Gram, Cholesky factor, inverse, B."""
    matrix = train.matrix
    n_items = train.n_items
    by_item = matrix.T.tocsr()  # (I, U)
    gram = np.empty((n_items, n_items), np.float32, order="F")
    for start in range(0, n_items, BLOCK):
        block = slice(start, start + BLOCK)
        gram[:, block] = (by_item @ by_item[block].T).toarray()
    gram[np.diag_indices(n_items)] += regularisation
    factor, info = lapack.spotrf(gram, lower=1, overwrite_a=1, clean=0)
    if info == 0:
        inverse, info = lapack.spotri(factor, lower=1, overwrite_c=1)
    if info != 0:
        raise ModelError(
            f"the item-item matrix of {n_items} items is not positive definite in float32 (LAPACK info {info}); "
            f"expected a regularisation greater than {regularisation}"
        )
    # LAPACK filled the lower triangle of P in Fortran order; P is symmetric, so its transpose is P in C order.
    weights: NDArray[np.float32] = inverse.T
    for start in range(0, n_items, BLOCK):
        stop = min(start + BLOCK, n_items)
        square = weights[start:stop, start:stop]
        square[...] = np.triu(square) + np.triu(square, 1).T
        weights[stop:, start:stop] = weights[start:stop, stop:].T
    weights /= -np.diag(weights).copy()
    np.fill_diagonal(weights, 0.0)
    return weights
