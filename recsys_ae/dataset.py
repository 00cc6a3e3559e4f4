"""Dataset: users, items and histories of one log, with what is known of the items."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recsys_ae.batches import BATCH_ROWS, Codes, ahead, users_of, whole_users
from recsys_ae.errors import DataError, LogError
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
        """Index a clean log; ids ascend, weights follow `preprocessing`, its reference time is the log's last unless given.

        Memory beside the result is that of one batch. Raises DataError where a half-life meets a log without times.
        """
        preprocessing = preprocessing or Preprocessing()
        if preprocessing.reference_time is None and (preprocessing.half_life_days or preprocessing.max_item_idle_days):
            last = log.last_time()
            if last is None:
                raise DataError("half_life_days needs times, and the log has none; expected a timestamp column")
            preprocessing = preprocessing.model_copy(update={"reference_time": last})
        users, items, histories = _indexed(log, preprocessing)
        metadata = ItemMetadata.of(items, histories, titles or {}, categories or {})
        return cls(users, items, histories, metadata, preprocessing)

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


def _indexed(log: "InteractionLog", preprocessing: Preprocessing) -> tuple[IdMap, IdMap, Histories]:
    """Ids become positions, in ascending order of the ids. Raises LogError where the log is not in order of user."""
    names = log.columns
    columns, weights = np.empty(log.kept, np.int32), np.empty(log.kept, np.float32)
    times = np.empty(log.kept, np.int64) if "timestamp" in names else None
    users: list[Id] = []
    lengths: list[NDArray[np.int64]] = []
    codes, start = Codes(), 0
    for batch in ahead(whole_users(log.batches())):
        block = slice(start, start + len(batch))
        ids, counts = users_of(batch)
        users += ids
        lengths.append(counts)
        columns[block] = codes.of(batch["item_id"])
        if times is not None:
            times[block] = batch["timestamp"].to_numpy()
        # as the API takes an event that states no weight
        raw = batch["weight"].to_numpy() if "weight" in names else np.full(len(batch), preprocessing.neutral_weight)
        weights[block] = preprocessing.weights(raw, None if times is None else times[block])
        start = block.stop
    late = next((b for a, b in pairwise(users) if a >= b), None)  # type: ignore[operator]
    if late is not None:
        raise LogError(f"a clean log is in order of user_id; found {late!r} late")
    ids = codes.ids
    order = sorted(range(len(ids)), key=ids.__getitem__)
    places = np.empty(len(ids), np.int32)
    places[order] = np.arange(len(ids))
    for first in range(0, len(columns), BATCH_ROWS):
        block = slice(first, first + BATCH_ROWS)
        columns[block] = places[columns[block]]
    indptr = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    histories = Histories(indptr, columns, weights, len(ids), times)
    return IdMap(tuple(users)), IdMap(tuple(ids[i] for i in order)), histories
