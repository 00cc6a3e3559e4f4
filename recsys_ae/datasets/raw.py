"""RawData: a data set as it comes, before cleaning."""

import glob
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from recsys_ae.ids import Id

if TYPE_CHECKING:
    from recsys_ae.cleaning import Cleaning
    from recsys_ae.log import InteractionLog


@dataclass(frozen=True)
class RawData:
    """A log as it comes with titles and categories by item id.

    `events` has the columns user_id, item_id, and timestamp and weight where known: a table in memory, or Parquet files. A set
    that comes divided has its train and test files in `given`.
    """

    events: pa.Table | tuple[Path, ...]
    titles: dict[Id, str]
    categories: dict[Id, tuple[str, ...]]
    given: tuple[Path, Path] | None = None

    def clean(self, cleaning: "Cleaning", into: Path | None = None, memory_limit: int | None = None) -> "InteractionLog":
        """The clean log of all events; the arguments are those of `read_log`."""
        from recsys_ae.log import InteractionLog, read_log  # which brings DuckDB

        if isinstance(self.events, tuple):
            paths = [glob.escape(str(path)) for path in self.events]
            return read_log(paths, cleaning=cleaning, into=into, memory_limit=memory_limit)
        return InteractionLog.from_table(self.events, cleaning=cleaning, into=into)
