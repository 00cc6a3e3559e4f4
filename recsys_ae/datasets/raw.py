"""RawData: a data set as it comes, before cleaning."""

import glob
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from recsys_ae.ids import Id
from recsys_ae.log import Cleaning, InteractionLog, read_log


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

    def clean(self, cleaning: Cleaning) -> InteractionLog:
        """The clean log of all events."""
        if isinstance(self.events, tuple):
            return read_log([glob.escape(str(path)) for path in self.events], cleaning=cleaning)
        return InteractionLog.from_table(self.events, cleaning=cleaning)
