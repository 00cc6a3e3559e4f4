"""Dataset: users, items and histories of one log, with what is known of the items."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recsys_ae.errors import DataError
from recsys_ae.histories import Histories
from recsys_ae.ids import Id, IdMap
from recsys_ae.items import ItemMetadata
from recsys_ae.preprocessing import Preprocessing

if TYPE_CHECKING:
    from recsys_ae.log import InteractionLog


@dataclass(frozen=True, eq=False)
class Dataset:
    """Histories with the maps of their rows and columns. Raises DataError where widths differ."""

    users: IdMap
    items: IdMap
    histories: Histories
    metadata: ItemMetadata = field(default_factory=ItemMetadata)
    preprocessing: Preprocessing = Preprocessing()

    def __post_init__(self) -> None:
        if len(self.users) != len(self.histories) or len(self.items) != self.histories.n_items:
            raise DataError(
                f"histories of {len(self.histories)} rows and {self.histories.n_items} items; "
                f"expected {len(self.users)} users and {len(self.items)} items as the id maps have"
            )

    @classmethod
    def from_log(
        cls,
        log: "InteractionLog",
        preprocessing: Preprocessing | None = None,
        titles: Mapping[Id, str] | None = None,
        categories: Mapping[Id, tuple[str, ...]] | None = None,
    ) -> "Dataset":
        """Index a clean log; ids ascend, weights follow `preprocessing`, its reference time is the log's last unless given."""
        preprocessing = preprocessing or Preprocessing()
        found = log.indexed()
        if preprocessing.half_life_days and preprocessing.reference_time is None:
            if found.times is None:
                raise DataError("half_life_days needs times, and the log has none; expected a timestamp column")
            preprocessing = preprocessing.model_copy(update={"reference_time": int(found.times.max())})
        raw = found.weights
        if raw is None:  # as the API takes an event that states none
            raw = np.full(len(found.rows), preprocessing.neutral_weight)
        weights = preprocessing.weights(raw, found.times)
        shape = (len(found.users), len(found.items))
        histories = Histories.from_pairs(found.rows, found.columns, weights, found.times, shape)
        metadata = ItemMetadata.of(found.items, histories, titles or {}, categories or {})
        return cls(found.users, found.items, histories, metadata, preprocessing)

    def with_rows(self, rows: NDArray[np.integer]) -> "Dataset":
        """The given users only, over the same items."""
        return Dataset(self.users.take(rows), self.items, self.histories.take(rows), self.metadata, self.preprocessing)

    def with_items(self, columns: NDArray[np.integer]) -> "Dataset":
        """The given items only; interactions with others are left out."""
        new = np.full(len(self.items), -1, np.int64)
        new[columns] = np.arange(len(columns))
        return Dataset(
            self.users, self.items.take(columns), self.histories.remap(new, len(columns)),
            self.metadata.take(columns), self.preprocessing,
        )  # fmt: skip

    @cached_property
    def digest(self) -> str:
        """sha256 over ids, histories and times: the same data gives the same digest whatever file it came from."""
        digest = hashlib.sha256((self.users.digest + self.items.digest).encode())
        for array in (self.histories.indptr, self.histories.items, self.histories.weights, self.histories.times):
            digest.update(b"none" if array is None else array.tobytes())
        return "sha256:" + digest.hexdigest()
