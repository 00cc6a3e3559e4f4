"""Index: the best items of a large catalogue without scoring all of it. Approximate: its recall is measured when it is made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_ae.errors import ArtifactError, ConfigError, WriteError
from recsys_ae.histories import Histories
from recsys_ae.models.base import Recommender
from recsys_ae.ranking import Ranking, rank_top_k

K = 100  # items of a list by which the recall is measured
MEASURED = 200  # histories that the recall is measured by
WANTED = 0.98  # of them that are to be found
CELLS_PER_ROOT = 4  # of the square root of the number of items: faiss' rule of thumb
TRAINED_ON = 40  # items a cell
ROUNDS, PER_CELL = 10, 64  # of k-means, and the items a cell it looks at: faiss' own 25 and 256 find cells hardly better


@dataclass(frozen=True, eq=False)
class Index:
    """Item rows in cells (faiss IndexIVFFlat), the bias as one more dimension; of `cells`, the `probed` nearest are searched.

    Within those cells scores are exact. `recall`: of the items of exact lists of 100, the share that the index finds.
    """

    cells: int
    probed: int
    recall: float
    queries: int
    _faiss: Any

    @classmethod
    def of(cls, model: Recommender, sample: Histories) -> "Index | None":
        """Of a fitted model, its recall measured on some histories of (B, I); None where there are none, or its scores are no
        inner products.

        As few cells are searched as give a recall of 0.98. Raises ConfigError where faiss is missing.
        """
        sample = sample.evenly(MEASURED)
        factors = model.factors(sample)
        if factors is None or not len(sample):
            return None
        faiss = _faiss()
        weight = factors.weight.cpu().numpy()
        bias = np.zeros(len(weight), np.float32) if factors.bias is None else factors.bias.cpu().numpy()
        rows = np.ascontiguousarray(np.column_stack([weight, bias]), np.float32)
        cells = max(1, min(int(CELLS_PER_ROOT * len(rows) ** 0.5), len(rows) // TRAINED_ON))
        made = faiss.IndexIVFFlat(faiss.IndexFlatIP(rows.shape[1]), rows.shape[1], cells, faiss.METRIC_INNER_PRODUCT)
        made.cp.niter, made.cp.max_points_per_centroid = ROUNDS, PER_CELL
        made.train(rows)
        made.add(rows)
        exact = rank_top_k(model, sample, min(K, len(rows)), exclude_seen=False).items
        queries = _queries(factors.queries.cpu().numpy())
        probed, recall = 1, 0.0
        while recall < WANTED and probed < cells:
            probed = min(2 * probed, cells)
            made.nprobe = probed
            found = made.search(queries, exact.shape[1])[1]
            recall = float(np.mean([np.isin(row, own).mean() for row, own in zip(exact, found, strict=True)]))
        return cls(cells, probed, 1.0 if probed == cells else recall, len(sample), made)

    @property
    def facts(self) -> dict[str, Any]:
        """How it was made, and how well it finds; what `load` needs beside the file."""
        return {"cells": self.cells, "probed": self.probed, "recall": self.recall, "queries": self.queries}

    def save(self, path: Path) -> None:
        """Write it as faiss does, without its facts."""
        try:
            _faiss().write_index(self._faiss, str(path))
        except RuntimeError as error:  # in which faiss tells of the system's errors
            raise WriteError(f"{path}: cannot be written ({_last_line(error)})") from None

    @classmethod
    def load(cls, path: Path, facts: Mapping[str, Any]) -> "Index":
        """The inverse of `save`, of a file whose digest was checked. Raises ArtifactError, ConfigError without faiss."""
        try:
            made = _faiss().read_index(str(path))
        except RuntimeError as error:
            raise ArtifactError(f"{path}: cannot be read back by this release of faiss ({_last_line(error)})") from None
        made.nprobe = facts["probed"]
        return cls(**facts, _faiss=made)

    def ranked(
        self, queries: NDArray[np.float32], left_out: Sequence[NDArray[np.integer]], ks: Sequence[int]
    ) -> list[Ranking | None]:
        """For each query (B, H) the k best items but those left out; None where the cells that were searched hold too few."""
        most = max(k + len(out) for k, out in zip(ks, left_out, strict=True))
        scores, items = self._faiss.search(_queries(queries), min(most, self._faiss.ntotal))
        lists: list[Ranking | None] = []
        for row, columns, out, k in zip(scores, items, left_out, ks, strict=True):
            kept = np.flatnonzero((columns >= 0) & ~np.isin(columns, out))
            order = kept[np.lexsort((columns[kept], -row[kept]))][:k]
            whole = len(order) == k
            lists.append(Ranking(columns[order][None].astype(np.int32), row[order][None]) if whole else None)
        return lists


def _queries(queries: NDArray[np.float32]) -> NDArray[np.float32]:
    """With the factor of the bias."""
    return np.ascontiguousarray(np.column_stack([queries, np.ones(len(queries), np.float32)]), np.float32)


def _last_line(error: RuntimeError) -> str:
    return str(error).strip().rpartition("\n")[2]


def require_faiss() -> None:
    """Raises ConfigError where faiss is missing."""
    if find_spec("faiss") is None:
        raise ConfigError("index_from_items needs faiss; pip install 'recsys-ae[faiss]'")


def _faiss() -> Any:
    require_faiss()
    import faiss

    return faiss
