"""Sparse batches: histories on the device as flat arrays, sliced by row without a dense row anywhere on the host."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import torch
from torch import Generator, Tensor

from recsys_ae.histories import Histories
from recsys_ae.training.ranks import Ranks

ROWS_AT_ONCE = 100_000


@dataclass(frozen=True)
class Part:
    """What of a batch is this rank's: the places of its rows (B,) and entries (N,) in the whole, of `n_rows` and `n_entries`.

    Where all rows are other ranks', one of this rank's other rows stands in, so that there is something to compute: `share` 0.
    `others`: who has the rest of each row, where a rank has the entries of some items alone.
    """

    rows: Tensor
    entries: Tensor
    n_rows: int
    n_entries: int
    share: float  # of the batch's rows
    others: Ranks | None = None


@dataclass(frozen=True)
class Bags:
    """B histories of a batch as stored entries: columns (N,) int32, weights (N,) float32, offsets (B,) int32."""

    columns: Tensor
    weights: Tensor
    offsets: Tensor
    rows: Tensor  # (N,) int32, row of each entry
    part: Part | None = None  # of a batch that several ranks share

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def ends(self) -> Tensor:
        """Where the entries of each row end, (B,) int32."""
        return torch.cat([self.offsets[1:], self.offsets.new_tensor([len(self.columns)])])

    @property
    def others(self) -> Ranks | None:
        """Who has the rest of each row; None where rows are whole."""
        return None if self.part is None else self.part.others

    def row_sums(self, values: Tensor) -> Tensor:
        """Sum of `values` (N,) over the entries of each row, wherever they are, (B,)."""
        return self.total(values.new_zeros(len(self)).index_add_(0, self.rows, values))

    def total(self, values: Tensor) -> Tensor:
        """The sum, in place, of what each rank has found of its own entries and items."""
        if self.others is not None:
            self.others.add([values])
        return values

    def gathered(self, partial: Tensor) -> Tensor:
        """What the entries of each row make together, (B, H), of what those of each rank make."""
        return partial if self.others is None else self.others.gathered(partial)

    def spread(self, values: Tensor) -> Tensor:
        """The same values (B, H), of which each rank makes scores for its own items."""
        return values if self.others is None else self.others.spread(values)

    def norms(self) -> Tensor:
        """Euclidean norm of each row, (B,), never quite 0."""
        return self.row_sums(self.weights.square()).sqrt().clamp_min(1e-12)

    def normalised(self) -> "Bags":
        """Each row divided by its Euclidean norm; an empty row stays empty instead of becoming NaN."""
        return self.reweighted(self.weights / self.norms().index_select(0, self.rows))

    def kept(self, p: float, generator: Generator) -> Tensor:
        """Which stored entries (N,) survive dropout: each is dropped with probability p."""
        return self.of_entries(torch.rand(self.n_entries, generator=generator, device=self.weights.device)) >= p

    def noise(self, width: int, generator: Generator) -> Tensor:
        """Standard normal numbers, (B, width)."""
        return self.of_rows(torch.randn(self.n_rows, width, generator=generator, device=self.weights.device))

    def reweighted(self, weights: Tensor) -> "Bags":
        """The same entries with other weights (N,)."""
        return replace(self, weights=weights)

    @property
    def n_rows(self) -> int:
        """Rows of the batch of all ranks together, and so on: what is drawn is drawn for all."""
        return len(self) if self.part is None else self.part.n_rows

    @property
    def n_entries(self) -> int:
        return len(self.weights) if self.part is None else self.part.n_entries

    def of_rows(self, values: Tensor) -> Tensor:
        """These rows' values, of those of all ranks."""
        return values if self.part is None else values[self.part.rows]

    def of_entries(self, values: Tensor) -> Tensor:
        return values if self.part is None else values[self.part.entries]

    def batches(self, size: int) -> Iterator["Bags"]:
        """`size` rows after another, as slices: no entry is copied, and the device is asked once, for where they begin."""
        begins = [*self.offsets[::size].tolist(), len(self.columns)]
        for number, (begin, end) in enumerate(pairwise(begins)):
            first = number * size
            offsets = self.offsets[first : first + size] - begin
            yield Bags(self.columns[begin:end], self.weights[begin:end], offsets, self.rows[begin:end] - first)


@dataclass(frozen=True)
class SparseRows:
    """A sparse matrix on the device, of which any rows can be taken at once: indptr (R + 1,), columns and weights (N,)."""

    indptr: Tensor  # int64
    columns: Tensor  # int32
    weights: Tensor  # float32

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def batch(self, rows: Tensor) -> Bags:
        """The given rows (B,) int64, in that order."""
        return self._taken(rows)[0]

    def batches(self, rows: Tensor, size: int) -> Iterator[Bags]:
        """The given rows (B,) int64, `size` after another."""
        return self.batch(rows).batches(size)

    def _taken(self, rows: Tensor) -> tuple[Bags, Tensor]:
        """The given rows, and which of all entries theirs are (N,)."""
        starts = self.indptr[rows]
        lengths = self.indptr[rows + 1] - starts
        ends = lengths.cumsum(0)
        offsets = ends - lengths
        owner = torch.repeat_interleave(lengths)  # (N,)
        entries = torch.arange(len(owner), device=rows.device).add_((starts - offsets).index_select(0, owner))
        columns, weights = (stored.index_select(0, entries) for stored in (self.columns, self.weights))
        return Bags(columns, weights, offsets.int(), owner.int()), entries

    def whole(self) -> Bags:
        """All rows in order."""
        return self.batch(torch.arange(len(self), device=self.indptr.device))


class DeviceHistories(SparseRows):
    """The whole matrix of histories on the device; repeats of an item within a row are folded."""

    def __init__(self, histories: Histories, device: torch.device) -> None:
        matrix = histories.matrix
        super().__init__(
            torch.from_numpy(matrix.indptr.astype("int64")).to(device),
            torch.from_numpy(matrix.indices.astype("int32")).to(device),
            torch.from_numpy(matrix.data).to(device),
        )


class OrderedHistories(SparseRows):
    """Histories on the device as they are: the events of a row in order of time, an item as often as it was met."""

    def __init__(self, histories: Histories, device: torch.device) -> None:
        arrays = (histories.indptr, histories.items, histories.weights)
        super().__init__(*(torch.tensor(array, device=device) for array in arrays))


@dataclass(frozen=True)
class OwnItems(SparseRows):
    """Of the matrix of histories the entries of a rank's own items, columns counted among these."""

    places: Tensor  # (N,) int64, where each entry stands in its whole row
    lengths: Tensor  # (R,) int64, of whole rows
    ranks: Ranks

    @classmethod
    def of(cls, histories: Histories, device: torch.device, ranks: Ranks) -> "OwnItems":
        """By blocks of rows: no rank need have room for the whole matrix."""
        counts, lengths, columns, weights, places = ([np.empty(0, np.int64)] for _ in range(5))
        for start in range(0, len(histories), ROWS_AT_ONCE):
            matrix = histories.take(slice(start, start + ROWS_AT_ONCE)).matrix
            mine = (matrix.indices % ranks.size == ranks.rank).nonzero()[0]
            lengths.append(np.diff(matrix.indptr))
            counts.append(np.diff(mine.searchsorted(matrix.indptr)))
            columns.append(matrix.indices[mine] // ranks.size)
            weights.append(matrix.data[mine])
            places.append(mine - np.repeat(matrix.indptr[:-1], counts[-1]))
        return cls(
            torch.from_numpy(np.concatenate([[0], np.concatenate(counts).cumsum()])).to(device),
            torch.from_numpy(np.concatenate(columns).astype(np.int32)).to(device),
            torch.from_numpy(np.concatenate(weights).astype(np.float32)).to(device),
            torch.from_numpy(np.concatenate(places).astype(np.int64)).to(device),
            torch.from_numpy(np.concatenate(lengths).astype(np.int64)).to(device),
            ranks,
        )

    def batch(self, rows: Tensor) -> Bags:
        bags, entries = self._taken(rows)
        lengths = self.lengths[rows]
        begins = lengths.cumsum(0) - lengths
        everyone = torch.arange(len(rows), device=rows.device)
        part = Part(everyone, begins[bags.rows] + self.places[entries], len(rows), int(lengths.sum()), 1.0, self.ranks)
        return replace(bags, part=part)

    def batches(self, rows: Tensor, size: int) -> Iterator[Bags]:
        return (self.batch(batch) for batch in torch.split(rows, size))


Rows: TypeAlias = type[DeviceHistories] | type[OrderedHistories]
"""How a model has histories on the device."""
