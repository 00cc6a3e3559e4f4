"""InteractionLog: who did what, when. Read, validated, cleaned and indexed by DuckDB, out of core."""

import glob
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys_ae.canonical import ColumnReader, IdMode
from recsys_ae.errors import LogError
from recsys_ae.ids import IdKind, IdMap
from recsys_ae.preprocessing import Preprocessing
from recsys_ae.sources import FileSource, Source, TableSource, connection, identifier, one_row


@dataclass(frozen=True)
class Columns:
    """Source column names. `timestamp` and `weight` may be absent unless `required` names them."""

    user: str = "user_id"
    item: str = "item_id"
    timestamp: str = "timestamp"
    weight: str = "weight"
    required: frozenset[str] = frozenset({"user", "item"})


@dataclass(frozen=True)
class Cleaning:
    """What a log must pass: repeats fold into the last, then `min_weight`, then the iterative k-core."""

    preprocessing: Preprocessing = Preprocessing()
    min_user_interactions: int = 1
    min_item_interactions: int = 1


@dataclass(frozen=True)
class Indexed:
    """A log as arrays: N interactions in order of user, then time; rows and columns index the two maps."""

    users: IdMap
    items: IdMap
    rows: NDArray[np.int32]
    columns: NDArray[np.int32]
    weights: NDArray[np.float64] | None
    times: NDArray[np.int64] | None


@dataclass(frozen=True, eq=False)
class InteractionLog:
    """A clean log: `user_id, item_id, timestamp` (seconds since 1970) and `weight`, the last two where known.

    Ordered by user, then time, then place in the source. `source` is a table in memory or a Parquet file. `read` counts the
    rows met, `dropped` the rows left out by cause. Raises LogError where columns or types are not the canonical ones.
    """

    source: pa.Table | Path
    read: int
    dropped: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        schema = self.source.schema if isinstance(self.source, pa.Table) else pq.read_schema(self.source)
        found = {name: schema.field(name).type for name in schema.names}
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
    def from_table(cls, table: pa.Table, columns: Columns | None = None, cleaning: Cleaning | None = None) -> "InteractionLog":
        """Clean a table in memory; the same checks as `read_log`."""
        with connection() as con:
            con.register("source_table", table)
            return _clean(con, TableSource("table"), columns or Columns(), cleaning or Cleaning(), "auto")

    @property
    def kept(self) -> int:
        """Number of rows of the clean log."""
        return self.source.num_rows if isinstance(self.source, pa.Table) else pq.read_metadata(self.source).num_rows

    def write(self, path: Path) -> "InteractionLog":
        """Write the log as one Parquet file and return the log on disk."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        pq.write_table(self.table(), partial, compression="zstd")
        partial.replace(path)
        return InteractionLog(path, self.read, self.dropped)

    def table(self) -> pa.Table:
        """The clean log in memory."""
        return self.source if isinstance(self.source, pa.Table) else pq.read_table(self.source)

    def indexed(self) -> Indexed:
        """Ids become positions, in ascending order of the ids."""
        with connection() as con:
            if isinstance(self.source, pa.Table):
                con.register("log", self.source)
            else:
                con.read_parquet(str(self.source)).create_view("log")
            names = [c[0] for c in con.execute("describe log").fetchall()]
            maps = {}
            for name in ("user_id", "item_id"):
                con.execute(
                    f"create temp table {name}s as select {name}, (row_number() over (order by {name}) - 1)::integer as place "
                    f"from (select distinct {name} from log) order by {name}"
                )
                found = con.sql(f"select {name} from {name}s order by place").to_arrow_table()
                maps[name] = IdMap.of(found.column(0).to_pylist())
            known = [name for name in ("timestamp", "weight") if name in names]
            # A clean log is in order; numbering its rows settles what time leaves open, the same on every run.
            arrays = con.execute(
                f"select u.place as r, i.place as c, {' '.join(f'log.{name},' for name in known)} log.n "
                "from (select *, row_number() over () as n from log) log "
                "join user_ids u using (user_id) join item_ids i using (item_id) order by r, n"
            ).fetchnumpy()
        return Indexed(
            maps["user_id"],
            maps["item_id"],
            arrays["r"],
            arrays["c"],
            arrays["weight"].astype(np.float64) if "weight" in known else None,
            arrays["timestamp"].astype(np.int64) if "timestamp" in known else None,
        )


def read_log(
    path: str | Sequence[str],
    columns: Columns | None = None,
    cleaning: Cleaning | None = None,
    *,
    ids: IdMode = "auto",
) -> InteractionLog:
    """Read and clean one file, several, or a glob of CSV, TSV, JSON lines or Parquet, plain, gzip or zstd.

    Args:
        path: file or glob; several files are read in the order of their names.
        columns: source column names.
        cleaning: what a row must pass.
        ids: "string" keeps ids of text formats as they stand; "auto" makes integers of columns that hold nothing else.

    Raises LogError, which names the file, the row, what was found and what was expected.
    """
    patterns = [path] if isinstance(path, str) else list(path)
    source = FileSource(tuple(Path(name) for pattern in patterns for name in (sorted(glob.glob(pattern)) or [pattern])))
    with connection() as con:
        return _clean(con, source, columns or Columns(), cleaning or Cleaning(), ids)


def read_columns(path: str, columns: Mapping[str, str]) -> list[dict[str, str | None]]:
    """Rows of a table beside the log (titles of items): the named columns as text, by role. Raises LogError."""
    source = FileSource((Path(path),))
    with connection() as con:
        types = source.columns(con)
        for role, name in columns.items():
            if name not in types:
                raise _no_column(source, role, name, types)
        picks = ", ".join(
            f"{identifier(name)}->>'$' as {role}" if types[name] == "JSON" else f"{identifier(name)}::varchar as {role}"
            for role, name in columns.items()
        )
        with source.translated():
            rows = con.execute(f"select {picks} from {source.relation(list(columns.values()))}").fetchall()
    return [dict(zip(columns, row, strict=True)) for row in rows]


def id_kind(log: InteractionLog, column: Literal["user_id", "item_id"]) -> IdKind:
    """Whether a clean log's ids are integers or strings."""
    schema = log.source.schema if isinstance(log.source, pa.Table) else pq.read_schema(log.source)
    return "integer" if schema.field(column).type == pa.int64() else "string"


def _clean(con: duckdb.DuckDBPyConnection, source: Source, columns: Columns, cleaning: Cleaning, ids: IdMode) -> InteractionLog:
    """Stage the wanted columns as they are, check and convert each, then drop rows cause by cause."""
    reader = _stage(con, source, columns)
    n_read = _count(con, "staged")
    expressions = {"user_id": reader.id("user", ids), "item_id": reader.id("item", ids)}
    if "timestamp" in reader.names:
        expressions["timestamp"] = reader.timestamp()
    if "weight" in reader.names:
        expressions["weight"] = reader.weight()
    selected = ", ".join(f"{expression} as {name}" for name, expression in expressions.items())
    con.execute(f"create table events as select {selected}, rowid as place from staged")
    con.execute("drop table staged")

    dropped = dict(_drop(con, cleaning, list(expressions)))
    if _count(con, "events") == 0:
        causes = ", ".join(f"{cause} {count}" for cause, count in dropped.items() if count)
        raise LogError(f"{source.name}: no interaction is left of {n_read} read; dropped: {causes}")
    order = "user_id, timestamp, place" if "timestamp" in expressions else "user_id, place"
    table = con.sql(f"select {', '.join(expressions)} from events order by {order}").to_arrow_table()
    return InteractionLog(table, n_read, dropped)


def _stage(con: duckdb.DuckDBPyConnection, source: Source, columns: Columns) -> ColumnReader:
    """The table `staged`: the source's rows with one column a role, as they are. Raises LogError."""
    types = source.columns(con)
    named = {role: getattr(columns, role) for role in ("user", "item", "timestamp", "weight")}
    loose = isinstance(source, FileSource) and source.format == "json"  # a JSON key may first appear in any row
    roles = {role: name for role, name in named.items() if name in types or loose}
    for role in sorted(columns.required - set(roles), key=list(named).index):
        raise _no_column(source, role, named[role], types)
    picks = ", ".join(f"{identifier(name)} as {role}" for role, name in roles.items())
    with source.translated():
        con.execute(f"create table staged as select {picks} from {source.relation(list(roles.values()))}")
    if _count(con, "staged") == 0:
        raise LogError(f"{source.name}: no rows; expected at least one interaction")
    if loose:
        met = one_row(con, f"select {', '.join(f'count({role})' for role in roles)} from staged")
        for role, count in zip(list(roles), met, strict=True):
            if count == 0 and roles[role] not in types:
                if role in columns.required:
                    raise _no_column(source, role, roles[role], types)
                del roles[role]
    return ColumnReader(con, source, roles, {role: types.get(name, "JSON") for role, name in roles.items()})


def _no_column(source: Source, role: str, name: str, types: Mapping[str, str]) -> LogError:
    return LogError(f"{source.name}: no column {name!r} (the {role}); found columns {', '.join(types) or 'none'}")


def _drop(con: duckdb.DuckDBPyConnection, cleaning: Cleaning, names: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Delete rows cause by cause; yields each cause with its count."""

    def delete(where: str) -> int:
        return int(one_row(con, f"delete from events where {where}")[0])

    yield "missing_id", delete("user_id is null or item_id is null")
    if "timestamp" in names:
        yield "missing_timestamp", delete("timestamp is null")
    if "weight" in names:
        yield "missing_weight", delete("weight is null")
    latest = "timestamp, place" if "timestamp" in names else "place"
    yield (
        "repeated",
        delete(
            f"place in (select place from events qualify row_number() over "
            f"(partition by user_id, item_id order by {latest.replace(',', ' desc,')} desc) > 1)"
        ),
    )
    if "weight" in names:
        yield "weight_not_positive", delete("weight <= 0")
        if cleaning.preprocessing.min_weight is not None:
            yield "below_min_weight", delete(f"weight < {cleaning.preprocessing.min_weight!r}")
    counts = {"user": 0, "item": 0}
    least = {"user": cleaning.min_user_interactions, "item": cleaning.min_item_interactions}
    changed = True
    while changed:  # the k-core: dropping a user can bring an item below its least number, and the other way round
        changed = False
        for role in counts:
            if least[role] > 1:
                gone = delete(f"{role}_id in (select {role}_id from events group by {role}_id having count(*) < {least[role]})")
                counts[role] += gone
                changed = changed or gone > 0
    yield "user_below_min_interactions", counts["user"]
    yield "item_below_min_interactions", counts["item"]


def _count(con: duckdb.DuckDBPyConnection, table: str) -> int:
    return int(one_row(con, f"select count(*) from {table}")[0])
