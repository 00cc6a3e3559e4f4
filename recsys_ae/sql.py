"""Rows of a database as a Parquet file: streamed, in memory that does not grow with them."""

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_ae.errors import LogError
from recsys_ae.scratch import whole_file
from recsys_ae.sources import identifier

POSTGRES = re.compile(r"^postgres(ql)?(\+\w+)?://")
ROWS_AT_ONCE = 50_000
LARGEST_GROUP = 2**20  # rows of a row group


def extract(url: str, into: Path, *, query: str | None = None, table: str | None = None) -> int:
    """Write what a query gives, or a whole table, into a Parquet file, whole or not at all; gives the number of rows.

    PostgreSQL is read by its binary COPY through ADBC in a read-only session; all else that SQLAlchemy has a driver for by
    blocks of rows.

    Raises LogError, without the url's password, where the database cannot be reached, refuses the query, or goes away.
    """
    if (query is None) == (table is None):
        raise LogError("expected either a query or a table to read from the database")
    query = query or f"select * from {'.'.join(map(identifier, (table or '').split('.')))}"
    into.parent.mkdir(parents=True, exist_ok=True)
    batches = _postgres(url, query) if POSTGRES.match(url) else _sqlalchemy(url, query)
    rows, writer = 0, None
    with whole_file(into, durable=False) as partial:
        try:
            for batch in batches:
                writer = writer or pq.ParquetWriter(partial, batch.schema, compression="zstd")
                writer.write_batch(batch, row_group_size=LARGEST_GROUP)
                rows += len(batch)
            if writer is None:
                raise LogError(f"{shown(url)}: the query gives no columns; found {_short(query)}")
        finally:
            if writer is not None:
                writer.close()
    return rows


def shown(url: str) -> str:
    """The url without its password."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)


def _short(query: str) -> str:
    flat = " ".join(query.split())
    return flat if len(flat) <= 120 else flat[:117] + "..."


@contextmanager
def _explained(url: str, query: str, errors: tuple[type[Exception], ...]) -> Iterator[None]:
    """A driver's error as ours: its first line, and never the password."""
    try:
        yield
    except errors as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        said = next(
            (line for line in lines if "ERROR:" in line or "FATAL:" in line), lines[0] if lines else type(error).__name__
        )
        password = re.search(r"://[^:/@]*:([^@]+)@", url)
        if password:
            said = said.replace(password[1], "***")
        raise LogError(f"{shown(url)}: {said}; the query was {_short(query)}") from None


def _postgres(url: str, query: str) -> Iterator[pa.RecordBatch]:
    import adbc_driver_manager
    from adbc_driver_postgresql import dbapi

    with (
        _explained(url, query, (adbc_driver_manager.Error, pa.ArrowException, OSError)),
        dbapi.connect(POSTGRES.sub("postgresql://", url)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("set session characteristics as transaction read only")
        connection.commit()
        cursor.execute(query)
        reader = cursor.fetch_record_batch()
        if reader.schema.names:
            yield _plain(_nothing(reader.schema))  # so that no rows are a file too
            for batch in reader:
                yield _plain(batch)


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


def _sqlalchemy(url: str, query: str) -> Iterator[pa.RecordBatch]:
    import sqlalchemy
    from sqlalchemy.exc import SQLAlchemyError

    with _explained(url, query, (SQLAlchemyError, ImportError)):
        engine = sqlalchemy.create_engine(url)
        try:
            with engine.connect() as connection:
                rows = connection.execution_options(yield_per=ROWS_AT_ONCE).execute(sqlalchemy.text(query))
                names, schema, start = list(rows.keys()), None, 0
                for part in rows.partitions():
                    columns = [_typed(name, values, start) for name, values in zip(names, zip(*part, strict=True), strict=True)]
                    batch = pa.RecordBatch.from_arrays(columns, names=names)
                    schema = schema or _known(batch.schema)
                    yield _as(batch, schema, start)
                    start += len(batch)
                if schema is None:
                    yield _nothing(pa.schema([(name, pa.string()) for name in names]))
        finally:
            engine.dispose()


def _typed(name: str, values: tuple[Any, ...], start: int) -> pa.Array:
    """A column of a block; row numbers count from 1."""
    try:
        found = pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise LogError(f"column {name!r}: values of several types from row {start + 1} on ({error}); expected one") from None
    return pc.cast(found, pa.float64()) if pa.types.is_decimal(found.type) else found


def _known(schema: pa.Schema) -> pa.Schema:
    """What the first block says; a column of nothing but nulls counts as text."""
    return pa.schema([(f.name, pa.string() if pa.types.is_null(f.type) else f.type) for f in schema])


def _as(batch: pa.RecordBatch, schema: pa.Schema, start: int) -> pa.RecordBatch:
    """The batch with the types of the first. Raises LogError where a value does not fit."""
    columns = []
    for column, field in zip(batch.columns, schema, strict=True):
        try:
            columns.append(pc.cast(column, field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise LogError(
                f"column {field.name!r}: {column.type} from row {start + 1} on, {field.type} before; expected one type: "
                "cast the column in the query"
            ) from None
    return pa.RecordBatch.from_arrays(columns, schema=schema)
