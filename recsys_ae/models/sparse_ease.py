"""Sparse EASE: the linear autoencoder of EASE with K weights an item, for catalogues whose item-item matrix does not fit
(the sparse approximation of Steck 2019, Markov Random Fields for Collaborative Filtering, 3.2; a sparse approximate inverse
serves the same end in Spisak et al. 2023, Scalable Approximate NonSymmetric Autoencoder for Collaborative Filtering)."""

from typing import Annotated, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveInt
from scipy.sparse import csr_array, vstack

from recsys_ae.models.base import ModelConfig
from recsys_ae.models.ease import not_positive_definite
from recsys_ae.models.linear import LinearConfig
from recsys_ae.models.neighbours import ItemNeighbours, scaled, strongest, without_diagonal
from recsys_ae.models.search import Search

ROWS = 1024  # of the item-item matrix looked at at once
ENTRIES = 2**24  # of the small matrices inverted at once: 64 MiB


class SparseEASEConfig(LinearConfig):
    """Defaults chosen on validation users; see docs/experiments.md."""

    neighbours: Annotated[PositiveInt, Search(50, 400, log=True)] = 200  # K, of each item


class SparseEASE(ItemNeighbours):
    """scores = x B. Column j of B is the ridge regression of item j on its K most similar items (cosine), and on them exactly:

        b_j = -p / p_j,   p the column of (G_NN + ridge)^-1 that belongs to j, N the K items and j

    With K the whole catalogue this is EDLAE.
    """

    Config: ClassVar[type[ModelConfig]] = SparseEASEConfig
    config: SparseEASEConfig

    @property
    def _most(self) -> int:
        return self.config.neighbours

    def _similarity(self, train: csr_array) -> csr_array:
        weighted = self.config.weighted(train)
        gram = csr_array(weighted.T.tocsr() @ weighted)  # (I, I), 8 bytes for each two items that share a user
        gram.sort_indices()
        diagonal = gram.diagonal()
        nearest = self._nearest(gram, diagonal)
        ridge = self.config.ridge(diagonal)
        size = self.config.neighbours + 1
        blocks = []
        for start in range(0, self.n_items, max(1, ENTRIES // size**2)):
            items = np.arange(start, min(self.n_items, start + max(1, ENTRIES // size**2)))
            blocks.append(_regressions(gram, ridge, nearest, items))
        popularity = self.config.popularity(train)
        by_target = scaled(csr_array(vstack(blocks)), 1 / popularity.astype(np.float64))
        by_target.data *= popularity[by_target.indices]
        return by_target

    def _nearest(self, gram: csr_array, diagonal: NDArray[np.float32]) -> csr_array:
        """Row j: the K items of the largest cosine with item j."""
        roots = np.sqrt(np.maximum(diagonal, 1e-12))
        blocks = []
        for start in range(0, self.n_items, ROWS):
            cosines = csr_array(gram[start : start + ROWS])
            cosines.data /= roots[cosines.indices]  # the other root is one number for the whole row
            blocks.append(strongest(without_diagonal(cosines, start), self.config.neighbours))
        return csr_array(vstack(blocks))


def _regressions(gram: csr_array, ridge: NDArray[np.float32], nearest: csr_array, items: NDArray[np.int64]) -> csr_array:
    """Rows of weights (J, I) of the regressions of `items` (J,) on their nearest."""
    counts = np.diff(nearest.indptr)[items]
    size = int(counts.max(initial=0)) + 1
    small = np.zeros((len(items), size, size), np.float32)
    small[:, np.arange(size), np.arange(size)] = 1  # of short rows, the rest is the identity and changes nothing
    for place, (item, count) in enumerate(zip(items, counts, strict=True)):
        own = np.append(nearest.indices[nearest.indptr[item] : nearest.indptr[item + 1]], item)
        small[place, : count + 1, : count + 1] = gram[own][:, own].toarray() + np.diag(ridge[own])
        small[place, [count, size - 1]] = small[place, [size - 1, count]]  # the item itself comes last in every matrix
        small[place, :, [count, size - 1]] = small[place, :, [size - 1, count]]
    target = torch.zeros(len(items), size, 1)
    target[:, -1] = 1
    factor, info = torch.linalg.cholesky_ex(torch.from_numpy(small))
    if info.any():
        raise not_positive_definite(gram.shape[0], ridge)
    column = torch.cholesky_solve(target, factor)[..., 0]  # (J, size) p
    weights = (-column / column[:, -1:])[:, :-1].numpy()
    indptr = np.concatenate([[0], np.cumsum(counts)])
    entries = np.arange(size - 1) < counts[:, None]
    indices = nearest.indices[nearest.indptr[items[0]] : nearest.indptr[items[-1] + 1]]
    return csr_array((weights[entries], indices, indptr), (len(items), gram.shape[0]))
