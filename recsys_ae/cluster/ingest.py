"""read_log() on a Ray cluster: files -> a clean log in parts by ranges of users, which no node ever holds whole.

Each file, or object of a store, is staged by a task as `staging` does it, and its rows written as they are (Ray Data). They
are shuffled to the part that holds their user's range, where `cleaning` does its work, user by user. Rules that look at the
whole catalogue go over the parts again: what travels are the items' counts, of which this process holds one for each item. A
task whose worker dies is done again.
"""

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_ae import errors, objects
from recsys_ae.batches import read_batches, whole_users
from recsys_ae.canonical import IdMode
from recsys_ae.cleaning import Cleaning, canonical, cleaned_users, complete, long_enough, missing, require_some, write_parquet
from recsys_ae.cluster.session import joined, quiet_data
from recsys_ae.errors import LogError, RecsysError
from recsys_ae.ids import Id
from recsys_ae.log import InteractionLog, within
from recsys_ae.objects import Object, Options
from recsys_ae.preprocessing import SECONDS_PER_DAY
from recsys_ae.scratch import scratch_folder, whole_file, whole_folder
from recsys_ae.sources import FileSource, connection, matched
from recsys_ae.staging import Columns, NoRowsError, stage

ROWS_PER_PART = 5_000_000
BYTES_A_ROW = 320  # of a part while it is sorted and cleaned: measured 180 with integer ids, 310 with ids of 20 characters
SAMPLE = 2_000  # users of each file by which the ranges are chosen
PLACE = ("file", "row")  # of a row in the source: what decides between equal times

Row = dict[str, Any]


def read_log_on_ray(
    path: str | Sequence[str],
    columns: Columns | None = None,
    cleaning: Cleaning | None = None,
    *,
    into: Path,
    ids: IdMode = "auto",
    address: str | None = None,
    memory_limit: int | None = None,
    rows_per_part: int = ROWS_PER_PART,
    storage: Mapping[str, Options] | None = None,
) -> InteractionLog:
    """As `read_log`: the same rows in the same order and the same counts, in the folder `into`, part by part.

    A file is what a task reads: many files are shared out, one is not. All nodes must see the files and the folder. Kinds of
    ids and units of time are told by file: a column that holds integers in one file and text in another is refused.

    memory_limit: bytes that a task may take; parts are then as small as it asks.

    A path may be a URL of objects: each task fetches its own, with its node's driver and credentials. `storage`: settings of
    drivers, by protocol.

    Raises LogError as `read_log` does, ConfigError where there is no cluster.
    """
    cleaning, sources = cleaning or Cleaning(), _sources(path, storage or {})
    if memory_limit is not None:
        rows_per_part = min(rows_per_part, max(1, memory_limit // BYTES_A_ROW))
    share, batch_rows = within(memory_limit)
    name = ", ".join(map(_name, sources[:3])) + (" ..." if len(sources) > 3 else "")
    into.parent.mkdir(parents=True, exist_ok=True)
    with joined(address), whole_folder(into) as parts, scratch_folder("staged", into.parent) as folder:
        run = _Run(folder, parts, cleaning, batch_rows)
        staged = run.staged(_Stage(run.folder, columns or Columns(), cleaning, ids, sources, storage or {}, share, batch_rows))
        read = sum(each["read"] for each in staged)
        if not read:
            raise LogError(f"{name}: no rows; expected at least one interaction")
        dropped = _total(each["dropped"] for each in staged)
        require_some(name, read, dropped)
        cleaned = run.cleaned(staged, max(1, -(-read // rows_per_part)))
        dropped.update(_total(each["dropped"] for each in cleaned))
        require_some(name, read, dropped)
        if cleaning.looks_at_items:
            dropped.update(run.survivors(cleaned))
        require_some(name, read, dropped)
    return InteractionLog(into, read, complete(dropped))


class _Run:
    """One reading: where its files are, and its stages."""

    def __init__(self, folder: Path, parts: Path, cleaning: Cleaning, batch_rows: int) -> None:
        self.data, self.cleaning, self.batch_rows = quiet_data(), cleaning, batch_rows
        self.folder, self.parts, self.rounds = folder.resolve(), parts.resolve(), 0

    def staged(self, stage: "_Stage") -> list[Row]:
        """What each file has: rows, ids' kinds, columns; its rows are in a file of this run."""
        tasks = [{"number": number} for number in range(len(stage.sources))]
        found = self._rows(self.data.from_items(tasks, override_num_blocks=len(tasks)).map(stage))
        rows = [json.loads(row["told"]) for row in sorted(found, key=lambda row: row["number"])]
        for row in rows:
            if "fault" in row:
                raise getattr(errors, row["kind"])(row["fault"])
        some = [row for row in rows if row["read"]]
        typed = [row for row in some if row["columns"] is not None]
        for row in typed[1:]:
            _same(typed[0], row)
        return some

    def cleaned(self, staged: Sequence[Row], number: int) -> list[Row]:
        """The rows of each range of users, cleaned user by user, in a file of the folder that they are in for good, or, where
        items are looked at, for the time being."""
        target = self.folder / "first" if self.cleaning.looks_at_items else self.parts
        target.mkdir(exist_ok=True)
        assign = _Assign(_boundaries(staged, number), self.batch_rows)
        paths = [row["path"] for row in staged if row["path"]]
        rows = self._of(paths).map_batches(assign, batch_size=1, batch_format="numpy")
        grouped = rows.groupby("part", num_partitions=number)
        found = grouped.map_groups(_Clean(target, self.cleaning, self.batch_rows).part, batch_format="pyarrow")
        return [json.loads(row["told"]) for row in self._rows(found)]

    def survivors(self, cleaned: Sequence[Row]) -> "Counter[str]":
        """Write the rows that the whole catalogue leaves; what it drops, by cause, as `cleaning` counts it."""
        paths = [row["path"] for row in cleaned if row["path"]]
        rules, dropped = self.cleaning, Counter[str]()
        counts = self._counted(paths, None, 1)
        rows = _sum(counts)
        days, reference = rules.preprocessing.max_item_idle_days, rules.preprocessing.reference_time
        if days is not None and rows:
            reference = pc.max(counts["last"]).as_py() if reference is None else reference
            counts = counts.filter(pc.greater_equal(counts["last"], reference - days * SECONDS_PER_DAY))
            dropped["item_idle"] = rows - _sum(counts)
        alive, least_user, least_item = counts["item_id"], rules.min_user_interactions, rules.min_item_interactions
        rows = _sum(counts)
        while True:  # users first, then items, until an items' turn drops nobody: the order in which cleaning counts
            if least_user > 1 and rows:
                counts = self._counted(paths, alive, least_user)
                dropped["user_below_min_interactions"] += rows - _sum(counts)
                rows = _sum(counts)
            kept = counts.filter(pc.greater_equal(counts["rows"], least_item)) if least_item > 1 else counts
            gone = rows - _sum(kept)
            dropped["item_below_min_interactions"] += gone
            alive, counts, rows = kept["item_id"], kept, rows - gone
            if not gone or least_user <= 1:
                break
        self._written(paths, alive, least_user)
        return dropped

    def _counted(self, paths: Sequence[str], alive: pa.ChunkedArray | None, least: int) -> pa.Table:
        """By item its rows, and when it was last met, of the users with so many rows of items that are alive."""
        count = _Count(self._shared(alive), least, self.batch_rows)
        found = self._of(paths).map_batches(count, batch_size=1, batch_format="numpy")
        total: pa.Table | None = None
        for batch in found.iter_batches(batch_format="pyarrow", batch_size=None):
            table = batch if total is None else pa.concat_tables([total, batch])
            total = _by_item(table)
        return _no_items(Path(paths[0])) if total is None else total

    def _written(self, paths: Sequence[str], alive: pa.ChunkedArray, least: int) -> None:
        keep = _Keep(self._shared(alive), least, self.batch_rows, self.parts)
        self._rows(self._of(paths).map(keep))

    def _of(self, paths: Sequence[str]) -> Any:
        """A task for each part."""
        return self.data.from_items([{"path": path} for path in paths], override_num_blocks=len(paths))

    def _shared(self, alive: pa.ChunkedArray | None) -> str | None:
        """Ids as a file that every task reads."""
        if alive is None:
            return None
        self.rounds += 1  # a name of its own: another node may still hold the last one
        path = self.folder / f"alive-{self.rounds:04}.parquet"
        with whole_file(path, durable=False) as partial:
            pq.write_table(pa.table({"item_id": alive}), partial)
        return str(path)

    def _rows(self, dataset: Any) -> list[Row]:
        found: list[Row] = dataset.take_all()
        return found


@dataclass(frozen=True)
class _Stage:
    """A source by number -> its rows with all canonical columns, in a file of the folder, and what is to be known of them."""

    folder: Path
    columns: Columns
    cleaning: Cleaning
    ids: IdMode
    sources: Sequence[Path | Object]
    storage: Mapping[str, Options]
    memory: int | None  # bytes, of DuckDB
    batch_rows: int

    def __call__(self, task: Row) -> Row:
        number = int(task["number"])
        source = self.sources[number]
        try:
            told = self._staged(number, source) if isinstance(source, Path) else self._fetched(number, source)
        except NoRowsError:
            told = {"read": 0}
        except RecsysError as error:  # Ray would wrap it in its own
            told = {"kind": type(error).__name__, "fault": str(error)}
        return {"number": number, "told": json.dumps(told | {"source": _name(source)})}

    def _fetched(self, number: int, source: Object) -> Row:
        """Of an object, which is on this node's disk meanwhile."""
        with scratch_folder("recsys-ae") as folder:
            file = objects.download(source, folder, objects.options_of(self.storage, source.url))
            try:
                return self._staged(number, file)
            except RecsysError as error:
                raise type(error)(str(error).replace(str(file), source.url)) from None

    def _staged(self, number: int, file: Path) -> Row:
        path = self.folder / f"staged-{number:06}.parquet"
        with connection(self.memory) as con:
            staged = stage(con, FileSource((file,)), self.columns, self.ids, self.cleaning.preprocessing)
            dropped = missing(con, staged)
            selected, present = canonical(staged)
            rows = f"select {selected}, {number}::bigint as file, rowid as row from events where {present}"
            with whole_file(path, durable=False) as partial:
                write_parquet(con.sql(rows).to_arrow_reader(self.batch_rows), partial)
            kept = staged.read - sum(dropped.values())
            sampled = f"select user_id from ({rows}) using sample reservoir({SAMPLE} rows) repeatable (0)"
            sample = con.execute(sampled).fetchall()
        told = {"read": staged.read, "dropped": dropped, "kept": kept, "sample": [user for (user,) in sample]}
        if not kept:
            return told | {"path": None, "columns": None}
        schema = {field.name: str(field.type) for field in pq.read_schema(path)}
        return told | {"path": str(path), "columns": schema}


class _Assign:
    """A staged file -> its rows with the part that their user's range is."""

    def __init__(self, boundaries: Sequence[Id], batch_rows: int) -> None:
        self.boundaries, self.batch_rows = boundaries, batch_rows

    def __call__(self, task: Mapping[str, Any]) -> Iterator[pa.Table]:
        for batch in read_batches(Path(str(task["path"][0])), self.batch_rows):
            users = batch["user_id"].dictionary_encode()
            parts = np.array([bisect_right(self.boundaries, user) for user in users.dictionary.to_pylist()], np.int64)
            yield pa.Table.from_batches([batch]).append_column("part", pa.array(parts[users.indices.to_numpy()]))


class _Clean:
    """The rows of a range of users -> a file of what their own rules leave."""

    def __init__(self, folder: Path, cleaning: Cleaning, batch_rows: int) -> None:
        self.folder, self.cleaning, self.batch_rows = folder, cleaning, batch_rows

    def part(self, table: pa.Table) -> pa.Table:
        number = table["part"][0].as_py()
        by = [name for name in ("user_id", "timestamp", *PLACE) if name in table.column_names]
        table = table.sort_by([(name, "ascending") for name in by]).drop_columns(["part", *PLACE]).combine_chunks()
        dropped, path = Counter[str](), self.folder / f"part-{number:06}.parquet"
        batches = cleaned_users(whole_users(table.to_batches(max_chunksize=self.batch_rows)), self.cleaning, dropped)
        least = 1 if self.cleaning.looks_at_items else self.cleaning.min_user_interactions
        rows = _write(long_enough(batches, least, dropped) if least > 1 else batches, path)
        told = json.dumps({"path": str(path) if rows else None, "rows": rows, "dropped": dropped})
        return pa.table({"told": [told]})


class _Alive:
    """Rows of items that are alive, of users with so many of them."""

    def __init__(self, alive: str | None, least: int, batch_rows: int) -> None:
        self.alive, self.least, self.batch_rows = alive, least, batch_rows

    def of(self, part: Path) -> Iterator[pa.RecordBatch]:
        """Whole users' batches of a part, filtered."""
        alive = None if self.alive is None else pq.read_table(self.alive)["item_id"].combine_chunks()
        for batch in whole_users(read_batches(part, self.batch_rows)):
            if alive is not None:
                batch = batch.filter(pc.is_in(batch["item_id"], value_set=alive))
            if len(batch) and self.least > 1:
                (batch,) = long_enough([batch], self.least, Counter())
            if len(batch):
                yield batch


class _Count(_Alive):
    """A part -> its items with their rows and last times."""

    def __call__(self, task: Mapping[str, Any]) -> pa.Table:
        found = []
        for batch in self.of(Path(str(task["path"][0]))):
            last = batch["timestamp"] if "timestamp" in batch.schema.names else pa.nulls(len(batch), pa.int64())
            ones = pa.array(np.ones(len(batch), np.int64))
            found.append(_by_item(pa.table({"item_id": batch["item_id"], "rows": ones, "last": last})))
        if not found:
            return _no_items(Path(str(task["path"][0])))
        return pa.concat_tables(found)


def _by_item(counts: pa.Table) -> pa.Table:
    """Counts of which an item has several, as one each: their sum, and the last of their times."""
    sums = counts.group_by("item_id").aggregate([("rows", "sum"), ("last", "max")])
    return sums.select(["item_id", "rows_sum", "last_max"]).rename_columns(["item_id", "rows", "last"])


def _no_items(path: Path) -> pa.Table:
    """What no row of a part counts to."""
    ids = pa.array([], pq.read_schema(path).field("item_id").type)
    return pa.table({"item_id": ids, "rows": pa.array([], pa.int64()), "last": pa.array([], pa.int64())})


class _Keep(_Alive):
    """A part -> the file that it is for good."""

    def __init__(self, alive: str | None, least: int, batch_rows: int, folder: Path) -> None:
        super().__init__(alive, least, batch_rows)
        self.folder = folder

    def __call__(self, task: Row) -> Row:
        path = Path(task["path"])
        return {"rows": _write(self.of(path), self.folder / path.name)}


def _write(batches: Iterable[pa.RecordBatch], path: Path) -> int:
    """A file of the batches, none where they have no rows; how many rows."""
    counted = Counter[str]()

    def some() -> Iterator[pa.RecordBatch]:
        for batch in batches:
            counted["rows"] += len(batch)
            if len(batch):
                yield batch

    with whole_file(path, durable=False) as partial:
        write_parquet(some(), partial)
        rows = counted["rows"]
    if not rows:
        path.unlink()
    return rows


def _sources(path: str | Sequence[str], storage: Mapping[str, Options]) -> list[Path | Object]:
    """Files and objects of names and globs, each glob in the order of names."""
    found: list[Path | Object] = []
    for pattern in [path] if isinstance(path, str) else path:
        if objects.is_url(pattern):
            found += objects.listed(pattern, objects.options_of(storage, pattern))
        else:
            found += (file.resolve() for file in FileSource(matched(pattern)).files)
    return found


def _name(source: Path | Object) -> str:
    return source.url if isinstance(source, Object) else str(source)


def _boundaries(staged: Sequence[Row], number: int) -> list[Id]:
    """The first users of all ranges but the first: quantiles of the files' samples, each counting as its file's rows."""
    weighed = sorted((user, row["kept"] / len(row["sample"])) for row in staged for user in row["sample"])
    if number < 2 or not weighed:
        return []
    sums = np.cumsum([weight for _, weight in weighed])
    places = np.searchsorted(sums, sums[-1] * np.arange(1, number) / number)
    return sorted({weighed[int(place)][0] for place in places})


def _same(first: Row, other: Row) -> None:
    """Raises LogError where two files' columns are not of the same names and types."""
    if first["columns"] == other["columns"]:
        return
    raise LogError(
        f"{other['source']}: read as {other['columns']}; expected {first['columns']} as in {first['source']} "
        '(ids = "string" in [log] takes all ids as strings)'
    )


def _total(counts: Iterable[Mapping[str, int]]) -> "Counter[str]":
    total: Counter[str] = Counter()
    for each in counts:
        for cause, count in each.items():
            total[cause] += count
    return total


def _sum(counts: pa.Table) -> int:
    return int(pc.sum(counts["rows"]).as_py() or 0)
