"""Where a log's rows come from: files of one format, or a table in memory, as something DuckDB selects from."""

import csv
import glob
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import pyarrow as pa

from recsys_ae.errors import LogError, WriteError
from recsys_ae.scratch import scratch_folder

COMPRESSIONS = (".gz", ".zst")
FORMATS = {
    ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".jsonl": "json", ".ndjson": "json", ".json": "json",
    ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip
DELIMITERS = ",\t;|"
BUFFER = 8 * 2**20  # bytes of CSV that a thread parses at once: four times the longest line
HEAD = 65_536  # bytes that are looked at before DuckDB reads the file
NO_ROOM = "No space left"
JSON_ROWS = 1_000  # rows whose keys count as the columns of a JSON lines file


@contextmanager
def connection(memory_limit: int | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB of its own on a temporary folder, so that a log larger than memory spills there; never fetches extensions.

    memory_limit: bytes that it may hold; four fifths of the machine's where None.
    """
    with scratch_folder("recsys-ae") as folder:
        con = duckdb.connect(
            ":memory:" if memory_limit is None else f"{folder}/log.duckdb",  # both spill; a file also packs what it holds
            config={
                "temp_directory": str(folder),
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                **({} if memory_limit is None else {"memory_limit": f"{memory_limit}B"}),
            },
        )
        try:
            con.execute("set timezone = 'UTC'")
            con.execute("set enable_progress_bar = false")
            yield con
        except (duckdb.IOException, duckdb.OutOfMemoryException, OSError) as error:  # the last where Arrow reads the result
            if NO_ROOM in str(error):
                raise WriteError(f"{folder}: the temporary folder is full ({str(error).splitlines()[0]})") from None
            if "Out of Memory" not in str(error):
                raise
            met = "the machine's memory" if memory_limit is None else f"a memory_limit that leaves DuckDB {memory_limit} bytes"
            raise LogError(f"{met} is not enough for this log ({str(error).splitlines()[0]}); expected more") from None
        finally:
            con.close()


def one_row(con: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    """The one row that a query gives; fetched to its end, since DuckDB refuses further work before."""
    rows: list[tuple[Any, ...]] = con.execute(query).fetchall()
    return rows[0]


def identifier(name: str) -> str:
    """A column name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: object) -> str:
    """A text as SQL has it."""
    return "'" + str(value).replace("'", "''") + "'"


@dataclass(frozen=True)
class TableSource:
    """A table registered as `source_table`."""

    name: str

    def columns(self, con: duckdb.DuckDBPyConnection) -> dict[str, str]:
        """Column name -> DuckDB type."""
        return {c[0]: c[1] for c in con.execute("describe source_table").fetchall()}

    def relation(self, wanted: Sequence[str]) -> str:
        """What to select from."""
        return "source_table"

    def place(self, con: duckdb.DuckDBPyConnection, row: int) -> str:
        """Where the row-th row (from 0) is."""
        return f"{self.name}, row {row + 1}"

    @contextmanager
    def translated(self) -> Iterator[None]:
        """A table is read without errors of its own."""
        yield


@dataclass(frozen=True)
class FileSource:
    """Files of one format with the same columns; text formats are looked at before DuckDB reads them.

    Raises LogError for a file that is missing, of an unknown or another format, binary, damaged or empty.
    """

    files: tuple[Path, ...]

    def __post_init__(self) -> None:
        for file in self.files:
            if not file.is_file():
                what = "is a folder" if file.is_dir() else "does not exist"
                raise LogError(f"{file}: {what}; expected a file or a glob that matches files")
        formats = sorted({file_format(file) for file in self.files})
        if len(formats) > 1:
            raise LogError(f"files of formats {', '.join(formats)} in one log; expected one format")
        if self.format != "parquet":
            for file in self.files:
                check_text(file)

    @property
    def format(self) -> str:
        """csv, json or parquet."""
        return file_format(self.files[0])

    @property
    def name(self) -> str:
        """The files, the first three by name."""
        return ", ".join(map(str, self.files[:3])) + (" ..." if len(self.files) > 3 else "")

    def columns(self, con: duckdb.DuckDBPyConnection) -> dict[str, str]:
        """Column name -> DuckDB type; a text format has VARCHAR (CSV) or JSON throughout."""
        if self.format == "csv":
            first = header(self.files[0])
            for file in self.files[1:]:
                if header(file) != first:
                    raise LogError(f"{file}: header {header(file)[1]}; expected that of {self.files[0]}: {first[1]}")
            return dict.fromkeys(first[1], "VARCHAR")
        with self.translated():
            if self.format == "json":
                query = f"select json_keys(json) from read_ndjson_objects({self._names()}) limit {JSON_ROWS}"
                return {key: "JSON" for (keys,) in con.execute(query).fetchall() for key in keys or ()}
            return {c[0]: c[1] for c in con.execute(f"describe select * from read_parquet({self._names()})").fetchall()}

    def relation(self, wanted: Sequence[str]) -> str:
        """What to select the wanted columns from."""
        if self.format == "csv":
            delimiter, names = header(self.files[0])
            types = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
            return (
                f"read_csv({self._names()}, auto_detect = false, header = true, delim = {literal(delimiter)}, quote = '\"', "
                f"escape = '\"', buffer_size = {BUFFER}, columns = {{{types}}})"
            )
        if self.format == "json":
            types = ", ".join(f"{identifier(name)}: 'JSON'" for name in dict.fromkeys(wanted))
            return f"read_json({self._names()}, format = 'newline_delimited', columns = {{{types}}})"
        return f"read_parquet({self._names()})"

    def place(self, con: duckdb.DuckDBPyConnection, row: int) -> str:
        """File and row (from 1) of the row-th row (from 0) of the whole log."""
        for file in self.files:
            alone = FileSource((file,))
            count = int(one_row(con, f"select count(*) from {alone.relation(list(alone.columns(con))[:1])}")[0])
            if row < count:
                line = f" (line {row + 2})" if self.format == "csv" else ""
                return f"{file}, row {row + 1}{line}"
            row -= count
        return f"{self.files[-1]}, past its last row"

    @contextmanager
    def translated(self) -> Iterator[None]:
        """DuckDB's reading errors as one line with file and place."""
        try:
            yield
        except duckdb.OutOfMemoryException:  # no fault of the file: `connection` says what to do
            raise
        except duckdb.Error as error:
            if NO_ROOM in str(error):  # nor is this
                raise
            raise LogError(self._explained(str(error))) from None

    def _explained(self, text: str) -> str:
        named = next((str(f) for f in self.files if str(f) in text), self.name)
        lines = [part.strip() for part in text.splitlines() if part.strip()]
        if line := re.search(r"CSV Error on Line: (\d+)", text):
            what = "; ".join(part for part in lines[1:4] if not part.startswith(("Possible", "*")))
            return f"{named}, line {line[1]}: {what}"
        if line := re.search(r"Malformed JSON in file .*? in line (\d+): (.*)", text):
            # DuckDB counts from the line after: a fault in the first line is said to be in line 2.
            return f"{named}, row {int(line[1]) - 1}: malformed JSON: {line[2].strip()} Expected one object a line."
        if self.format == "parquet":
            return f"{named}: is not a whole Parquet file ({lines[0]})"
        return f"{named}: {lines[0]}"

    def _names(self) -> str:
        return f"[{', '.join(map(literal, self.files))}]"


Source: TypeAlias = TableSource | FileSource


def matched(path: str | Sequence[str]) -> tuple[Path, ...]:
    """The files of a name, a glob, or several, each glob in the order of names; what matches nothing stays as it is."""
    patterns = [path] if isinstance(path, str) else path
    return tuple(Path(name) for pattern in patterns for name in (sorted(glob.glob(pattern)) or [pattern]))


def file_format(file: Path) -> str:
    """csv, json or parquet, by the suffix before .gz or .zst. Raises LogError for another."""
    suffix = next((s for s in reversed([s.lower() for s in file.suffixes]) if s not in COMPRESSIONS), "")
    if suffix not in FORMATS:
        known = ", ".join(FORMATS)
        raise LogError(f"{file}: unknown format {suffix or '(no suffix)'}; expected one of {known}, or with .gz, .zst")
    return FORMATS[suffix]


def head(file: Path, whole: bool = False) -> str:
    """The first lines of a text file, read to its end where `whole`. Raises LogError: binary, damaged or not UTF-8."""
    try:
        with pa.input_stream(file, compression="detect") as stream:
            data = stream.read(HEAD)
            # DuckDB takes a zstd file that was cut for a whole one, so the stream is followed to its end, once.
            while whole and stream.read(2**20):
                pass
    except (OSError, pa.ArrowException) as error:
        raise LogError(
            f"{file}: cannot be read ({error}); expected a whole file, plain or compressed as its suffix says"
        ) from None
    if b"\0" in data:
        raise LogError(f"{file}: is binary (begins with {data[:8]!r}); expected text")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start > len(data) - 4 and len(data) == HEAD:  # the cut at HEAD went through a character
            return data[: error.start].decode("utf-8-sig")
        line = data[: error.start].count(b"\n") + 1
        raise LogError(f"{file}, line {line}: byte {data[error.start]:#04x} is not UTF-8; expected UTF-8 text") from None


def check_text(file: Path) -> None:
    """Raises LogError where the file is no text or has none."""
    if not head(file, whole=file.suffix == ".zst").strip():
        raise LogError(f"{file}: is empty; expected " + ("a header and rows" if file_format(file) == "csv" else "rows"))


def header(file: Path) -> tuple[str, list[str]]:
    """Delimiter (that which the header holds most often outside quotes) and column names of a CSV or TSV file."""
    line = head(file).splitlines()[0]
    if not line.strip():
        raise LogError(f"{file}, line 1: is blank; expected a header with column names")
    bare = re.sub(r'"[^"]*"', "", line)
    delimiter = max(DELIMITERS, key=bare.count)
    names = [name.strip() for name in next(csv.reader([line], delimiter=delimiter))]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise LogError(f"{file}, line 1: column {twice[0]!r} stands twice in the header; expected distinct names")
    return delimiter, names
