"""Arrow batches of a clean log: read in order, cut at users, ids turned into codes."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys_ae.ids import Id

BATCH_ROWS = 1_000_000


def read_batches(source: pa.Table | Path, rows: int = BATCH_ROWS, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Rows of a table or a Parquet file in order."""
    if isinstance(source, pa.Table):
        yield from (source.select(columns) if columns else source).to_batches(max_chunksize=rows)
    else:
        with pq.ParquetFile(source) as file:
            yield from file.iter_batches(rows, columns=columns)


def whole_users(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Rows sorted by user, cut anywhere -> batches that hold whole users, none empty."""
    pending: list[pa.RecordBatch] = []
    for batch in batches:
        ends = pc.run_end_encode(batch["user_id"]).run_ends
        start = ends[-2].as_py() if len(ends) > 1 else 0  # of the last user, who may go on in the next batch
        if start:
            yield _joined([*pending, batch.slice(0, start)])
            pending = []
        if len(batch):
            pending.append(batch.slice(start))
    if pending:
        yield _joined(pending)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def users_of(batch: pa.RecordBatch) -> tuple[list[Id], NDArray[np.int64]]:
    """The users of a batch in turn, and how many rows each has."""
    runs = pc.run_end_encode(batch["user_id"])
    return runs.values.to_pylist(), np.diff(runs.run_ends.to_numpy(), prepend=0).astype(np.int64)


class Codes:
    """Ids -> 0, 1, 2 ... in the order in which they are met, across batches."""

    def __init__(self) -> None:
        self._codes: dict[Id, int] = {}

    def __len__(self) -> int:
        return len(self._codes)

    @property
    def ids(self) -> list[Id]:
        """In order of code."""
        return list(self._codes)

    def of(self, column: pa.Array) -> NDArray[np.int32]:
        """Codes (n,) of a column of ids; new ids get new ones."""
        encoded, codes = column.dictionary_encode(), self._codes
        found = [codes.setdefault(id_, len(codes)) for id_ in encoded.dictionary.to_pylist()]
        return np.array(found, np.int32)[encoded.indices.to_numpy()]
