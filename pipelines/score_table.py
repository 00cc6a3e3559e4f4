"""Lists into a table of a database, swapped in one transaction, so that a reader sees all of one version.

The rows are replaced, not the table: readers wait for nothing, and its owner, grants, comment, triggers and the views on it
stay as they are (docs/decisions/013-score-table.md).
"""

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import adbc_driver_manager
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa
from adbc_driver_postgresql import dbapi
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.schema import CreateTable

from recsys_ae.errors import ConfigError, TableError
from recsys_ae.sql import POSTGRES, ROWS_AT_ONCE, said, shown

ATTEMPTS, LOCK_SECONDS, PAUSE_SECONDS = 10, 5, 1.0
"""Of a swap while someone else holds the table: how often, how long each waits, and between two."""
META = "_recsys_meta"
"""After the name of a table of lists: what was loaded last."""
ERRORS = (adbc_driver_manager.Error, SQLAlchemyError, pa.ArrowException, OSError)
TEXT = sa.Text().with_variant(sa.String(255), "mysql", "mariadb")  # which cannot have a key of boundless text


@dataclass(frozen=True)
class Loaded:
    """The table, its rows, and whether they were there before."""

    name: str
    rows: int
    reused: bool

    def as_json(self) -> dict[str, Any]:
        """As the command prints it."""
        return asdict(self)


def load(url: str, table: str, parts: Sequence[Path], version: str, key: str) -> Loaded:
    """Replace the rows of a table, made where there is none: user_id, rank, item_id, score, model_version.

    parts: Parquet of the first four. key: what tells these lists from others; where the table has them already,
    nothing is done. PostgreSQL takes them by its binary COPY through ADBC, others by blocks of rows through SQLAlchemy.

    Raises TableError, without the url's password, where the database cannot be reached, refuses, goes away, or another session
    locks the table through all ATTEMPTS; the rows before stay then. Raises ConfigError for a url of no known driver.
    """
    rows = sum(pq.read_metadata(part).num_rows for part in parts)
    if not rows:
        raise TableError(f"table {table}: no lists to load; expected those of at least one user")
    with _database(url, table) as database:
        tables = _Tables.called(table, pq.read_schema(parts[0]))
        if _holds(database, tables, key, rows):
            return Loaded(table, rows, True)
        _replace(database, tables, parts, version, key, rows)
    return Loaded(table, rows, False)


def reach(url: str, table: str) -> None:
    """Connect and go. Raises ConfigError for a url without a driver, TableError where nobody answers."""
    with _database(url, table):
        pass


def holds(url: str, table: str, key: str, rows: int) -> bool:
    """Whether the table has the lists of the key, so many rows. Raises as `load`."""
    with _database(url, table) as database:
        return _holds(database, _Tables.called(table), key, rows)


@dataclass(frozen=True)
class _Tables:
    """lists: what readers see. meta: key, version and rows of what was loaded last."""

    lists: sa.Table
    meta: sa.Table

    @classmethod
    def called(cls, table: str, schema: pa.Schema | None = None) -> "_Tables":
        """The tables by the name of the first; ids as the parts have them."""
        folder, _, name = table.rpartition(".")
        place = sa.sql.quoted_name(folder, True) if folder else None

        def make(name: str, *columns: Any) -> sa.Table:
            return sa.Table(sa.sql.quoted_name(name, True), sa.MetaData(), *columns, schema=place)

        def kind(name: str) -> Any:
            return sa.BigInteger() if schema is not None and pa.types.is_integer(schema.field(name).type) else TEXT

        return cls(
            make(
                name,
                sa.Column("user_id", kind("user_id"), primary_key=True, autoincrement=False),
                sa.Column("rank", sa.Integer(), primary_key=True, autoincrement=False),
                sa.Column("item_id", kind("item_id"), nullable=False),
                sa.Column("score", sa.REAL(), nullable=False),
                sa.Column("model_version", TEXT, nullable=False),
            ),
            make(
                name + META,
                sa.Column("key", TEXT, nullable=False),
                sa.Column("model_version", TEXT, nullable=False),
                sa.Column("rows", sa.BigInteger(), nullable=False),
                sa.Column("loaded_at", sa.DateTime(timezone=True), nullable=False),
            ),
        )


def _holds(database: "_Database", tables: _Tables, key: str, rows: int) -> bool:
    """By what was noted, and by the table itself: somebody may have changed it since."""
    lists, meta = tables.lists, tables.meta
    with database.transaction():
        if not (database.has(lists) and database.has(meta)):
            return False
        noted = database.one(sa.select(meta.c.model_version, meta.c.rows).where(meta.c.key == key))
        version = lists.c.model_version
        found = database.one(sa.select(sa.func.count(), sa.func.min(version), sa.func.max(version)).select_from(lists))
    return noted is not None and noted[1] == rows and found == (rows, noted[0], noted[0])


def _replace(database: "_Database", tables: _Tables, parts: Sequence[Path], version: str, key: str, rows: int) -> None:
    """The one transaction that readers notice. It waits for whoever changes the table; nobody who reads it waits for it."""
    lists, meta, now = tables.lists, tables.meta, sa.func.current_timestamp()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with database.transaction():
                database.alone(lists)
                for table in (lists, meta):
                    if not database.has(table):
                        database.run(CreateTable(table))
                database.run(sa.delete(lists))
                found = database.fill(lists, _batches(parts, version))
                if found != rows:
                    raise TableError(f"table {lists.name}: {found} rows went into it; expected {rows}")
                database.run(sa.delete(meta))
                database.run(sa.insert(meta).values(key=key, model_version=version, rows=rows, loaded_at=now))
            return
        except ERRORS as error:
            if not database.held(error):
                raise
            if attempt == ATTEMPTS:
                raise TableError(
                    f"table {lists.name}: another session locks it, {ATTEMPTS} attempts of up to {LOCK_SECONDS} s each; "
                    "what was in it stays, and the next run loads the lists"
                ) from None
        time.sleep(PAUSE_SECONDS)


def _batches(parts: Sequence[Path], version: str) -> Iterator[pa.RecordBatch]:
    """The rows of the parts with their version, never many at once."""
    for part in parts:
        with pq.ParquetFile(part) as file:
            for batch in file.iter_batches(ROWS_AT_ONCE):
                yield batch.append_column("model_version", pa.repeat(pa.scalar(version), len(batch)))


class _Database(Protocol):
    """One connection."""

    def transaction(self) -> AbstractContextManager[None]:
        """Committed at the end, or all undone."""

    def has(self, table: sa.Table) -> bool:
        """Whether there is such a table."""

    def run(self, statement: sa.Executable) -> None:
        """Do it."""

    def one(self, query: sa.Select[*tuple[Any, ...]]) -> tuple[Any, ...] | None:
        """The first row."""

    def fill(self, table: sa.Table, batches: Iterator[pa.RecordBatch]) -> int:
        """Add rows; gives their number."""

    def alone(self, table: sa.Table) -> None:
        """Until the transaction ends, no other process of ours swaps this table; no lock is waited for without end."""

    def held(self, error: Exception) -> bool:
        """Whether the error says that another session has a lock for too long."""

    def close(self) -> None:
        """Let the connection go."""


@contextmanager
def _database(url: str, table: str) -> Iterator[_Database]:
    """A connection; whatever its driver says becomes one message."""
    try:
        database: _Database = _Postgres(url) if POSTGRES.match(url) else _Alchemy(url)
        with closing(database):
            yield database
    except (ArgumentError, ImportError) as error:
        raise ConfigError(f"[score] url {shown(url)}: {said(url, error)}; expected a database whose driver is there") from None
    except ERRORS as error:
        raise TableError(f"{shown(url)}, table {table}: {said(url, error)}") from None


class _Postgres:
    """Through ADBC alone: no other driver need be there."""

    def __init__(self, url: str) -> None:
        self._connection = dbapi.connect(POSTGRES.sub("postgresql://", url))
        self._dialect = PGDialect(paramstyle="named")  # type: ignore[no-untyped-call]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        try:
            yield
            self._connection.commit()
        except BaseException:
            with suppress(*ERRORS):  # gone already
                self._connection.rollback()
            raise

    def has(self, table: sa.Table) -> bool:
        name = self._dialect.identifier_preparer.format_table(table)
        return self.one(sa.select(sa.func.to_regclass(name).is_not(None))) == (True,)

    def run(self, statement: sa.Executable) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(self._text(statement))

    def one(self, query: sa.Select[*tuple[Any, ...]]) -> tuple[Any, ...] | None:
        with self._connection.cursor() as cursor:
            cursor.execute(self._text(query))
            row: tuple[Any, ...] | None = cursor.fetchone()
            return row

    def fill(self, table: sa.Table, batches: Iterator[pa.RecordBatch]) -> int:
        with self._connection.cursor() as cursor:
            cursor.execute(self._text(sa.select(table).where(sa.false())))
            schema = cursor.fetch_record_batch().schema
            first = next(batches)
            for there, here in zip(schema, first.schema, strict=True):
                if not _takes(there.type, here.type):
                    raise TableError(f"table {table.name}: column {there.name} is {there.type}; expected {here.type}")
            cast = (batch.cast(schema) for batch in chain([first], batches))
            reader = pa.RecordBatchReader.from_batches(schema, cast)
            return int(cursor.adbc_ingest(table.name, reader, mode="append", db_schema_name=table.schema))

    def alone(self, table: sa.Table) -> None:
        self.run(sa.text(f"set local lock_timeout = '{LOCK_SECONDS}s'"))
        self.run(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(f"recsys-ae {table.fullname}", 0))))

    def held(self, error: Exception) -> bool:
        return getattr(error, "sqlstate", None) in ("55P03", "40P01", "40001")  # lock timeout, deadlock, serialisation

    def close(self) -> None:
        self._connection.close()

    def _text(self, statement: Any) -> str:
        options = {} if isinstance(statement, CreateTable) else {"literal_binds": True}
        return str(statement.compile(dialect=self._dialect, compile_kwargs=options))


def _takes(there: pa.DataType, here: pa.DataType) -> bool:
    """Whether a column of a table may take our values: a binary COPY would take any eight bytes for a double or a time."""
    kinds = (pa.types.is_string, pa.types.is_integer, pa.types.is_floating)
    return pa.types.is_string(there) or any(kind(there) and kind(here) for kind in kinds)


class _Alchemy:
    """Whatever SQLAlchemy has an installed driver for."""

    def __init__(self, url: str) -> None:
        self._engine = sa.create_engine(url)
        try:
            self._connection = self._engine.connect()
        except BaseException:
            self._engine.dispose()
            raise

    def transaction(self) -> AbstractContextManager[Any]:
        return self._connection.begin()

    def has(self, table: sa.Table) -> bool:
        return sa.inspect(self._connection).has_table(table.name, table.schema)

    def run(self, statement: sa.Executable) -> None:
        self._connection.execute(statement)

    def one(self, query: sa.Select[*tuple[Any, ...]]) -> tuple[Any, ...] | None:
        row = self._connection.execute(query).first()
        return None if row is None else tuple(row)

    def fill(self, table: sa.Table, batches: Iterator[pa.RecordBatch]) -> int:
        rows = 0
        for batch in batches:
            self._connection.execute(sa.insert(table), batch.to_pylist())
            rows += len(batch)
        return rows

    def alone(self, table: sa.Table) -> None:
        if self._connection.dialect.name == "sqlite":
            self._connection.exec_driver_sql("begin immediate")  # its driver begins none before a `create table`

    def held(self, error: Exception) -> bool:
        return re.search(r"is locked|lock wait timeout|deadlock", str(error), re.IGNORECASE) is not None

    def close(self) -> None:
        self._connection.close()
        self._engine.dispose()
