"""Impressions: the lists that were shown, on their way to the store. No answer waits for it, or fails with it."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self

from fastapi import FastAPI
from starlette.types import Scope

from recsys_ae.errors import StoreError
from service.observing import Metrics
from service.schemas_store import is_storable
from service.settings import Settings
from service.store import Shown, Store, listed

log = logging.getLogger("service")

MOST_WAITING = 10_000  # lists
EVERY_SECONDS = 0.2
AT_ONCE = 500  # rows of a transaction: events that are posted wait for no more
OLD_AT_ONCE = 5_000
OLD_EVERY_SECONDS = 600
EMPTY = listed(())
STOP_SECONDS = 5  # that a stop waits for the database


class Impressions:
    """A bounded queue, and while it is entered a thread that writes what waits there, every 0.2 s and at the end.

    What finds the queue full, and what the store does not take, is lost: counted by `dropped`, and told once until all is well.
    """

    def __init__(self, store: Store, days: int, dropped: Callable[[int], None], most_waiting: int = MOST_WAITING) -> None:
        self._store = store
        self._days = days
        self._dropped = dropped
        self._waiting: queue.Queue[Shown] = queue.Queue(most_waiting)
        self._full = threading.Event()
        self._stopping = threading.Event()
        self._in_trouble = False
        self._next_look = 0.0  # for old lists, by the monotonic clock
        self._thread = threading.Thread(target=self._work, name="impressions", daemon=True)

    @classmethod
    def of(cls, settings: Settings, store: Store | None, metrics: Metrics) -> "Impressions | None":
        """None without a store, or where nothing is to be logged."""
        if store is None or not settings.impressions:
            return None
        return cls(store, settings.impressions_days, metrics.impressions_dropped.inc)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._stopping.set()
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            log.warning("stopped before all lists that were shown were logged: the store does not answer")

    def take(self, shown: Shown) -> None:
        """Queue a list, or lose it."""
        try:
            self._waiting.put_nowait(shown)
        except queue.Full:
            self._full.set()
            self._dropped(1)

    def write(self) -> None:
        """Write what waits, up to a failure, and remove what is too old."""
        trouble = None
        while trouble is None and (batch := self._next()):
            trouble = self._failure(partial(self._store.add_shown, batch))
            if trouble is not None:
                self._dropped(len(batch))
        if trouble is None and time.monotonic() >= self._next_look:
            trouble = self._failure(self._drop_old)
        if self._full.is_set():
            self._full.clear()
            trouble = trouble or f"more than {self._waiting.maxsize:,} wait for the store"
        self._tell(trouble)

    def _work(self) -> None:
        while not self._stopping.wait(EVERY_SECONDS):
            self.write()
        while not self._waiting.empty():
            self.write()

    def _next(self) -> list[Shown]:
        """What waits, as much as goes into one transaction; this thread alone takes from the queue."""
        return [self._waiting.get_nowait() for _ in range(min(AT_ONCE, self._waiting.qsize()))]

    def _drop_old(self) -> None:
        dropped = self._store.drop_shown(int(time.time()) - 86_400 * self._days, OLD_AT_ONCE)
        self._next_look = time.monotonic() + (OLD_EVERY_SECONDS if dropped < OLD_AT_ONCE else 0)

    def _failure(self, work: Callable[[], None]) -> str | None:
        """What is said of a failure of the work; whatever it is, this thread goes on."""
        try:
            work()
        except Exception as error:
            return str(error) if isinstance(error, StoreError) else type(error).__name__  # others may tell of users
        return None

    def _tell(self, trouble: str | None) -> None:
        """A line where it begins to go wrong, and where it goes well again."""
        if trouble is not None and not self._in_trouble:
            log.warning("lists that are shown are not logged: %s", trouble)
        elif trouble is None and self._in_trouble:
            log.warning("lists that are shown are logged again")
        self._in_trouble = trouble is not None


def note_shown(
    service: FastAPI,
    scope: Scope,
    user: str | None,
    place: int,
    source: str,
    items: str,
    version: str,
    arm: str | None = None,
) -> None:
    """Log a list that an answer holds, where lists are logged; an empty one shows nothing.

    items: as `listed` writes them. user: as the store has it; None where nobody says, or says what no database keeps. place: in
    its batch, from 0.
    """
    impressions: Impressions | None = service.state.impressions
    if impressions is None or items == EMPTY:
        return
    known = user if user is not None and is_storable(user) else None
    impressions.take(Shown(scope["state"]["request_id"], place, known, version, arm, source, items, int(time.time())))
