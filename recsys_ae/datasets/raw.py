"""RawData: a data set as it comes, before cleaning."""

from dataclasses import dataclass

import pyarrow as pa

from recsys_ae.ids import Id


@dataclass(frozen=True)
class RawData:
    """A log as it comes (columns user_id, item_id, timestamp, weight) with titles and categories by item id."""

    events: pa.Table
    titles: dict[Id, str]
    categories: dict[Id, tuple[str, ...]]
