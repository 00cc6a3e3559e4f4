"""InteractionLog: who did what, when. Read, validated, cleaned and indexed by DuckDB, out of core."""

import glob
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys_ae.errors import LogError
from recsys_ae.ids import Id, IdKind, IdMap
from recsys_ae.preprocessing import Preprocessing

TextFormat: TypeAlias = Literal["csv", "json"]

COMPRESSIONS = (".gz", ".zst")
FORMATS = {
    ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".jsonl": "json", ".ndjson": "json", ".json": "json",
    ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip
DELIMITERS = ",\t;|"
# Seconds per unit, by the size of the typical time: 4.1e9 seconds is the year 2100, 4.1e9 milliseconds is early in 1970.
LATEST, EARLIEST = 4_102_444_800, -2_208_988_800  # 2100-01-01, 1900-01-01
UNITS = ((LATEST, 1), (LATEST * 1_000, 1_000), (LATEST * 1_000_000, 1_000_000), (LATEST * 10**9, 10**9))


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
    weights: NDArray[np.float64]
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
        for name in ("user_id", "item_id"):
            if name not in schema.names or schema.field(name).type not in (pa.int64(), pa.string()):
                raise LogError(f"a clean log has a column {name} of int64 or string; found {schema.names}")

    @classmethod
    def from_table(cls, table: pa.Table, columns: Columns | None = None, cleaning: Cleaning | None = None) -> "InteractionLog":
        """Clean a table in memory; the same checks as `read_log`."""
        with _connection() as con:
            con.register("source_table", table)
            return _clean(con, _TableSource("table", table.num_rows), columns or Columns(), cleaning or Cleaning(), "auto")

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
        with _connection() as con:
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
            time = "log.timestamp" if "timestamp" in names else "0::bigint"
            weight = "log.weight" if "weight" in names else "1::double"
            arrays = con.execute(
                f"select u.place as r, i.place as c, {weight} as w, {time} as t "
                "from log join user_ids u using (user_id) join item_ids i using (item_id) "
                # The place in the log settles what time leaves open, so that the order is the same on every run.
                "order by r, t, c"
                if "timestamp" in names
                else f"select u.place as r, i.place as c, {weight} as w from "
                "(select *, row_number() over () as n from log) log "
                "join user_ids u using (user_id) join item_ids i using (item_id) order by r, n"
            ).fetchnumpy()
        return Indexed(
            maps["user_id"], maps["item_id"], arrays["r"], arrays["c"], arrays["w"],
            arrays["t"].astype(np.int64) if "timestamp" in names else None,
        )  # fmt: skip


def read_log(
    path: str | Sequence[str],
    columns: Columns | None = None,
    cleaning: Cleaning | None = None,
    *,
    ids: Literal["auto", "string"] = "auto",
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
    files = [Path(name) for pattern in patterns for name in (sorted(glob.glob(pattern)) or [pattern])]
    for file in files:
        if not file.is_file():
            what = "is a folder" if file.is_dir() else "does not exist"
            raise LogError(f"{file}: {what}; expected a file or a glob that matches files")
    formats = {_format(file) for file in files}
    if len(formats) > 1:
        raise LogError(f"files of formats {', '.join(sorted(formats))} in one log; expected one format")
    with _connection() as con:
        source = _FileSource(con, files, formats.pop())
        return _clean(con, source, columns or Columns(), cleaning or Cleaning(), ids)


def read_columns(path: str, columns: Mapping[str, str]) -> list[dict[str, str | None]]:
    """Rows of a table beside the log (titles of items): the named columns as text, by role. Raises LogError."""
    file = Path(path)
    if not file.is_file():
        raise LogError(f"{file}: does not exist; expected a file")
    with _connection() as con:
        source = _FileSource(con, [file], _format(file))
        types = source.columns(con)
        for role, name in columns.items():
            if name not in types:
                raise LogError(f"{file}: no column {name!r} (the {role}); found columns {', '.join(types)}")
        with _translated([file]):
            picks = ", ".join(
                f"{_quoted(name)}->>'$' as {role}" if types[name] == "JSON" else f"{_quoted(name)}::varchar as {role}"
                for role, name in columns.items()
            )
            rows = con.execute(f"select {picks} from {source.relation(wanted=list(columns.values()))}").fetchall()
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _format(file: Path) -> str:
    suffixes = [s.lower() for s in file.suffixes]
    suffix = next((s for s in reversed(suffixes) if s not in COMPRESSIONS), "")
    if suffix not in FORMATS:
        raise LogError(
            f"{file}: unknown format {suffix or '(no suffix)'}; expected one of {', '.join(FORMATS)}, or with .gz, .zst"
        )
    return FORMATS[suffix]


@contextmanager
def _connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB of its own on a temporary folder, so that a log larger than memory spills there; never fetches extensions."""
    with tempfile.TemporaryDirectory(prefix="recsys-ae-") as folder:
        con = duckdb.connect(
            f"{folder}/log.duckdb",
            config={
                "temp_directory": folder,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            },
        )
        try:
            con.execute("set timezone = 'UTC'")
            con.execute("set enable_progress_bar = false")
            yield con
        finally:
            con.close()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: object) -> str:
    return "'" + str(value).replace("'", "''") + "'"


@dataclass(frozen=True)
class _TableSource:
    """A table registered as `source_table`."""

    name: str
    n_rows: int

    def columns(self, con: duckdb.DuckDBPyConnection) -> dict[str, str]:
        return {c[0]: c[1] for c in con.execute("describe source_table").fetchall()}

    def relation(self) -> str:
        return "source_table"

    def place(self, con: duckdb.DuckDBPyConnection, row: int) -> str:
        return f"{self.name}, row {row + 1}"


@dataclass(frozen=True)
class _FileSource:
    """Files of one format with the same columns."""

    con: duckdb.DuckDBPyConnection
    files: list[Path]
    format: str

    def __post_init__(self) -> None:
        if self.format != "parquet":
            for file in self.files:
                _check_text(file)

    def columns(self, con: duckdb.DuckDBPyConnection) -> dict[str, str]:
        """Column name -> DuckDB type; a text format has VARCHAR (CSV) or JSON throughout."""
        if self.format == "csv":
            first = _header(self.files[0])
            for file in self.files[1:]:
                if _header(file) != first:
                    raise LogError(f"{file}: header {_header(file)}; expected that of {self.files[0]}: {first}")
            return dict.fromkeys(first[1], "VARCHAR")
        if self.format == "json":
            found: dict[str, str] = {}
            for line in _head(self.files[0]).splitlines()[:50]:
                keys = re.findall(r'"((?:[^"\\]|\\.)*)"\s*:', line)
                found |= dict.fromkeys(keys, "JSON")
            return found
        relation = f"read_parquet([{', '.join(map(_text, self.files))}])"
        with _translated(self.files):
            return {c[0]: c[1] for c in con.execute(f"describe select * from {relation}").fetchall()}

    def relation(self, files: Sequence[Path] | None = None, wanted: Sequence[str] = ()) -> str:
        """What to select from."""
        names = f"[{', '.join(map(_text, files or self.files))}]"
        if self.format == "csv":
            delimiter, header = _header(self.files[0])
            types = ", ".join(f"{_text(name)}: 'VARCHAR'" for name in header)
            return (
                f"read_csv({names}, auto_detect = false, header = true, delim = {_text(delimiter)}, quote = '\"', "
                f"escape = '\"', columns = {{{types}}})"
            )
        if self.format == "json":
            types = ", ".join(f"{_quoted(name)}: 'JSON'" for name in wanted)
            return f"read_json({names}, format = 'newline_delimited', columns = {{{types}}})"
        return f"read_parquet({names})"

    def place(self, con: duckdb.DuckDBPyConnection, row: int) -> str:
        """File and row (from 1) of the row-th row (from 0) of the whole log."""
        for file in self.files:
            count = int(_row(con, f"select count(*) from {self.relation([file], list(self.columns(con)))}")[0])
            if row < count:
                line = f" (line {row + 2})" if self.format == "csv" else ""
                return f"{file}, row {row + 1}{line}"
            row -= count
        return f"{self.files[-1]}, past its last row"


_Source: TypeAlias = _TableSource | _FileSource


def _head(file: Path, size: int = 65_536) -> str:
    """The first lines of a text file; raises LogError where it is binary, damaged or not UTF-8."""
    try:
        with pa.input_stream(file, compression="detect") as stream:
            data = stream.read(size)
    except (OSError, pa.ArrowException) as error:
        raise LogError(
            f"{file}: cannot be read ({error}); expected a whole file, plain or compressed as its suffix says"
        ) from None
    if b"\0" in data:
        raise LogError(f"{file}: is binary (begins with {data[:8]!r}); expected text")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start > len(data) - 4 and len(data) == size:
            return data[: error.start].decode("utf-8-sig")
        line = data[: error.start].count(b"\n") + 1
        raise LogError(f"{file}, line {line}: byte {data[error.start]:#04x} is not UTF-8; expected UTF-8 text") from None


def _check_text(file: Path) -> None:
    if not _head(file).strip():
        raise LogError(f"{file}: is empty; expected a header and rows" if _format(file) == "csv" else f"{file}: is empty")


def _header(file: Path) -> tuple[str, list[str]]:
    """Delimiter (that which the header holds most often) and column names of a CSV or TSV file."""
    line = _head(file).lstrip("\r\n").splitlines()[0]
    delimiter = max(DELIMITERS, key=line.count)
    names = [name.strip().strip('"') for name in line.split(delimiter)]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise LogError(f"{file}, line 1: column {sorted(twice)[0]!r} stands twice in the header; expected distinct names")
    return delimiter, names


@contextmanager
def _translated(files: Sequence[Path]) -> Iterator[None]:
    """DuckDB's reading errors as one line with file and place."""
    try:
        yield
    except duckdb.Error as error:
        text = str(error)
        named = next((str(f) for f in files if str(f) in text), str(files[0]) if len(files) == 1 else "one of the files")
        lines = [part.strip() for part in text.splitlines() if part.strip()]
        if line := re.search(r"CSV Error on Line: (\d+)", text):
            what = "; ".join(part for part in lines[1:4] if not part.startswith(("Possible", "*")))
            raise LogError(f"{named}, line {line[1]}: {what}") from None
        if line := re.search(r"Malformed JSON in file .*? in line (\d+): (.*)", text):
            raise LogError(f"{named}, row {line[1]}: malformed JSON: {line[2].strip()} Expected one object a line.") from None
        if "parquet" in named or "arquet" in text or "magic bytes" in text:
            raise LogError(f"{named}: is not a whole Parquet file ({lines[0]})") from None
        raise LogError(f"{named}: {lines[0]}") from None


# --- cleaning -------------------------------------------------------------------------------------------------------------


def _clean(
    con: duckdb.DuckDBPyConnection,
    source: _Source,
    columns: Columns,
    cleaning: Cleaning,
    ids: Literal["auto", "string"],
) -> InteractionLog:
    """Stage the wanted columns as they are, check and convert each, then drop rows cause by cause."""
    types = source.columns(con)
    wanted = {role: getattr(columns, role) for role in ("user", "item", "timestamp", "weight")}
    for role in columns.required:
        if wanted[role] not in types:
            where = source.name if isinstance(source, _TableSource) else ", ".join(map(str, source.files[:3]))
            raise LogError(f"{where}: no column {wanted[role]!r} (the {role}); found columns {', '.join(types) or 'none'}")
    roles = {role: name for role, name in wanted.items() if name in types}
    relation = (
        source.relation() if isinstance(source, _TableSource) else source.relation(wanted=list(dict.fromkeys(roles.values())))
    )
    with _translated(source.files if isinstance(source, _FileSource) else [Path(source.name)]):
        picks = ", ".join(f"{_quoted(name)} as {role}" for role, name in roles.items())
        con.execute(f"create table staged as select {picks} from {relation}")
    staged = {role: types[name] for role, name in roles.items()}
    n_read = _count(con, "staged")
    if n_read == 0:
        where = source.name if isinstance(source, _TableSource) else ", ".join(map(str, source.files[:3]))
        raise LogError(f"{where}: no rows; expected at least one interaction")

    reader = _Reader(con, source, roles, staged)
    expressions = {"user_id": reader.id("user", ids), "item_id": reader.id("item", ids)}
    if "timestamp" in roles:
        expressions["timestamp"] = reader.timestamp()
    if "weight" in roles:
        expressions["weight"] = reader.weight()
    selected = ", ".join(f"{expression} as {name}" for name, expression in expressions.items())
    con.execute(f"create table events as select {selected}, rowid as place from staged")
    con.execute("drop table staged")

    dropped = dict(_drop(con, cleaning, list(expressions)))
    if _count(con, "events") == 0:
        causes = ", ".join(f"{cause} {count}" for cause, count in dropped.items() if count)
        raise LogError(f"no interaction is left of {n_read} read; dropped: {causes}")
    order = "user_id, timestamp, place" if "timestamp" in expressions else "user_id, place"
    table = con.sql(f"select {', '.join(expressions)} from events order by {order}").to_arrow_table()
    return InteractionLog(table, n_read, dropped)


def _drop(con: duckdb.DuckDBPyConnection, cleaning: Cleaning, names: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Delete rows cause by cause; yields each cause with its count."""

    def delete(where: str) -> int:
        return int(_row(con, f"delete from events where {where}")[0])

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
    return int(_row(con, f"select count(*) from {table}")[0])


def _row(con: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    """The one row that a query gives; fetched to its end, since DuckDB refuses further work before."""
    rows: list[tuple[Any, ...]] = con.execute(query).fetchall()
    return rows[0]


INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "HUGEINT"}
FLOATS = {"FLOAT", "DOUBLE"}


@dataclass(frozen=True)
class _Reader:
    """Checks a staged column and gives the SQL expression that makes it canonical."""

    con: duckdb.DuckDBPyConnection
    source: _Source
    names: dict[str, str]
    types: dict[str, str]

    def _fail(self, role: str, condition: str, expected: str) -> None:
        """Raise LogError for the first row that meets the condition, if there is one."""
        bad = self.con.execute(f"select rowid, {role} from staged where {condition} order by rowid limit 1").fetchall()
        if bad:
            place = self.source.place(self.con, int(bad[0][0]))
            value = bad[0][1] if isinstance(bad[0][1], str | int | float) else str(bad[0][1])
            raise LogError(f"{place}, column {self.names[role]!r}: found {_shown(value)}; expected {expected}")

    def _plain(self, role: str) -> str:
        """A text or JSON value as text; null where it is empty."""
        text = f"{role}->>'$'" if self.types[role] == "JSON" else f"trim({role})"
        return f"nullif({text}, '')"

    def id(self, role: str, ids: Literal["auto", "string"]) -> str:
        """Integers of 64 bits or strings; never a mixture."""
        kind = self.types[role]
        if kind in INTEGERS:
            self._fail(role, f"{role} not between -9223372036854775808 and 9223372036854775807", "an integer of 64 bits")
            return f"{role}::bigint" if ids == "auto" else f"{role}::varchar"
        if kind not in ("VARCHAR", "JSON"):
            if kind.startswith("ENUM"):
                return f"{role}::varchar"
            place = self.source.place(self.con, 0)
            raise LogError(f"{place}, column {self.names[role]!r}: ids of type {kind}; expected integers or strings")
        text = self._plain(role)
        if kind == "JSON":
            self._fail(
                role,
                f"json_type({role}) not in ('VARCHAR', 'UBIGINT', 'BIGINT', 'NULL')",
                "an id: an integer or a string",
            )
            integer = f"json_type({role}) in ('UBIGINT', 'BIGINT')"
            other = f"json_type({role}) = 'VARCHAR'"
        else:
            integer = f"regexp_full_match({text}, '-?(0|[1-9][0-9]*)')"
            other = f"not regexp_full_match({text}, '-?[0-9]+')"
        n_integer, n_other, n_all = _row(
            self.con, f"select count(*) filter ({integer}), count(*) filter ({other}), count({text}) from staged"
        )
        if ids == "string" or n_integer == 0 or (n_other == 0 and n_integer < n_all):  # the last: digits padded with zeros
            return text
        if n_other:
            rare, expected = (other, "an integer") if n_integer >= n_other else (integer, "a string that is no integer")
            self._fail(
                role, rare,
                f"{expected} like the other ids of this column ({n_integer} integers, {n_other} strings; "
                'ids = "string" in [log] takes all of them as strings)',
            )  # fmt: skip
        self._fail(role, f"try_cast({text} as bigint) is null and {text} is not null", "an integer of 64 bits")
        return f"{text}::bigint"

    def weight(self) -> str:
        """Finite float64."""
        role, kind = "weight", self.types["weight"]
        if kind in ("VARCHAR", "JSON"):
            value = f"try_cast({self._plain(role)} as double)"
            self._fail(role, f"{self._plain(role)} is not null and {value} is null", "a number")
        elif kind in INTEGERS | FLOATS or kind.startswith("DECIMAL"):
            value = f"{role}::double"
        else:
            place = self.source.place(self.con, 0)
            raise LogError(f"{place}, column {self.names[role]!r}: weights of type {kind}; expected numbers")
        self._fail(role, f"isnan({value}) or isinf({value})", "a finite number")
        return value

    def timestamp(self) -> str:
        """Seconds since 1970 as int64, from a number of seconds, milli-, micro- or nanoseconds, or from an ISO 8601 text."""
        role, kind = "timestamp", self.types["timestamp"]
        if kind.startswith(("TIMESTAMP", "DATE")):
            return f"floor(epoch({role}))::bigint"
        if kind in ("VARCHAR", "JSON"):
            text = self._plain(role)
            number = f"try_cast({text} as double)"
            n_numbers, n_all = _row(self.con, f"select count({number}), count({text}) from staged")
            if n_numbers < n_all:
                moment = f"try_cast({text} as timestamptz)"
                mostly_text = n_numbers * 2 < n_all
                expected = "an ISO 8601 time like 2024-05-01T12:00:00Z" if mostly_text else "seconds since 1970"
                bad = f"{moment} is null" if mostly_text else f"{number} is null"
                self._fail(role, f"{text} is not null and {bad}", expected)
                self._in_range(f"epoch({moment})")
                return f"floor(epoch({moment}))::bigint"
        elif kind in INTEGERS | FLOATS or kind.startswith("DECIMAL"):
            number = f"{role}::double"
        else:
            place = self.source.place(self.con, 0)
            raise LogError(f"{place}, column {self.names[role]!r}: times of type {kind}; expected numbers or timestamps")
        self._fail(role, f"isnan({number}) or isinf({number})", "a finite number of seconds since 1970")
        size = _row(self.con, f"select approx_quantile(abs({number}), 0.5) from staged")[0] or 0
        per_second = next((scale for limit, scale in UNITS if size <= limit), 1)
        self._in_range(f"({number} / {per_second})")
        if kind in INTEGERS:  # float64 rounds the last digits of nanoseconds
            return f"({role}::bigint // {per_second})" if per_second > 1 else f"{role}::bigint"
        return f"floor({number} / {per_second})::bigint"

    def _in_range(self, seconds: str) -> None:
        self._fail("timestamp", f"{seconds} not between {EARLIEST} and {LATEST}", "a time between the years 1900 and 2100")


def _shown(value: Id | float) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def id_kind(log: InteractionLog, column: Literal["user_id", "item_id"]) -> IdKind:
    """Whether a clean log's ids are integers or strings."""
    schema = log.source.schema if isinstance(log.source, pa.Table) else pq.read_schema(log.source)
    return "integer" if schema.field(column).type == pa.int64() else "string"
