"""Per-user figures as Parquet, one file a model: written block by block while users stream by, read back a column at a time."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.columns import id_array, id_lists
from recsys_ae.beyond import Lists
from recsys_ae.histories import Holdout
from recsys_ae.ids import IdMap
from recsys_ae.scratch import whole_file

OWN = ("window", "user_id", "history", "held_out", "recommended")


class PerUserWriter:
    """Writes PATH once closed without an error: user_id, lengths of history and held-out part, metrics, recommended ids."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self._stack = path, ExitStack()
        self._writer: pq.ParquetWriter | None = None

    def add(
        self,
        holdout: Holdout,
        items: IdMap,
        rows: slice,
        lists: Lists,
        metrics: Mapping[str, NDArray[np.float64]],
        window: int = 1,
    ) -> None:
        """A block of users of a window, from 1: lists (B, K) of columns of `items`, metrics (B,) by name."""
        columns = {
            "window": pa.array(np.full(len(lists), window, np.int16)),
            "user_id": id_array(holdout.users.ids[rows]),
            "history": pa.array(holdout.fold_in.lengths[rows]),
            "held_out": pa.array(holdout.held_out.lengths[rows]),
            **{name: pa.array(values) for name, values in metrics.items()},
            "recommended": id_lists(lists, items),
        }
        table = pa.table(columns)
        if self._writer is None:
            partial = self._stack.enter_context(whole_file(self.path))
            self._writer = self._stack.enter_context(pq.ParquetWriter(partial, table.schema, compression="zstd"))
        self._writer.write_table(table)

    def __enter__(self) -> "PerUserWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, traceback)


class PerUserFile(Mapping[str, NDArray[np.float64]]):
    """The metrics of a file, (U,) by name, of one window or of all; nothing is held."""

    def __init__(self, path: Path, window: int | None = None) -> None:
        self._path, self._filter = path, None if window is None else [("window", "=", window)]
        self._names = [name for name in pq.read_schema(path).names if name not in OWN]

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        if name not in self._names:
            raise KeyError(name)
        column = pq.read_table(self._path, columns=[name], filters=self._filter).column(0)
        return np.asarray(column.to_numpy(), np.float64)

    def __contains__(self, name: object) -> bool:  # the mixin's reads the column
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
