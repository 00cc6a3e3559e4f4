"""Lists of stored users, kept as they were answered for as long as nothing that they were made from has changed."""

from collections import OrderedDict
from typing import NamedTuple

from service.store import Stamp

Key = tuple[str, str, bytes]
"""Version, user, query: all that a list hangs on beside what is stored of the user and of the items."""
OVERHEAD = 500  # bytes of an entry beside its body


class CachedList(NamedTuple):
    """An answer's bytes but for what each request has of its own; its items as they are logged; and how popular they are."""

    body: bytes
    source: str
    items: str
    popularity: float | None


class Cache:
    """The lists asked for last, in at most so many bytes. For one thread."""

    def __init__(self, most_bytes: float) -> None:
        self._most = most_bytes
        self._bytes = 0
        self._entries: OrderedDict[Key, tuple[Stamp, CachedList]] = OrderedDict()

    def get(self, key: Key, stamp: Stamp) -> CachedList | None:
        """The list, if there is one and it was made at this stamp."""
        entry = self._entries.get(key)
        if entry is None or entry[0] != stamp:
            return None
        self._entries.move_to_end(key)
        return entry[1]

    def put(self, key: Key, stamp: Stamp, value: CachedList) -> None:
        """Keep a list that was made after the stamp was read."""
        self._drop(key)
        self._entries[key] = (stamp, value)
        self._bytes += _size(key, value)
        while self._bytes > self._most:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= _size(key, entry[1])


def _size(key: Key, value: CachedList) -> int:
    return OVERHEAD + len(key[1]) + len(key[2]) + len(value.body) + len(value.items)
