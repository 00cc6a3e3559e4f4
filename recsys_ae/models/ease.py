"""EASE: a linear autoencoder without self-similarity, in closed form (Steck 2019, Embarrassingly Shallow Autoencoders)."""

from collections.abc import Callable
from typing import Annotated, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy.linalg import lapack
from scipy.sparse import csr_array
from torch import Tensor

from recsys_ae.errors import ModelError
from recsys_ae.histories import Histories
from recsys_ae.models.base import DirectRecommender, ModelConfig
from recsys_ae.models.search import Search
from recsys_ae.training.layers import bag_sum

BLOCK = 1024  # rows of the item-item matrix worked on at once


class EASEConfig(ModelConfig):
    """One hyperparameter."""

    regularisation: Annotated[float, Field(gt=0), Search(1.0, 10_000.0, log=True)] = 500.0  # lambda of eq. 3


class DenseItemWeights(DirectRecommender):
    """scores = x B with B (I, I) float32."""

    linear = True

    def _score(self, histories: Histories, items: Tensor | None) -> Tensor:
        weights = self._tensors["weights"]
        if items is not None:
            weights = weights[:, items.to(weights.device)]
        bags = self._bags(histories)
        return bag_sum(weights, bags)

    def layout(self) -> dict[str, int | None]:
        return {"weights": 0}


class EASE(DenseItemWeights):
    """B = -P / diag(P) with a zero diagonal, P = (X'X + lambda I)^-1 (eq. 8); scores = x B. B is (I, I)."""

    Config: ClassVar[type[ModelConfig]] = EASEConfig
    config: EASEConfig

    def _learn(self, train: Histories, seed: int) -> dict[str, Tensor]:
        weights = item_weights(train.matrix, lambda diagonal: np.full_like(diagonal, self.config.regularisation))
        return {"weights": torch.from_numpy(weights)}


def item_weights(matrix: csr_array, ridge: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> NDArray[np.float32]:
    """B (I, I) float32, C order, of rows (U, I). Everything happens in the one item-item matrix: Gram, Cholesky factor,
    inverse, B. `ridge` makes what is added to the Gram matrix' diagonal (I,) from that diagonal."""
    n_items = matrix.shape[1]
    by_item = matrix.T.tocsr()  # (I, U)
    weights = np.empty((n_items, n_items), np.float32)
    for start in range(0, n_items, BLOCK):
        block = slice(start, start + BLOCK)
        weights[block] = (by_item[block] @ matrix).toarray()
    added = ridge(weights.diagonal())
    weights[np.diag_indices(n_items)] += added
    if not invert_(weights):
        raise not_positive_definite(n_items, added)
    weights /= -np.diag(weights).copy()
    np.fill_diagonal(weights, 0.0)
    return weights


def not_positive_definite(n_items: int, ridge: NDArray[np.float32]) -> ModelError:
    """The error of a Gram matrix that float32 cannot factorise."""
    return ModelError(
        f"the item-item matrix of {n_items} items is not positive definite in float32; "
        f"expected a regularisation greater than {ridge.min(initial=np.inf):g} on its diagonal"
    )


def invert_(a: NDArray[np.float32]) -> bool:
    """A positive definite matrix becomes its inverse in place, by blocks; False where it is not positive definite.

    LAPACK sees single blocks alone: OpenBLAS' threaded spotrf writes past its buffer on matrices of some 40,000 rows.
    """
    n = len(a)
    blocks = [(slice(0, k), slice(k, k + BLOCK), slice(k + BLOCK, n)) for k in range(0, n, BLOCK)]
    for before, own, after in blocks:  # L, with L_kk^-1 in its diagonal blocks
        a[own.start :, own] -= a[own.start :, before] @ a[own, before].T
        factor, info = lapack.spotrf(a[own, own], lower=1)
        if info != 0:
            return False
        a[own, own] = lapack.strtri(factor, lower=1)[0]
        a[after, own] = a[after, own] @ a[own, own].T
    for before, own, _ in blocks:  # L^-1, of which nothing stands above the diagonal
        a[own, before] = -a[own, own] @ (a[own, before] @ a[before, before])
        a[before, own] = 0
    for _, own, _ in blocks:  # L^-T L^-1
        a[own, : own.stop] = a[own.start :, own].T @ a[own.start :, : own.stop]
    for before, own, _ in blocks:
        a[before, own] = a[own, before].T
    return True
