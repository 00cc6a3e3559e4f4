"""Store: users' events, the lists they were shown and what operators say of items, in SQL.

Every write is one transaction, on the disk before the call returns. Writers take turns, in one process and between several,
so that the sequence of events is the order in which they became visible: who has read up to one misses nothing before it.
"""

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from typing import Any, TypeVar, TypeVarTuple

import sqlalchemy as sa

from recsys_ae.errors import StoreError
from recsys_ae.ids import INT64_MAX, INT64_MIN
from service.store.database import THREADS, Database, at_once
from service.store.records import Added, ItemFacts, NewEvent, Shown, StoredEvent, UserEvents
from service.store.stamps import Stamp, Stamps
from service.store.tables import (
    CONTENT,
    ITEMS_COUNTER,
    SCHEMA,
    counters,
    events,
    impressions,
    items,
    metadata,
    schema,
    tombstones,
)

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

CANONICAL_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
PLACES = 999  # for values in one statement, which any SQLite has
LONGEST_HISTORY = 100_000  # events of a user that are read, the latest
SETTLING_SECONDS = 60  # a list shown this long after an erasure may be of before: under way then, or by a clock that is ahead


class Store:
    """A database of events. Safe to use from many threads; every method raises StoreError where the database fails."""

    def __init__(self, url: str) -> None:
        """The store of a url, its tables made, or brought up from an earlier release's; safe with several processes at once.

        Raises ConfigError for a url of another kind, StoreError where the database fails or is of a later version.
        """
        self._database = Database(url)
        try:
            self._make_tables()
        except StoreError:
            self._database.close()
            raise
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="store")
        self._stamps = Stamps(self._database, self.run)

    def _make_tables(self) -> None:
        with self._database.writing() as connection:
            schema.create(connection, checkfirst=True)
            found = connection.execute(sa.select(schema.c.version)).scalar()
            if found is not None and found > SCHEMA:
                raise StoreError(f"the store's tables are of version {found}; this release knows {SCHEMA}")
            metadata.create_all(connection)  # all that a version has added so far are tables
            if found != SCHEMA:
                connection.execute(schema.delete())
                connection.execute(schema.insert().values(version=SCHEMA))

    def close(self) -> None:
        """Wait for work under way and let go of the database."""
        self._pool.shutdown()
        self._stamps.close()
        self._database.close()

    async def run(self, work: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        """Do the work in one of the store's threads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    # --- events -----------------------------------------------------------------------------------------------------------

    def add(self, posted: Sequence[NewEvent]) -> Added:
        """Store the events whose ids are new, all or none. The first of an id stays, whatever comes later."""
        now = int(time.time())
        fresh: dict[str, dict[str, Any]] = {}
        duplicates, conflicts = 0, dict[str, None]()
        with self._database.writing() as connection:
            known = self._known(connection, {event.event_id for event in posted})
            for event in posted:
                text = str(event.item_id)
                row = {**event._asdict(), "item_id": text}
                there = known.get(event.event_id) or fresh.get(event.event_id)
                if there is None:
                    kind = "integer" if _is_integer(text) else "string"
                    fresh[event.event_id] = row | {"item_kind": kind, "received_at": now}
                    continue
                duplicates += 1
                if any(row[name] != there[name] for name in CONTENT):
                    conflicts[event.event_id] = None
            if fresh:
                connection.execute(events.insert(), list(fresh.values()))
                self._count(connection, sorted({row["user_id"] for row in fresh.values()}))
        return Added(len(fresh), duplicates, tuple(conflicts))

    def of_user(self, user_id: str) -> UserEvents:
        """What is stored of a user, in order of arrival; of very many the latest."""
        query = _selected().where(events.c.user_id == user_id).order_by(events.c.sequence.desc()).limit(LONGEST_HISTORY)
        with self._database.reading() as connection:
            found = tuple(_event(row) for row in connection.execute(query))[::-1]
            return UserEvents(found, self._erased(connection, user_id))

    def page(self, user_id: str, after: int, limit: int) -> tuple[list[StoredEvent], int | None]:
        """At most `limit` events of a user past a sequence number, and the number to go on from, None at the end."""
        query = _selected().where(events.c.user_id == user_id, events.c.sequence > after)
        with self._database.reading() as connection:
            found = [_event(row) for row in connection.execute(query.order_by(events.c.sequence).limit(limit + 1))]
        return found[:limit], found[limit - 1].sequence if len(found) > limit else None

    def erase(self, user_id: str) -> None:
        """Remove the events and lists of a user, and hide from now on what any version of a model has stored of them."""
        with self._database.writing() as connection:
            for table in (events, impressions):
                connection.execute(table.delete().where(table.c.user_id == user_id))
            changed = {"erased_at": int(time.time())}
            self._put(connection, tombstones, {"user_id": user_id}, changed)
            self._count(connection, [user_id])
        with suppress(StoreError), self._database.reading() as connection:
            if self._database.is_sqlite:  # the pages of before stand in the log until then
                connection.exec_driver_sql("pragma wal_checkpoint(truncate)")

    def erased(self, user_id: str) -> bool:
        """Whether a user was ever erased."""
        with self._database.reading() as connection:
            return self._erased(connection, user_id)

    # --- impressions ------------------------------------------------------------------------------------------------------

    def add_shown(self, shown: Sequence[Shown]) -> None:
        """Log lists, all or none, but for those of users who were erased since they were shown, or just before."""
        with (
            self._database.writing() as connection
        ):  # so an erasure comes before, and is seen here, or after, and removes the rows
            erased = self._erasures(connection, {each.user_id for each in shown if each.user_id is not None})
            rows = [
                each for each in shown if each.user_id not in erased or each.shown_at > erased[each.user_id] + SETTLING_SECONDS
            ]
            for some in at_once(rows, PLACES // len(Shown._fields)):
                connection.exec_driver_sql(self._insertion(impressions.name, Shown._fields, len(some)), tuple(chain(*some)))

    def drop_shown(self, before: int, most: int) -> int:
        """Remove at most so many lists that were shown before a time, in seconds since 1970; gives how many it removed."""
        some = sa.select(impressions.c.sequence).where(impressions.c.shown_at < before).limit(most)
        with self._database.writing() as connection:
            return connection.execute(impressions.delete().where(impressions.c.sequence.in_(some))).rowcount

    # --- items ------------------------------------------------------------------------------------------------------------

    def put_item(self, item_id: str, facts: ItemFacts) -> None:
        """Say all of an item anew."""
        categories = None if facts.categories is None else json.dumps(facts.categories)
        self._change_item(item_id, {"title": facts.title, "categories": categories, "available": facts.available})

    def switch_off(self, item_id: str) -> None:
        """Take an item out of all lists; its title and categories stay as they are."""
        self._change_item(item_id, {"available": False})

    def items(self) -> dict[str, ItemFacts]:
        """All that is said of items, by id as text."""
        with self._database.reading() as connection:
            return {
                row.item_id: ItemFacts(
                    row.title, None if row.categories is None else tuple(json.loads(row.categories)), row.available
                )
                for row in connection.execute(sa.select(items))
            }

    # --- counters ---------------------------------------------------------------------------------------------------------

    def counter(self, user_id: str) -> int:
        """How often what is stored of a user has changed: a list made at one count holds as long as it stands there."""
        with self._database.reading() as connection:
            found = connection.execute(sa.select(counters.c.counter).where(counters.c.user_id == user_id)).scalar()
            return found or 0

    def items_counter(self) -> int:
        """The same of what is said of items."""
        return self.counter(ITEMS_COUNTER)

    async def stamp(self, user_id: str) -> Stamp:
        """The counters of a user and of the items: a list made after it was read holds as long as it stays."""
        return await self._stamps.of(user_id)

    # --- within a transaction ---------------------------------------------------------------------------------------------

    @staticmethod
    def _known(connection: sa.Connection, ids: set[str]) -> dict[str, Mapping[str, Any]]:
        """The stored events of those ids."""
        found: dict[str, Mapping[str, Any]] = {}
        for some in at_once(sorted(ids)):
            wanted = events.c.event_id.in_(some)
            found |= {row["event_id"]: row for row in connection.execute(sa.select(events).where(wanted)).mappings()}
        return found

    @staticmethod
    def _erasures(connection: sa.Connection, ids: set[str]) -> dict[str, int]:
        """When those of the users who were erased were, the last time."""
        found: dict[str, int] = {}
        for some in at_once(sorted(ids)):
            wanted = tombstones.c.user_id.in_(some)
            found |= {row.user_id: row.erased_at for row in connection.execute(sa.select(tombstones).where(wanted))}
        return found

    @staticmethod
    def _erased(connection: sa.Connection, user_id: str) -> bool:
        return connection.execute(sa.select(tombstones.c.user_id).where(tombstones.c.user_id == user_id)).first() is not None

    def _change_item(self, item_id: str, values: dict[str, Any]) -> None:
        with self._database.writing() as connection:
            self._put(connection, items, {"item_id": item_id}, values | {"updated_at": int(time.time())})
            self._count(connection, [ITEMS_COUNTER])

    @staticmethod
    def _put(connection: sa.Connection, table: sa.Table, key: dict[str, str], values: dict[str, Any]) -> None:
        """Change the row of a key, or make it; writers take turns."""
        (name, value), *_ = key.items()
        if not connection.execute(table.update().where(table.c[name] == value).values(values)).rowcount:
            connection.execute(table.insert().values(key | values))

    @staticmethod
    def _count(connection: sa.Connection, names: Sequence[str]) -> None:
        """Raise the counters of those names by one."""
        for some in at_once(names):
            wanted = counters.c.user_id.in_(some)
            there = set(connection.execute(sa.select(counters.c.user_id).where(wanted)).scalars())
            connection.execute(counters.update().where(wanted).values(counter=counters.c.counter + 1))
            fresh = [{"user_id": name, "counter": 1} for name in some if name not in there]
            if fresh:
                connection.execute(counters.insert(), fresh)

    def _insertion(self, table: str, columns: Sequence[str], n_rows: int) -> str:
        """One statement for all rows: SQLite lets go of the interpreter's lock once, not for each row, when every answer that
        is being made has its turn first. SQLAlchemy's own would take longer to put together than SQLite takes to insert."""
        row = f"({', '.join([self._database.mark] * len(columns))})"
        return f"insert into {table} ({', '.join(columns)}) values {', '.join([row] * n_rows)}"


def _selected() -> sa.Select[Any]:
    names = ("sequence", "event_id", "item_id", "weight", "timestamp", "event_type", "request_id", "received_at")
    return sa.select(*(events.c[name] for name in names))


def _event(row: sa.Row[Any]) -> StoredEvent:
    found = StoredEvent(**row._mapping)
    return found._replace(item_id=int(found.item_id)) if _is_integer(str(found.item_id)) else found


def _is_integer(text: str) -> bool:
    """Whether a text is how an integer of 64 bits is written."""
    return CANONICAL_INTEGER.fullmatch(text) is not None and INT64_MIN <= int(text) <= INT64_MAX
