"""Arrow batches of a clean log: read in order, cut at users, ids turned into codes."""

from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys_ae.ids import Id

BATCH_ROWS = 1_000_000


def parquet_files(path: Path) -> list[Path]:
    """The file itself, or the parts in a folder, in the order of their names."""
    return sorted(path.glob("part-*.parquet")) if path.is_dir() else [path]


def read_batches(source: pa.Table | Path, rows: int = BATCH_ROWS, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Rows of a table, a Parquet file or a folder of its parts, in order."""
    if isinstance(source, pa.Table):
        yield from (source.select(columns) if columns else source).to_batches(max_chunksize=rows)
        return
    for path in parquet_files(source):
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(rows, columns=columns)


def ahead(batches: Iterable[pa.RecordBatch]) -> Generator[pa.RecordBatch, None, None]:
    """The same batches, each made in a thread of its own while the one before is used; once closed, none is being made."""
    with ThreadPoolExecutor(1) as maker:
        iterator = iter(batches)
        coming = maker.submit(next, iterator, None)
        while (batch := coming.result()) is not None:
            coming = maker.submit(next, iterator, None)
            yield batch


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
        self._known: pa.Array | None = None

    def __len__(self) -> int:
        return 0 if self._known is None else len(self._known)

    @property
    def ids(self) -> list[Id]:
        """In order of code."""
        return [] if self._known is None else self._known.to_pylist()

    def of(self, column: pa.Array) -> NDArray[np.int32]:
        """Codes (n,) of a column of ids; new ids get new ones."""
        encoded = column.dictionary_encode()
        distinct = encoded.dictionary
        if self._known is None:
            self._known = distinct.slice(0, 0)
        found = pc.index_in(distinct, value_set=self._known)
        codes = found.fill_null(-1).to_numpy().copy()
        codes[codes < 0] = len(self) + np.arange(found.null_count)
        self._known = pa.concat_arrays([self._known, distinct.filter(found.is_null())])
        return codes[encoded.indices.to_numpy()]
