"""Histories: what users did, as ragged rows; Holdout: the two halves of held-out users. numpy and scipy alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recsys_ae.errors import DataError
from recsys_ae.ids import IdMap

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Histories:
    """Ragged rows in order of time (or of posting); B rows over a catalogue of `n_items`, N stored interactions.

    indptr (B + 1,) int64, items (N,) int32, weights (N,) float32, times (N,) int64 seconds since 1970 or None.
    Raises DataError where an index is out of range, a weight is not finite and positive, or times run backwards in a row.
    """

    indptr: Indices
    items: NDArray[np.int32]
    weights: NDArray[np.float32]
    n_items: int
    times: Indices | None = None

    def __post_init__(self) -> None:
        for name, dtype in (("indptr", np.int64), ("items", np.int32), ("weights", np.float32), ("times", np.int64)):
            array = getattr(self, name)
            if array is not None:
                if name == "items" and len(array) and not 0 <= array.min() <= array.max() < self.n_items:
                    found = array.min() if array.min() < 0 else array.max()
                    raise DataError(f"item index {found} is out of range for a catalogue of {self.n_items} items")
                array = np.ascontiguousarray(array, dtype)
                array = array.view()
                array.flags.writeable = False
                object.__setattr__(self, name, array)
        n = len(self.items)
        if len(self.indptr) == 0 or self.indptr[0] != 0 or self.indptr[-1] != n or (np.diff(self.indptr) < 0).any():
            raise DataError(f"indptr must rise from 0 to the {n} stored interactions")
        if len(self.weights) != n or (self.times is not None and len(self.times) != n):
            raise DataError(f"weights and times must have one entry for each of the {n} stored interactions")
        if not (np.isfinite(self.weights).all() and (self.weights > 0).all()):
            raise DataError("a weight is not finite and greater than 0")
        if self.times is not None and n:
            backwards = self.times[1:] < self.times[:-1]
            backwards[self.indptr[1:-1][(self.indptr[1:-1] > 0) & (self.indptr[1:-1] < n)] - 1] = False
            if backwards.any():
                raise DataError(f"times run backwards within row {self.rows[int(np.argmax(backwards))]}")

    @classmethod
    def from_rows(
        cls,
        rows: Sequence[Sequence[int]],
        n_items: int,
        weights: Sequence[Sequence[float]] | None = None,
        times: Sequence[Sequence[int]] | None = None,
    ) -> "Histories":
        """From Python lists of item columns, one per row; weights default to 1."""
        indptr = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(r) for r in rows], out=indptr[1:])

        def flat(values: Sequence[Sequence[float]], dtype: type) -> NDArray[np.generic]:
            return np.array([v for row in values for v in row], dtype)

        return cls(
            indptr,
            flat(rows, np.int32),  # type: ignore[arg-type]
            np.ones(indptr[-1], np.float32) if weights is None else flat(weights, np.float32),  # type: ignore[arg-type]
            n_items,
            None if times is None else flat(times, np.int64),  # type: ignore[arg-type]
        )

    @classmethod
    def from_columns(cls, rows: Sequence[NDArray[np.integer]], n_items: int) -> "Histories":
        """From an array of item columns for each row; all weights are 1."""
        indptr = np.cumsum([0, *map(len, rows)])
        items = np.concatenate([np.empty(0, np.int32), *rows]).astype(np.int32)
        return cls(indptr, items, np.ones(len(items), np.float32), n_items)

    @classmethod
    def from_matrix(cls, matrix: csr_array) -> "Histories":
        """From a sparse matrix (B, I); explicit zeros are left out."""
        matrix = csr_array(matrix, copy=True)
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        indptr, indices = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32)
        return cls(indptr, indices, matrix.data.astype(np.float32), matrix.shape[1])

    @classmethod
    def stack(cls, parts: Sequence["Histories"]) -> "Histories":
        """The rows of one or more histories over one catalogue; times where all have them.

        Raises DataError for catalogues of several widths.
        """
        widths = {part.n_items for part in parts}
        if len(widths) != 1:
            raise DataError(f"histories over {sorted(widths)} items to stack; expected one width")
        lengths = np.concatenate([part.lengths for part in parts])
        indptr = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=indptr[1:])
        times = [part.times for part in parts if part.times is not None]
        return cls(
            indptr,
            np.concatenate([part.items for part in parts]),
            np.concatenate([part.weights for part in parts]),
            widths.pop(),
            np.concatenate(times) if len(times) == len(parts) else None,
        )

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @property
    def n_interactions(self) -> int:
        """Number N of stored interactions."""
        return len(self.items)

    @cached_property
    def lengths(self) -> Indices:
        """Stored interactions of each row, (B,) int64."""
        return np.diff(self.indptr)

    @cached_property
    def rows(self) -> Indices:
        """The row of each stored interaction, (N,) int64."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @cached_property
    def matrix(self) -> csr_array:
        """The canonical matrix (B, I) float32: sorted columns, repeats added up."""
        matrix = csr_array((self.weights.copy(), self.items.copy(), self.indptr.copy()), shape=(len(self), self.n_items))
        matrix.sum_duplicates()
        return matrix

    def row(self, index: int) -> NDArray[np.int32]:
        """The item columns of one row, in order."""
        return self.items[self.indptr[index] : self.indptr[index + 1]]

    def take(self, rows: NDArray[np.integer] | slice) -> "Histories":
        """The given rows, in the given order."""
        if isinstance(rows, slice):
            rows = np.arange(len(self))[rows]
        lengths = self.lengths[rows]
        indptr = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(lengths, out=indptr[1:])
        entries = np.repeat(self.indptr[:-1][rows] - indptr[:-1], lengths) + np.arange(indptr[-1])
        return self._at(entries, indptr, self.n_items)

    def evenly(self, most: int) -> "Histories":
        """At most so many rows, evenly spaced."""
        return self.take(np.linspace(0, len(self) - 1, min(len(self), most)).astype(np.int64))

    def select(self, keep: NDArray[np.bool_]) -> "Histories":
        """All rows, but only the stored interactions where `keep` (N,) is true."""
        entries = np.flatnonzero(keep)
        return self._at(entries, np.searchsorted(entries, self.indptr), self.n_items)

    def remap(self, columns: NDArray[np.integer], n_items: int) -> "Histories":
        """Into another catalogue: column j becomes `columns[j]`; interactions of columns mapped to -1 are left out."""
        new = columns.astype(np.int32)[self.items]
        known = new >= 0
        if known.all():
            return Histories(self.indptr, new, self.weights, n_items, self.times)
        kept = self.select(known)
        return Histories(kept.indptr, new[known], kept.weights, n_items, kept.times)

    def shared_with(self, other: "Histories") -> NDArray[np.bool_]:
        """True (N,) where an item stands in the same row of `other` too. Cheap where `self` is the smaller of the two."""
        if not self.n_interactions:
            return np.zeros(0, np.bool_)
        own, place = np.unique(self._keys, return_inverse=True)
        asked = np.zeros(self.n_items, np.bool_)
        asked[self.items] = True
        keys = other._keys[asked[other.items]]
        found = np.searchsorted(own, keys)
        met = np.zeros(len(own), np.bool_)
        met[found[own.take(found, mode="clip") == keys]] = True
        return met[place]

    @property
    def _keys(self) -> Indices:
        """One number (N,) for each pair of row and item."""
        keys = np.repeat(np.arange(len(self)) * self.n_items, self.lengths)
        keys += self.items
        return keys

    def _at(self, entries: Indices, indptr: Indices, n_items: int) -> "Histories":
        times = None if self.times is None else self.times[entries]
        return Histories(indptr, self.items[entries], self.weights[entries], n_items, times)


@dataclass(frozen=True, eq=False)
class Holdout:
    """Held-out users: what a model may see of each (`fold_in`) and what it should find (`held_out`).

    Rows of both belong to `users`. `candidates` (C,) are the item columns that alone may be ranked, ascending; all where
    None. Raises DataError where rows, widths, the two halves or the candidates do not fit together.
    """

    users: IdMap
    fold_in: Histories
    held_out: Histories
    candidates: Indices | None = None

    def __post_init__(self) -> None:
        if not len(self.users) == len(self.fold_in) == len(self.held_out):
            raise DataError(
                f"{len(self.users)} users, {len(self.fold_in)} fold-in rows and {len(self.held_out)} held-out rows; "
                "expected as many of each"
            )
        if self.fold_in.n_items != self.held_out.n_items:
            raise DataError(f"fold-in of {self.fold_in.n_items} items, held-out of {self.held_out.n_items}")
        keys = np.sort(self.held_out._keys)
        if (keys[1:] == keys[:-1]).any():
            raise DataError("an item stands twice in the held-out part of a user")
        if self.held_out.shared_with(self.fold_in).any():
            raise DataError("an item stands both in the fold-in and in the held-out part of a user")
        if self.candidates is not None:
            self._check_candidates(np.asarray(self.candidates, np.int64).copy())

    def _check_candidates(self, candidates: Indices) -> None:
        candidates.flags.writeable = False
        object.__setattr__(self, "candidates", candidates)
        if len(candidates) and not (candidates[0] >= 0 and candidates[-1] < self.n_items and (np.diff(candidates) > 0).all()):
            raise DataError(f"candidates must ascend, without repeats, between 0 and {self.n_items - 1}")
        assert self.allow is not None
        if not self.allow[self.held_out.items].all():
            raise DataError("an item is held out that is no candidate; expected every target among the candidates")

    @cached_property
    def allow(self) -> NDArray[np.bool_] | None:
        """Columns (I,) that may be ranked; None where all may."""
        if self.candidates is None:
            return None
        allow = np.zeros(self.n_items, np.bool_)
        allow[self.candidates] = True
        return allow

    def take(self, rows: NDArray[np.integer] | slice) -> "Holdout":
        """Some of the users, in that order."""
        places = np.arange(len(self))[rows]
        return Holdout(self.users.take(places), self.fold_in.take(places), self.held_out.take(places), self.candidates)

    @property
    def n_candidates(self) -> int:
        """How many items are ranked for a user, those of the fold-in included."""
        return self.n_items if self.candidates is None else len(self.candidates)

    @property
    def n_items(self) -> int:
        """Width of the catalogue."""
        return self.fold_in.n_items

    def __len__(self) -> int:
        return len(self.users)
