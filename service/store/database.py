"""A database of the store: SQLite (WAL) or PostgreSQL. Its errors are told without a user's values."""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError

from recsys_ae.errors import ConfigError, StoreError

T = TypeVar("T")

ASKED_AT_ONCE = 500  # ids of one query
BUSY_SECONDS = 30  # that a writer waits for others
POSTGRES_LOCK = 7_204_131  # any number of our own
THREADS = 4


class Database:
    """Where the tables are. Safe to use from many threads; reading and writing raise StoreError where it fails.

    Raises ConfigError for a url of another kind.
    """

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        self._writer = threading.Lock()
        self.is_sqlite = self._engine.dialect.name == "sqlite"
        self.mark = "?" if self.is_sqlite else "%s"
        """What stands for a value in a statement of the driver."""

    def close(self) -> None:
        """Let go of it."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection that reads."""
        with _explained(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction that is on the disk at the end of the block; one writer at a time."""
        with self._writer, _explained(), self._engine.execution_options(writes=True).begin() as connection:
            if not self.is_sqlite:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(POSTGRES_LOCK)))
            yield connection

    def own_connection(self) -> sqlite3.Connection:
        """A connection to SQLite that belongs to no pool and never waits for others."""
        connection = self._engine.raw_connection()
        own = connection.driver_connection
        connection.detach()
        assert isinstance(own, sqlite3.Connection)
        own.execute("pragma busy_timeout = 0").close()
        return own


def at_once(names: Sequence[T], most: int = ASKED_AT_ONCE) -> Iterator[Sequence[T]]:
    """As many at a time as one query takes."""
    for start in range(0, len(names), most):
        yield names[start : start + most]


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
