"""Lists into a table of a database: staged, then swapped in one transaction, so that a reader sees all of one version.

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
STAGING, META = "recsys_ae_staging", "_recsys_meta"
"""The temporary table of one connection; beside the table of lists, what was loaded last."""
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
        _stage(database, tables, parts, version, rows)
        _swap(database, tables, version, key, rows)
    return Loaded(table, rows, False)


def holds(url: str, table: str, key: str, rows: int) -> bool:
    """Whether the table has the lists of the key, so many rows. Raises as `load`."""
    with _database(url, table) as database:
        return _holds(database, _Tables.called(table), key, rows)


@dataclass(frozen=True)
class _Tables:
    """lists: what readers see. meta: key, version and rows of what was loaded last. staging: rows on their way."""

    lists: sa.Table
    meta: sa.Table
    staging: sa.Table

    @classmethod
    def called(cls, table: str, schema: pa.Schema | None = None) -> "_Tables":
        """The tables by the name of the first; ids as the parts have them."""
        folder, _, name = table.rpartition(".")
        place = sa.sql.quoted_name(folder, True) if folder else None

        def make(name: str, *columns: Any, **more: Any) -> sa.Table:
            return sa.Table(sa.sql.quoted_name(name, True), sa.MetaData(), *columns, **more)

        def kind(name: str) -> Any:
            return sa.BigInteger() if schema is not None and pa.types.is_integer(schema.field(name).type) else TEXT

        def rows() -> list[sa.Column[Any]]:
            return [
                sa.Column("user_id", kind("user_id"), nullable=False, autoincrement=False),
                sa.Column("rank", sa.Integer(), nullable=False, autoincrement=False),
                sa.Column("item_id", kind("item_id"), nullable=False),
                sa.Column("score", sa.REAL(), nullable=False),
            ]

        version, unique = sa.Column("model_version", TEXT, nullable=False), sa.PrimaryKeyConstraint("user_id", "rank")
        return cls(
            make(name, *rows(), version, unique, schema=place),
            make(
                name + META,
                sa.Column("key", TEXT, nullable=False),
                sa.Column("model_version", TEXT, nullable=False),
                sa.Column("rows", sa.BigInteger(), nullable=False),
                sa.Column("loaded_at", sa.DateTime(timezone=True), nullable=False),
                schema=place,
            ),
            make(STAGING, *rows(), prefixes=["TEMPORARY"]),
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


def _stage(database: "_Database", tables: _Tables, parts: Sequence[Path], version: str, rows: int) -> None:
    """All rows into the temporary table; before, while that is empty, what the swap will do, so that a refusal comes early."""
    with database.transaction():
        database.run(CreateTable(tables.staging))
        if database.has(tables.lists):
            database.run(sa.delete(tables.lists).where(sa.false()))
            database.run(_filling(tables, version))
    with database.transaction():
        database.fill(tables.staging, _batches(parts))
        found = database.one(sa.select(sa.func.count()).select_from(tables.staging))
    if found != (rows,):
        raise TableError(f"table {tables.lists.name}: staged {found} rows; expected {rows}")


def _swap(database: "_Database", tables: _Tables, version: str, key: str, rows: int) -> None:
    """The one transaction that readers notice. It waits for whoever changes the table; nobody who reads it waits for it."""
    meta, now = tables.meta, sa.func.current_timestamp()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with database.transaction():
                database.alone(tables.lists)
                for table in (tables.lists, meta):
                    if not database.has(table):
                        database.run(CreateTable(table))
                database.run(sa.delete(tables.lists))
                database.run(_filling(tables, version))
                database.run(sa.delete(meta))
                database.run(sa.insert(meta).values(key=key, model_version=version, rows=rows, loaded_at=now))
            return
        except ERRORS as error:
            if not database.held(error):
                raise
            if attempt == ATTEMPTS:
                raise TableError(
                    f"table {tables.lists.name}: another session locks it, {ATTEMPTS} attempts of up to {LOCK_SECONDS} s each; "
                    "what was in it stays, and the next run loads the lists"
                ) from None
        time.sleep(PAUSE_SECONDS)


def _filling(tables: _Tables, version: str) -> sa.Insert:
    columns = list(tables.staging.c)
    selected = sa.select(*columns, sa.literal(version).label("model_version"))
    return sa.insert(tables.lists).from_select([*(column.name for column in columns), "model_version"], selected)


def _batches(parts: Sequence[Path]) -> Iterator[pa.RecordBatch]:
    for part in parts:
        with pq.ParquetFile(part) as file:
            yield from file.iter_batches(ROWS_AT_ONCE)


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

    def fill(self, table: sa.Table, batches: Iterator[pa.RecordBatch]) -> None:
        """Rows into a temporary table."""

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

    def fill(self, table: sa.Table, batches: Iterator[pa.RecordBatch]) -> None:
        first = next(batches)
        reader = pa.RecordBatchReader.from_batches(first.schema, chain([first], batches))
        with self._connection.cursor() as cursor:
            cursor.adbc_ingest(table.name, reader, mode="append", temporary=True)

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

    def fill(self, table: sa.Table, batches: Iterator[pa.RecordBatch]) -> None:
        for batch in batches:
            self._connection.execute(sa.insert(table), batch.to_pylist())

    def alone(self, table: sa.Table) -> None:
        if self._connection.dialect.name == "sqlite":
            self._connection.exec_driver_sql("begin immediate")  # its driver begins none before a `create table`

    def held(self, error: Exception) -> bool:
        return re.search(r"is locked|lock wait timeout|deadlock", str(error), re.IGNORECASE) is not None

    def close(self) -> None:
        self._connection.close()
        self._engine.dispose()
