"""Store: users' events, the lists they were shown and what operators say of items, in SQL. SQLite (WAL) or PostgreSQL.

Every write is one transaction, on the disk before the call returns. Writers take turns, in one process and between several,
so that the sequence of events is the order in which they became visible: who has read up to one misses nothing before it.
"""

import asyncio
import json
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple, TypeAlias, TypeVar, TypeVarTuple

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError

from recsys_ae.errors import ConfigError, StoreError
from recsys_ae.ids import INT64_MAX, INT64_MIN, Id

T = TypeVar("T")
Stamp: TypeAlias = tuple[int, int]
"""How often what is stored of a user has changed, and what is said of items."""
Asking: TypeAlias = "tuple[str, asyncio.Future[Stamp]]"
Arguments = TypeVarTuple("Arguments")
Execute: TypeAlias = "Callable[[str, tuple[str, ...]], Iterable[Sequence[Any]]]"

SCHEMA = 2  # 2: the table of impressions
CANONICAL_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
ASKED_AT_ONCE = 500  # ids of one query
PLACES = 999  # for values in one statement, which any SQLite has
BUSY_SECONDS = 30  # that a writer waits for others
LONGEST_HISTORY = 100_000  # events of a user that are read, the latest
POSTGRES_LOCK = 7_204_131  # any number of our own
THREADS = 4
ITEMS_COUNTER = ""  # in the table of counters, where no user is called so
SETTLING_SECONDS = 60  # a list shown this long after an erasure may be of before: under way then, or by a clock that is ahead

metadata = sa.MetaData()
_number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
schema = sa.Table("recsys_schema", metadata, sa.Column("version", sa.Integer, primary_key=True, autoincrement=False))
events = sa.Table(
    "recsys_events",
    metadata,
    sa.Column("sequence", _number, primary_key=True, autoincrement=True),
    sa.Column("event_id", sa.Text, nullable=False, unique=True),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("item_id", sa.Text, nullable=False),
    sa.Column("item_kind", sa.Text, nullable=False),
    sa.Column("weight", sa.Double),
    sa.Column("timestamp", sa.BigInteger),
    sa.Column("event_type", sa.Text),
    sa.Column("request_id", sa.Text),
    sa.Column("received_at", sa.BigInteger, nullable=False),
    sa.Index("recsys_events_of_user", "user_id", "sequence"),
    sqlite_autoincrement=True,  # a number is never used again, also after an erasure
)
tombstones = sa.Table(
    "recsys_tombstones",
    metadata,
    sa.Column("user_id", sa.Text, primary_key=True),
    sa.Column("erased_at", sa.BigInteger, nullable=False),
)
items = sa.Table(
    "recsys_items",
    metadata,
    sa.Column("item_id", sa.Text, primary_key=True),
    sa.Column("title", sa.Text),
    sa.Column("categories", sa.Text),
    sa.Column("available", sa.Boolean, nullable=False),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
)
counters = sa.Table(
    "recsys_counters",
    metadata,
    sa.Column("user_id", sa.Text, primary_key=True),
    sa.Column("counter", sa.BigInteger, nullable=False),
)
impressions = sa.Table(
    "recsys_impressions",
    metadata,
    sa.Column("sequence", _number, primary_key=True, autoincrement=True),
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("place", sa.Integer, nullable=False),
    sa.Column("user_id", sa.Text),
    sa.Column("model_version", sa.Text, nullable=False),
    sa.Column("arm", sa.Text),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("items", sa.Text, nullable=False),
    sa.Column("shown_at", sa.BigInteger, nullable=False),
    sa.Index("recsys_impressions_of_user", "user_id"),
    sa.Index("recsys_impressions_by_time", "shown_at"),
)
CONTENT = ("user_id", "item_id", "weight", "timestamp", "event_type", "request_id")
"""What makes two events of one id the same."""


class NewEvent(NamedTuple):
    """Something a user did with an item, as it is posted; ids as the model has them."""

    event_id: str
    user_id: str
    item_id: Id
    weight: float | None = None
    timestamp: int | None = None  # seconds since 1970
    event_type: str | None = None
    request_id: str | None = None


class Shown(NamedTuple):
    """A list that an answer held, best item first."""

    request_id: str
    place: int  # in its batch, from 0
    user_id: str | None  # as the store has it, where known
    model_version: str
    arm: str | None  # of an A/B test
    source: str
    items: str  # as `listed` writes them
    shown_at: int  # seconds since 1970


def listed(items: Iterable[Id]) -> str:
    """Items of a list, best first, as the table of impressions has them: JSON, each id as text."""
    return json.dumps([str(item) for item in items])


class StoredEvent(NamedTuple):
    """An event with its place in the order of arrival."""

    sequence: int
    event_id: str
    item_id: Id
    weight: float | None
    timestamp: int | None
    event_type: str | None
    request_id: str | None
    received_at: int

    @property
    def time(self) -> int:
        """When it happened, or else when it came, in seconds since 1970."""
        return self.received_at if self.timestamp is None else self.timestamp


@dataclass(frozen=True)
class Added:
    """What became of posted events. Those that were there already are duplicates, and conflicts if they say something else."""

    accepted: int
    duplicates: int
    conflicts: tuple[str, ...]


@dataclass(frozen=True)
class ItemFacts:
    """What is said of an item; None: what the model's own data say."""

    title: str | None = None
    categories: tuple[str, ...] | None = None
    available: bool = True


@dataclass(frozen=True)
class UserEvents:
    """The events of a user in order of arrival, and whether the user was erased before them."""

    events: tuple[StoredEvent, ...]
    erased: bool


class Store:
    """A database of events. Safe to use from many threads; every method raises StoreError where the database fails."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._writer = threading.Lock()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="store")
        self._quick: sqlite3.Connection | None = None
        self._mark = "?" if engine.dialect.name == "sqlite" else "%s"
        self._asking: dict[asyncio.AbstractEventLoop, list[Asking]] = {}
        self._asked: set[asyncio.Task[None]] = set()

    @classmethod
    def open(cls, url: str) -> "Store":
        """The store of a url, its tables made, or brought up from an earlier release's; safe with several processes at once.

        Raises ConfigError for a url of another kind, StoreError where the database fails or is of a later version.
        """
        store = cls(_engine(url))
        try:
            with store._writing() as connection:
                schema.create(connection, checkfirst=True)
                found = connection.execute(sa.select(schema.c.version)).scalar()
                if found is not None and found > SCHEMA:
                    raise StoreError(f"the store's tables are of version {found}; this release knows {SCHEMA}")
                metadata.create_all(connection)  # all that a version has added so far are tables
                if found != SCHEMA:
                    connection.execute(schema.delete())
                    connection.execute(schema.insert().values(version=SCHEMA))
        except StoreError:
            store.close()
            raise
        if store._engine.dialect.name == "sqlite":
            store._quick = _own_connection(store._engine)
        return store

    def close(self) -> None:
        """Wait for work under way and let go of the database."""
        self._pool.shutdown()
        if self._quick is not None:
            self._quick.close()
        self._engine.dispose()

    async def run(self, work: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        """Do the work in one of the store's threads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    # --- events -----------------------------------------------------------------------------------------------------------

    def add(self, posted: Sequence[NewEvent]) -> Added:
        """Store the events whose ids are new, all or none. The first of an id stays, whatever comes later."""
        now = int(time.time())
        fresh: dict[str, dict[str, Any]] = {}
        duplicates, conflicts = 0, dict[str, None]()
        with self._writing() as connection:
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
        with self._reading() as connection:
            found = tuple(_event(row) for row in connection.execute(query))[::-1]
            return UserEvents(found, self._erased(connection, user_id))

    def page(self, user_id: str, after: int, limit: int) -> tuple[list[StoredEvent], int | None]:
        """At most `limit` events of a user past a sequence number, and the number to go on from, None at the end."""
        query = _selected().where(events.c.user_id == user_id, events.c.sequence > after)
        with self._reading() as connection:
            found = [_event(row) for row in connection.execute(query.order_by(events.c.sequence).limit(limit + 1))]
        return found[:limit], found[limit - 1].sequence if len(found) > limit else None

    def erase(self, user_id: str) -> None:
        """Remove the events and lists of a user, and hide from now on what any version of a model has stored of them."""
        with self._writing() as connection:
            for table in (events, impressions):
                connection.execute(table.delete().where(table.c.user_id == user_id))
            changed = {"erased_at": int(time.time())}
            self._put(connection, tombstones, {"user_id": user_id}, changed)
            self._count(connection, [user_id])
        with suppress(StoreError), self._reading() as connection:
            if self._engine.dialect.name == "sqlite":  # the pages of before stand in the log until then
                connection.exec_driver_sql("pragma wal_checkpoint(truncate)")

    def erased(self, user_id: str) -> bool:
        """Whether a user was ever erased."""
        with self._reading() as connection:
            return self._erased(connection, user_id)

    # --- impressions ------------------------------------------------------------------------------------------------------

    def add_shown(self, shown: Sequence[Shown]) -> None:
        """Log lists, all or none, but for those of users who were erased since they were shown, or just before."""
        with self._writing() as connection:  # so an erasure comes before, and is seen here, or after, and removes the rows
            erased = self._erasures(connection, {each.user_id for each in shown if each.user_id is not None})
            rows = [
                each for each in shown if each.user_id not in erased or each.shown_at > erased[each.user_id] + SETTLING_SECONDS
            ]
            for some in _at_once(rows, PLACES // len(Shown._fields)):
                connection.exec_driver_sql(self._insertion(impressions.name, Shown._fields, len(some)), tuple(chain(*some)))

    def drop_shown(self, before: int, most: int) -> int:
        """Remove at most so many lists that were shown before a time, in seconds since 1970; gives how many it removed."""
        some = sa.select(impressions.c.sequence).where(impressions.c.shown_at < before).limit(most)
        with self._writing() as connection:
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
        with self._reading() as connection:
            return {
                row.item_id: ItemFacts(
                    row.title, None if row.categories is None else tuple(json.loads(row.categories)), row.available
                )
                for row in connection.execute(sa.select(items))
            }

    # --- counters ---------------------------------------------------------------------------------------------------------

    def counter(self, user_id: str) -> int:
        """How often what is stored of a user has changed: a list made at one count holds as long as it stands there."""
        with self._reading() as connection:
            found = connection.execute(sa.select(counters.c.counter).where(counters.c.user_id == user_id)).scalar()
            return found or 0

    def items_counter(self) -> int:
        """The same of what is said of items."""
        return self.counter(ITEMS_COUNTER)

    async def stamp(self, user_id: str) -> Stamp:
        """The counters of a user and of the items: a list made after it was read holds as long as it stays.

        Every request for a list asks for it; those of one turn of the event loop are one query. SQLite, which answers in
        microseconds, is asked on the loop, past SQLAlchemy; where it would have to wait, and of PostgreSQL, a thread asks.
        """
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
        def counts() -> dict[str, int]:
            with self._reading() as connection:
                return self._counts(connection.exec_driver_sql, names)

        try:
            _tell(asking, await self.run(counts))
        except Exception as error:  # nobody may wait for ever
            for _, future in asking:
                if not future.done():
                    future.set_exception(error)

    def _counts(self, execute: Execute, names: Sequence[str]) -> dict[str, int]:
        """The counters of those names that have one."""
        found: dict[str, int] = {}
        for some in _at_once(names):
            marks = ", ".join([self._mark] * len(some))
            for name, count in execute(f"select user_id, counter from {counters.name} where user_id in ({marks})", tuple(some)):
                found[name] = count
        return found

    def _insertion(self, table: str, columns: Sequence[str], n_rows: int) -> str:
        """One statement for all rows: SQLite lets go of the interpreter's lock once, not for each row, when every answer that
        is being made has its turn first. SQLAlchemy's own would take longer to put together than SQLite takes to insert."""
        row = f"({', '.join([self._mark] * len(columns))})"
        return f"insert into {table} ({', '.join(columns)}) values {', '.join([row] * n_rows)}"

    # --- within a transaction ---------------------------------------------------------------------------------------------

    @staticmethod
    def _known(connection: sa.Connection, ids: set[str]) -> dict[str, Mapping[str, Any]]:
        """The stored events of those ids."""
        found: dict[str, Mapping[str, Any]] = {}
        for some in _at_once(sorted(ids)):
            wanted = events.c.event_id.in_(some)
            found |= {row["event_id"]: row for row in connection.execute(sa.select(events).where(wanted)).mappings()}
        return found

    @staticmethod
    def _erasures(connection: sa.Connection, ids: set[str]) -> dict[str, int]:
        """When those of the users who were erased were, the last time."""
        found: dict[str, int] = {}
        for some in _at_once(sorted(ids)):
            wanted = tombstones.c.user_id.in_(some)
            found |= {row.user_id: row.erased_at for row in connection.execute(sa.select(tombstones).where(wanted))}
        return found

    @staticmethod
    def _erased(connection: sa.Connection, user_id: str) -> bool:
        return connection.execute(sa.select(tombstones.c.user_id).where(tombstones.c.user_id == user_id)).first() is not None

    def _change_item(self, item_id: str, values: dict[str, Any]) -> None:
        with self._writing() as connection:
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
        for some in _at_once(names):
            wanted = counters.c.user_id.in_(some)
            there = set(connection.execute(sa.select(counters.c.user_id).where(wanted)).scalars())
            connection.execute(counters.update().where(wanted).values(counter=counters.c.counter + 1))
            fresh = [{"user_id": name, "counter": 1} for name in some if name not in there]
            if fresh:
                connection.execute(counters.insert(), fresh)

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with _explained(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """A transaction that is on the disk at the end of the block; one writer at a time."""
        with self._writer, _explained(), self._engine.execution_options(writes=True).begin() as connection:
            if self._engine.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(POSTGRES_LOCK)))
            yield connection


def _at_once(names: Sequence[T], most: int = ASKED_AT_ONCE) -> Iterator[Sequence[T]]:
    """As many at a time as one query takes."""
    for start in range(0, len(names), most):
        yield names[start : start + most]


def _own_connection(engine: sa.Engine) -> sqlite3.Connection:
    """A connection to SQLite that belongs to no pool and never waits for others."""
    connection = engine.raw_connection()
    own = connection.driver_connection
    connection.detach()
    assert isinstance(own, sqlite3.Connection)
    own.execute("pragma busy_timeout = 0").close()
    return own


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


def _selected() -> sa.Select[Any]:
    names = ("sequence", "event_id", "item_id", "weight", "timestamp", "event_type", "request_id", "received_at")
    return sa.select(*(events.c[name] for name in names))


def _event(row: sa.Row[Any]) -> StoredEvent:
    found = StoredEvent(**row._mapping)
    return found._replace(item_id=int(found.item_id)) if _is_integer(str(found.item_id)) else found


def _is_integer(text: str) -> bool:
    """Whether a text is how an integer of 64 bits is written."""
    return CANONICAL_INTEGER.fullmatch(text) is not None and INT64_MIN <= int(text) <= INT64_MAX


@contextmanager
def _explained() -> Iterator[None]:
    """What the driver says of a statement may hold a user's values: only of the database itself it is told."""
    try:
        yield
    except (SQLAlchemyError, ImportError) as error:
        said = type(error).__name__
        if isinstance(error, OperationalError):
            said = str(error.orig).partition("\n")[0]
        raise StoreError(f"the store of events cannot be used ({said}); expected a database that answers") from None


def _engine(url: str) -> sa.Engine:
    try:
        parsed = sa.make_url(url)
    except ArgumentError:
        raise ConfigError(
            "[store] url is no url; expected sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE"
        ) from None
    if parsed.get_backend_name() in ("postgresql", "postgres"):
        try:
            return sa.create_engine(parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True, pool_size=2 * THREADS)
        except ImportError:
            raise ConfigError(
                "[store] url is of PostgreSQL, whose driver is missing; pip install 'recsys-ae[postgres]'"
            ) from None
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        raise ConfigError("[store] url is of another kind; expected sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE")
    engine = sa.create_engine(parsed, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False})
    sa.event.listen(engine, "connect", _on_sqlite_connection)
    sa.event.listen(engine, "begin", _on_sqlite_begin)
    return engine


def _on_sqlite_connection(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # the driver begins no transaction of its own
    for pragma in ("journal_mode = wal", "synchronous = full", "secure_delete = on"):
        connection.execute(f"pragma {pragma}").close()


def _on_sqlite_begin(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get("writes")
    # A reader that turns writer is refused where another wrote in between; so who writes says so at once.
    connection.exec_driver_sql("begin immediate" if writes else "begin")
