"""What the neighbour models share: who is kept as a neighbour, and scores by a sparse product in bounded memory."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from torch import Tensor

from recsys_ae.histories import Histories
from recsys_ae.models.base import DirectRecommender
from recsys_ae.training.batches import Bags, SparseRows

PRODUCTS = 2**22  # of two stored entries, held at once


def product(bags: Bags, rows: SparseRows, width: int) -> Tensor:
    """Bags (B, R) times a sparse matrix (R, width): dense (B, width) float32, summed in the order of the stored entries."""
    found = torch.zeros(len(bags) * width, device=bags.weights.device)
    ends = (rows.indptr[bags.columns + 1] - rows.indptr[bags.columns]).cumsum(0)
    _, sizes = torch.unique_consecutive(ends // PRODUCTS, return_counts=True)
    for entries in torch.split(torch.arange(len(ends), device=ends.device), sizes.tolist()):
        terms = rows.batch(bags.columns[entries])
        left = entries[terms.rows]
        found.index_add_(0, bags.rows[left].long() * width + terms.columns, bags.weights[left] * terms.weights)
    return found.view(len(bags), width)


def strongest(similarity: csr_array, k: int) -> csr_array:
    """The k largest entries of each row of a canonical matrix, of equal ones those of the lowest columns."""
    indptr, data = similarity.indptr, similarity.data
    keep = np.ones(len(data), np.bool_)
    for row in np.flatnonzero(np.diff(indptr) > k):
        own = slice(indptr[row], indptr[row + 1])
        least = -np.partition(-data[own], k - 1)[k - 1]
        keep[own] = data[own] > least
        ties = np.flatnonzero(data[own] == least)
        keep[own][ties[: k - int(keep[own].sum())]] = True
    return _only(similarity, keep)


def without_diagonal(similarity: csr_array, first_row: int = 0) -> csr_array:
    """A block of rows, of which the first is `first_row` of the whole, without what an item says of itself."""
    rows = first_row + np.repeat(np.arange(similarity.shape[0]), np.diff(similarity.indptr))
    return _only(similarity, rows != similarity.indices)


def _only(matrix: csr_array, keep: NDArray[np.bool_]) -> csr_array:
    indptr = np.concatenate([[0], np.cumsum(keep, dtype=np.int64)])[matrix.indptr]
    return csr_array((matrix.data[keep], matrix.indices[keep], indptr), matrix.shape)


def scaled(matrix: csr_array, rows: NDArray[np.float64]) -> csr_array:
    """Each row of a sparse matrix times its number."""
    return csr_array((matrix.data * np.repeat(rows, np.diff(matrix.indptr)), matrix.indices, matrix.indptr), matrix.shape)


def inverse(values: ArrayLike) -> NDArray[np.float64]:
    """1 / values, and 0 for 0."""
    wide = np.asarray(values, np.float64)
    return np.divide(1.0, wide, out=np.zeros_like(wide), where=wide > 0)


def sparse_rows(rows: Tensor, columns: Tensor, weights: Tensor, n_rows: int) -> SparseRows:
    """The sparse matrix of N entries (row, column, weight) in any order; in a row they keep the order given."""
    order = rows.argsort(stable=True)
    counts = rows.bincount(minlength=n_rows)
    indptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return SparseRows(indptr, columns[order].int(), weights[order])


class NeighbourModel(DirectRecommender):
    """A model whose scoring reads an index that is made from the saved tensors once."""

    @abstractmethod
    def _index(self) -> None:
        """Derive what scoring reads from the tensors, on their device."""

    def restore(self, tensors: Mapping[str, Tensor]) -> Self:
        super().restore(tensors)
        self._index()
        return self


class ItemNeighbours(NeighbourModel):
    """Score of an item: the weights in the history of the item's K neighbours, times their similarities, plus a bias.

    Kept are `neighbours` (I, K) and `similarities` (I, K), short rows padded with similarity 0, and `bias` (I,). The index
    holds them by neighbour, so that a history is scored by the rows of its own items, not by those of the whole catalogue.
    """

    linear = True

    @abstractmethod
    def _similarity(self, train: csr_array) -> csr_array:
        """Row i: the neighbours of item i, at most K, with their similarities."""

    def _bias(self, train: csr_array, similarity: csr_array) -> NDArray[np.float64]:
        """What is added to every score, (I,)."""
        return np.zeros(self.n_items)

    @property
    @abstractmethod
    def _most(self) -> int:
        """K."""

    def _learn(self, train: Histories, seed: int) -> dict[str, Tensor]:
        found = self._similarity(train.matrix)
        rows = np.repeat(np.arange(self.n_items), np.diff(found.indptr))
        places = np.arange(len(rows)) - found.indptr[rows]
        neighbours = torch.zeros(self.n_items, min(self._most, self.n_items), dtype=torch.int32)
        similarities = torch.zeros(neighbours.shape)
        neighbours[rows, places] = torch.from_numpy(found.indices.astype("int32"))
        similarities[rows, places] = torch.from_numpy(found.data.astype("float32"))
        bias = torch.from_numpy(self._bias(train.matrix, found)).float()
        return {"neighbours": neighbours, "similarities": similarities, "bias": bias}

    def _index(self) -> None:
        similarities = self._tensors["similarities"]
        items, places = similarities.nonzero(as_tuple=True)
        neighbours = self._tensors["neighbours"][items, places]
        self._by_neighbour = sparse_rows(neighbours, items, similarities[items, places], self.n_items)

    def _score(self, histories: Histories, items: Tensor | None) -> Tensor:
        scores = product(self._bags(histories), self._by_neighbour, self.n_items) + self._tensors["bias"]
        return scores if items is None else scores[:, items.to(scores.device)]

    def layout(self) -> dict[str, int | None]:
        return {"neighbours": 0, "similarities": 0, "bias": 0}
