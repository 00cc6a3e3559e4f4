"""Rows of a database as a Parquet file: streamed, in memory that does not grow with them."""

import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_ae.errors import LogError
from recsys_ae.scratch import whole_file
from recsys_ae.sources import identifier
from recsys_ae.urls import blanked
from recsys_ae.urls import shown as shown

POSTGRES = re.compile(r"^postgres(ql)?(\+\w+)?://")
ROWS_AT_ONCE = 50_000
LARGEST_GROUP = 2**20  # rows of a row group
MOST_WAITING = 20  # blocks that are held until every column has a type


class Session(Protocol):
    """A read-only snapshot of a database: all queries in it see the same rows."""

    def batches(self, query: str) -> Iterator[pa.RecordBatch]:
        """What a query gives, at least one batch, streamed. Raises LogError."""

    def close(self) -> None:
        """End it; once more does nothing."""


@contextmanager
def reading(url: str) -> Iterator[Session]:
    """A session of a database, closed with the block.

    PostgreSQL is read by its binary COPY through ADBC; all else that SQLAlchemy has a driver for by blocks of rows.

    Raises LogError, without the url's password, where the database cannot be reached, refuses a query, or goes away.
    """
    session = _Postgres(url) if POSTGRES.match(url) else _SqlAlchemy(url)
    try:
        yield session
    finally:
        session.close()


def select(*, query: str | None = None, table: str | None = None) -> str:
    """The query of a source, which is one query or a table by its name, with its schema or without. Raises LogError."""
    if (query is None) == (table is None):
        raise LogError("expected either a query or a table to read from the database")
    return query.strip().rstrip(";") if query else f"select * from {'.'.join(map(identifier, (table or '').split('.')))}"


def extract(url: str, into: Path, *, query: str | None = None, table: str | None = None) -> int:
    """Write what a query gives, or a whole table, into a Parquet file, whole or not at all; gives the number of rows.

    Raises LogError as `reading` does.
    """
    wanted = select(query=query, table=table)
    with reading(url) as session:
        return write(session, wanted, into)


def write(session: Session, query: str, into: Path) -> int:
    """What a query gives, as a Parquet file, whole or not at all; gives the number of rows."""
    into.parent.mkdir(parents=True, exist_ok=True)
    rows, writer = 0, None
    with whole_file(into, durable=False) as partial:
        try:
            for batch in session.batches(query):
                writer = writer or pq.ParquetWriter(partial, batch.schema, compression="zstd")
                writer.write_batch(batch, row_group_size=LARGEST_GROUP)
                rows += len(batch)
        finally:
            if writer is not None:
                writer.close()
    return rows


def number(session: Session, query: str) -> int:
    """The one number that a query gives."""
    (found,) = [value for batch in session.batches(query) for value in batch.column(0).to_pylist()]
    return int(found)


def said(url: str, error: BaseException) -> str:
    """What a driver's error says in one line, never the password."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = next((line for line in lines if "ERROR:" in line or "FATAL:" in line), lines[0] if lines else type(error).__name__)
    return blanked(url, line)


def _short(query: str) -> str:
    flat = " ".join(query.split())
    return flat if len(flat) <= 120 else flat[:117] + "..."


@contextmanager
def _explained(url: str, query: str, errors: tuple[type[Exception], ...]) -> Iterator[None]:
    """A driver's error as ours: its first line, and never the password."""
    try:
        yield
    except errors as error:
        asked = f"; the query was {_short(query)}" if query else ""
        raise LogError(f"{shown(url)}: {said(url, error)}{asked}") from None


class _Postgres:
    """By binary COPY; the transaction is one snapshot and cannot write."""

    def __init__(self, url: str) -> None:
        from adbc_driver_postgresql import dbapi

        self._url = url
        with self._explained():
            self._connection = dbapi.connect(POSTGRES.sub("postgresql://", url))
            with self._connection.cursor() as cursor:
                cursor.execute("set session characteristics as transaction isolation level repeatable read, read only")
            self._connection.commit()

    def batches(self, query: str) -> Iterator[pa.RecordBatch]:
        with self._explained(query), self._connection.cursor() as cursor:
            cursor.execute(query)
            reader = cursor.fetch_record_batch()
            if not reader.schema.names:
                raise LogError(f"{shown(self._url)}: the query gives no columns; found {_short(query)}")
            yield _plain(_nothing(reader.schema))  # so that no rows are a file too
            for batch in reader:
                yield _plain(batch)

    def close(self) -> None:
        with suppress(Exception):  # of a connection that is gone already
            self._connection.close()

    def _explained(self, query: str = "") -> AbstractContextManager[None]:
        import adbc_driver_manager

        return _explained(self._url, query, (adbc_driver_manager.Error, pa.ArrowException, OSError))


def _nothing(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Types that Parquet readers know: numbers of any precision as float64, all else of the database's own as text."""
    return pa.RecordBatch.from_arrays([_plain_column(column) for column in batch.columns], names=batch.schema.names)


def _plain_column(column: pa.Array) -> pa.Array:
    if not isinstance(column.type, pa.BaseExtensionType):
        return pc.cast(column, pa.float64()) if pa.types.is_decimal(column.type) else column
    stored = column.storage
    if getattr(column.type, "type_name", "") == "numeric":
        return pc.cast(stored, pa.float64())
    if column.type.extension_name == "arrow.uuid":
        return pa.array([None if v is None else str(uuid.UUID(bytes=v)) for v in stored.to_pylist()], pa.string())
    return stored


class _SqlAlchemy:
    """By blocks of rows; the types of the first block hold for all."""

    def __init__(self, url: str) -> None:
        import sqlalchemy

        self._url = url
        with self._explained():
            self._engine = sqlalchemy.create_engine(url)
            self._connection = self._engine.connect()
            if self._engine.dialect.name == "sqlite":  # whose driver begins a transaction for writing alone
                self._connection.exec_driver_sql("begin")

    def batches(self, query: str) -> Iterator[pa.RecordBatch]:
        import sqlalchemy

        with self._explained(query):
            rows = self._connection.execution_options(yield_per=ROWS_AT_ONCE).execute(sqlalchemy.text(query))
            names = list(rows.keys())
            none = True
            for batch in _settled(_block(names, part, place) for place, part in enumerate(rows.partitions(ROWS_AT_ONCE))):
                none = False
                yield batch
            if none:
                yield _nothing(pa.schema([(name, pa.string()) for name in names]))

    def close(self) -> None:
        self._connection.close()
        self._engine.dispose()

    def _explained(self, query: str = "") -> AbstractContextManager[None]:
        from sqlalchemy.exc import SQLAlchemyError

        return _explained(self._url, query, (SQLAlchemyError, ImportError))


def _block(names: list[str], rows: Sequence[Sequence[Any]], place: int) -> pa.RecordBatch:
    """The place-th block of rows (from 0), each column of the type that its values have."""
    columns = zip(names, zip(*rows, strict=True), strict=True)
    return pa.RecordBatch.from_arrays([_typed(name, values, place * ROWS_AT_ONCE) for name, values in columns], names=names)


def _typed(name: str, values: tuple[Any, ...], start: int) -> pa.Array:
    """A column of a block; row numbers count from 1."""
    try:
        found = pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise LogError(f"column {name!r}: values of several types from row {start + 1} on ({error}); expected one") from None
    return pc.cast(found, pa.float64()) if pa.types.is_decimal(found.type) else found


def _settled(blocks: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The blocks, every column of the first type it has; while one is nothing but nulls, the first few wait for the next.

    A column that is still of nulls then counts as text. Raises LogError where a later value does not fit.
    """
    waiting: list[pa.RecordBatch] = []
    for block in blocks:
        waiting.append(block)
        if not any(map(pa.types.is_null, _first_types(waiting))) or len(waiting) == MOST_WAITING:
            break
    if waiting:
        types = [pa.string() if pa.types.is_null(found) else found for found in _first_types(waiting)]
        schema = pa.schema(list(zip(waiting[0].schema.names, types, strict=True)))
        for place, block in enumerate(chain(waiting, blocks)):
            yield _as(block, schema, place * ROWS_AT_ONCE)


def _first_types(blocks: list[pa.RecordBatch]) -> list[pa.DataType]:
    """Of each column the first that is not null."""
    columns = zip(*(block.schema.types for block in blocks), strict=True)
    return [next((found for found in types if not pa.types.is_null(found)), pa.null()) for types in columns]


def _as(batch: pa.RecordBatch, schema: pa.Schema, start: int) -> pa.RecordBatch:
    """The batch with these types. Raises LogError where a column has another and is neither nulls nor integers for floats."""
    columns = []
    for column, field in zip(batch.columns, schema, strict=True):
        widened = pa.types.is_integer(column.type) and pa.types.is_floating(field.type)
        if column.type != field.type and not widened and not pa.types.is_null(column.type):
            raise LogError(
                f"column {field.name!r}: {column.type} from row {start + 1} on, {field.type} before; expected one type: "
                "cast the column in the query"
            )
        columns.append(pc.cast(column, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)
