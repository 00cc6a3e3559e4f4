"""InteractionLog: who did what, when. Read, validated, cleaned and sorted out of core."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_ae.batches import BATCH_ROWS, parquet_files, read_batches
from recsys_ae.canonical import IdMode
from recsys_ae.cleaning import Cleaning, clean, write_parquet
from recsys_ae.errors import LogError
from recsys_ae.ids import IdKind
from recsys_ae.preprocessing import Preprocessing
from recsys_ae.scratch import whole_file
from recsys_ae.sources import FileSource, Source, TableSource, connection, identifier, matched, one_row
from recsys_ae.staging import Columns, no_column, stage

DUCKDB_SHARE, DUCKDB_LEAST = 0.35, 100 * 10**6  # of the memory limit; what it counts is about half of what it holds
BYTES_A_ROW = 20_000  # of the memory limit, for each row of the batches that are cleaned at once: long ids, several copies


@dataclass(frozen=True, eq=False)
class InteractionLog:
    """A clean log: `user_id, item_id, timestamp` (seconds since 1970) and `weight`, the last two where known.

    Ordered by user, then time, then place in the source. `source` is a table in memory, a Parquet file, or a folder of parts
    by ranges of users. `read` counts the rows met, `dropped` the rows left out by cause. Raises LogError where columns or types
    are not the canonical ones.
    """

    source: pa.Table | Path
    read: int
    dropped: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        found = {field.name: field.type for field in self._schema}
        for name in ("user_id", "item_id"):
            if found.get(name) not in (pa.int64(), pa.string()):
                raise LogError(f"a clean log has a column {name} of int64 or string; found {found}")
        for name, expected in (("timestamp", pa.int64()), ("weight", pa.float64())):
            if found.get(name, expected) != expected:
                raise LogError(f"a clean log has its {name} as {expected}; found {found[name]}")
        if isinstance(self.source, pa.Table):
            for name in found:
                if self.source[name].null_count:
                    raise LogError(f"a clean log has no null {name}; found {self.source[name].null_count}")
            if "weight" in found and self.source.num_rows:
                weights = self.source["weight"]
                if not pc.all(pc.and_(pc.is_finite(weights), pc.greater(weights, 0))).as_py():
                    raise LogError("a clean log has weights that are finite and greater than 0")

    @classmethod
    def from_table(
        cls, table: pa.Table, columns: Columns | None = None, cleaning: Cleaning | None = None, *, into: Path | None = None
    ) -> "InteractionLog":
        """Clean a table in memory; the same checks as `read_log`, and the same `into`."""
        return _read(TableSource("table"), table, columns, cleaning, "auto", into)

    @property
    def columns(self) -> list[str]:
        """Names of the columns there are."""
        names: list[str] = self._schema.names
        return names

    @property
    def _schema(self) -> pa.Schema:
        return self.source.schema if isinstance(self.source, pa.Table) else pq.read_schema(parquet_files(self.source)[0])

    @property
    def kept(self) -> int:
        """Number of rows of the clean log."""
        if isinstance(self.source, pa.Table):
            return self.source.num_rows
        return sum(pq.read_metadata(path).num_rows for path in parquet_files(self.source))

    @property
    def counts(self) -> dict[str, Any]:
        """Rows read, kept, and dropped by cause."""
        return {"read": self.read, "kept": self.kept, "dropped": self.dropped}

    def write(self, path: Path) -> "InteractionLog":
        """Write the log as one Parquet file and return the log on disk."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, durable=False) as partial:
            write_parquet(self.batches(), partial)
        return InteractionLog(path, self.read, self.dropped)

    def table(self) -> pa.Table:
        """The clean log in memory."""
        if isinstance(self.source, pa.Table):
            return self.source
        return pa.concat_tables(pq.read_table(path) for path in parquet_files(self.source))

    def last_time(self) -> int | None:
        """The time of the last interaction; None where times are unknown."""
        if "timestamp" not in self.columns:
            return None
        return max((pc.max(batch["timestamp"]).as_py() for batch in self.batches(["timestamp"])), default=None)

    def batches(self, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Rows in order, a million or fewer at a time; only some columns where asked."""
        return read_batches(self.source, columns=columns)


def read_log(
    path: str | Sequence[str],
    columns: Columns | None = None,
    cleaning: Cleaning | None = None,
    *,
    ids: IdMode = "auto",
    into: Path | None = None,
    memory_limit: int | None = None,
) -> InteractionLog:
    """Read and clean one file, several, or a glob of CSV, TSV, JSON lines or Parquet, plain, gzip or zstd.

    Args:
        path: file or glob; several files are read in the order of their names.
        columns: source column names.
        cleaning: what a row must pass.
        ids: "string" keeps ids of text formats as they stand; "auto" makes integers of columns that hold nothing else.
        into: Parquet file in which the clean log is kept; in memory where None.
        memory_limit: bytes that reading and cleaning may take; what does not fit spills to the temporary folder.

    Raises LogError, which names the file, the row, what was found and what was expected.
    """
    return _read(FileSource(matched(path)), None, columns, cleaning, ids, into, memory_limit)


def _read(
    source: Source,
    table: pa.Table | None,
    columns: Columns | None,
    cleaning: Cleaning | None,
    ids: IdMode,
    into: Path | None,
    memory_limit: int | None = None,
) -> InteractionLog:
    cleaning = cleaning or Cleaning()
    share, batch_rows = within(memory_limit)
    with connection(share) as con:
        if table is not None:
            con.register("source_table", table)
        staged = stage(con, source, columns or Columns(), ids, cleaning.preprocessing)
        stored, dropped = clean(con, staged, cleaning, source.name, into, batch_rows)
    return InteractionLog(stored, staged.read, dropped)


def within(memory_limit: int | None) -> tuple[int | None, int]:
    """Of the bytes that reading and cleaning may take those that DuckDB may hold, and the rows of a batch."""
    if memory_limit is None:
        return None, BATCH_ROWS
    share = max(int(memory_limit * DUCKDB_SHARE), min(DUCKDB_LEAST, memory_limit))
    return share, min(BATCH_ROWS, max(20_000, memory_limit // BYTES_A_ROW))


def write_without(
    path: str | Sequence[str], left_out: pa.Table, preprocessing: Preprocessing, into: Path, columns: Columns | None = None
) -> tuple[int, int]:
    """Write a log as it came, under canonical names, but for all rows of some pairs; rows written, and rows left out.

    `path` as of `read_log`; `left_out` has the columns user_id, item_id. Rows keep their order. Raises LogError.
    """
    with connection() as con, whole_file(into) as partial:
        staged = stage(con, FileSource(matched(path)), columns or Columns(), "auto", preprocessing)
        con.register("left_out", left_out)
        names = ", ".join(staged.expressions)
        events = ", ".join(f"{expression} as {name}" for name, expression in staged.expressions.items())
        same = " and ".join(f"l.{name}::varchar = e.{name}::varchar" for name in ("user_id", "item_id"))
        query = f"""
            select {names} from (select {events}, rowid as place from events) e
            where not exists (select 1 from left_out l where {same}) order by place
        """
        kept = one_row(con, f"select count(*) from ({query})")[0]
        if not kept:
            raise LogError(f"{path}: no row is left of {staged.read} read; expected some to stay")
        write_parquet(con.sql(query).to_arrow_reader(BATCH_ROWS), partial)
    return kept, staged.read - kept


def read_columns(path: str | Sequence[str], columns: Mapping[str, str]) -> list[dict[str, str | None]]:
    """Rows of a table beside the log (titles of items): the named columns as text, by role. `path` as of `read_log`.

    Raises LogError.
    """
    source = FileSource(matched(path))
    with connection() as con:
        types = source.columns(con)
        for role, name in columns.items():
            if name not in types:
                raise no_column(source, role, name, types)
        picks = ", ".join(
            f"{identifier(name)}->>'$' as {role}" if types[name] == "JSON" else f"{identifier(name)}::varchar as {role}"
            for role, name in columns.items()
        )
        with source.translated():
            rows = con.execute(f"select {picks} from {source.relation(list(columns.values()))}").fetchall()
    return [dict(zip(columns, row, strict=True)) for row in rows]


def id_kind(log: InteractionLog, column: Literal["user_id", "item_id"]) -> IdKind:
    """Whether a clean log's ids are integers or strings."""
    return "integer" if log._schema.field(column).type == pa.int64() else "string"
