"""Stamps: how often what is stored of a user, and what is said of items, has changed. Every request for a list asks for one."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

from service.store.database import Database, at_once
from service.store.tables import ITEMS_COUNTER, counters

Stamp: TypeAlias = tuple[int, int]
"""How often what is stored of a user has changed, and what is said of items."""
Asking: TypeAlias = "tuple[str, asyncio.Future[Stamp]]"
Execute: TypeAlias = "Callable[[str, tuple[str, ...]], Iterable[Sequence[Any]]]"
Counts: TypeAlias = dict[str, int]
InThread: TypeAlias = "Callable[[Callable[[], Counts]], Awaitable[Counts]]"


class Stamps:
    """Asks for those of one turn of the event loop by one query.

    SQLite, which answers in microseconds, is asked on the loop, past SQLAlchemy; where it would have to wait, and of
    PostgreSQL, a thread asks.
    """

    def __init__(self, database: Database, in_thread: InThread) -> None:
        self._database, self._in_thread = database, in_thread
        self._quick = database.own_connection() if database.is_sqlite else None
        self._asking: dict[asyncio.AbstractEventLoop, list[Asking]] = {}
        self._asked: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """Let go of the connection."""
        if self._quick is not None:
            self._quick.close()

    async def of(self, user_id: str) -> Stamp:
        """The counters of a user and of the items."""
        loop = asyncio.get_running_loop()
        if loop not in self._asking:
            self._asking[loop] = []
            loop.call_soon(self._ask, loop)
        future: asyncio.Future[Stamp] = loop.create_future()
        self._asking[loop].append((user_id, future))
        return await future

    def _ask(self, loop: asyncio.AbstractEventLoop) -> None:
        asking = self._asking.pop(loop)
        names = [ITEMS_COUNTER, *{user for user, _ in asking if _can_be_kept(user)}]
        if self._quick is not None:
            with suppress(Exception):  # what is wrong, the thread finds out
                _tell(asking, self._counts(self._quick.execute, names))
                return
        task = loop.create_task(self._ask_by_thread(asking, names))
        self._asked.add(task)  # the loop itself holds no task
        task.add_done_callback(self._asked.discard)

    async def _ask_by_thread(self, asking: Sequence[Asking], names: Sequence[str]) -> None:
        def counts() -> Counts:
            with self._database.reading() as connection:
                return self._counts(connection.exec_driver_sql, names)

        try:
            _tell(asking, await self._in_thread(counts))
        except Exception as error:  # nobody may wait for ever
            for _, future in asking:
                if not future.done():
                    future.set_exception(error)

    def _counts(self, execute: Execute, names: Sequence[str]) -> Counts:
        """The counters of those names that have one."""
        found: Counts = {}
        for some in at_once(names):
            marks = ", ".join([self._database.mark] * len(some))
            for name, count in execute(f"select user_id, counter from {counters.name} where user_id in ({marks})", tuple(some)):
                found[name] = count
        return found


def _can_be_kept(text: str) -> bool:
    """Whether a database can hold it at all."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:  # half of a pair of surrogates
        return False


def _tell(asking: Sequence[Asking], counts: Mapping[str, int]) -> None:
    """Each who still waits, its stamp."""
    of_items = counts.get(ITEMS_COUNTER, 0)
    for user, future in asking:
        if not future.done():
            future.set_result((counts.get(user, 0), of_items))
