"""clean(): the table `events` -> a clean log, user by user, out of core; every row that is left out is counted by cause.

DuckDB sorts the rows by user and time, spilling where memory ends; what passes by is whole users at a time, to which the
Preprocessing is applied that the API also applies to one. Rules that look at the whole catalogue come last, in a second pass.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys_ae.batches import BATCH_ROWS, Codes, ahead, read_batches, users_of, whole_users
from recsys_ae.errors import LogError
from recsys_ae.preprocessing import SECONDS_PER_DAY, Cleaned, Events, Preprocessing
from recsys_ae.scratch import whole_file
from recsys_ae.sources import one_row
from recsys_ae.staging import Staged

MISSING = {"missing_id": ("user_id", "item_id"), "missing_timestamp": ("timestamp",), "missing_weight": ("weight",)}
MISSING |= {"missing_event_type": ("event_type",)}


@dataclass(frozen=True)
class Cleaning:
    """What a log must pass: the Preprocessing user by user, then idle items, then the iterative k-core."""

    preprocessing: Preprocessing = Preprocessing()
    min_user_interactions: int = 1
    min_item_interactions: int = 1

    @property
    def looks_at_items(self) -> bool:
        """Whether an item's fate depends on what all users did."""
        return self.min_item_interactions > 1 or self.preprocessing.max_item_idle_days is not None


def clean(
    con: duckdb.DuckDBPyConnection,
    staged: Staged,
    cleaning: Cleaning,
    name: str,
    into: Path | None = None,
    batch_rows: int = BATCH_ROWS,
) -> tuple[pa.Table | Path, dict[str, int]]:
    """The clean log, in memory or `into` a Parquet file, and the number of rows left out by cause.

    Raises LogError, which gives the source's name, where no row is left.
    """
    dropped = Counter(missing(con, staged))

    def check() -> None:
        require_some(name, staged.read, dropped)

    check()
    # Closed also where writing fails: DuckDB refuses to close its connection while a thread still reads from it.
    with closing(ahead(whole_users(_sorted(con, staged, batch_rows)))) as in_turn:
        batches = cleaned_users(in_turn, cleaning, dropped)
        return _stored(batches, cleaning, dropped, into, batch_rows, check), complete(dropped)


def require_some(name: str, read: int, dropped: Mapping[str, int]) -> None:
    """Raises LogError where no row is left."""
    if sum(dropped.values()) == read:
        causes = ", ".join(f"{cause} {count}" for cause, count in dropped.items() if count)
        raise LogError(f"{name}: no interaction is left of {read} read; dropped: {causes}")


def _stored(
    batches: Iterator[pa.RecordBatch],
    cleaning: Cleaning,
    dropped: "Counter[str]",
    into: Path | None,
    batch_rows: int,
    check: Callable[[], None],
) -> pa.Table | Path:
    """What the rules that look at whole users, and at items, leave of the batches; `check` sees what they dropped."""
    if not cleaning.looks_at_items:
        least = cleaning.min_user_interactions
        return _store(long_enough(batches, least, dropped) if least > 1 else batches, into, check)
    catalogue = _Catalogue()
    first = None if into is None else into.with_name(into.name + ".first")
    try:
        stored = _store(catalogue.watched(batches), first, check)
        mask = catalogue.survivors(cleaning, dropped)
        check()
        return _store(_filtered(read_batches(stored, batch_rows), mask), into, check)
    finally:
        if first is not None:
            first.unlink(missing_ok=True)


def complete(dropped: Mapping[str, int]) -> dict[str, int]:
    """In the order in which the rules apply; the k-core's causes always stand at the end."""
    last = ("user_below_min_interactions", "item_below_min_interactions")
    return {cause: n for cause, n in dropped.items() if cause not in last} | {cause: dropped.get(cause, 0) for cause in last}


# --- first pass: user by user ---------------------------------------------------------------------------------------------


def missing(con: duckdb.DuckDBPyConnection, staged: Staged) -> dict[str, int]:
    """Rows that lack something, each counted at the first thing it lacks."""
    filters, before = {}, "true"
    for cause, names in MISSING.items():
        here = [name for name in names if name in staged.expressions]
        if here:
            absent = " or ".join(f"{name} is null" for name in here)
            filters[cause] = f"count(*) filter ({before} and ({absent}))"
            before += f" and not ({absent})"
    return dict(zip(filters, one_row(con, f"select {', '.join(filters.values())} from events"), strict=True))


def _sorted(con: duckdb.DuckDBPyConnection, staged: Staged, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Whole rows by user, then time, then place in the source."""
    selected, present = canonical(staged)
    by = "user_id, timestamp, rowid" if "timestamp" in staged.expressions else "user_id, rowid"
    query = f"select {selected} from events where {present} order by {by}"
    yield from con.sql(query).to_arrow_reader(batch_rows)


def canonical(staged: Staged) -> tuple[str, str]:
    """In SQL: the canonical columns of `events`, and the condition that a row has all of them."""
    selected = ", ".join(f"{expression} as {name}" for name, expression in staged.expressions.items())
    return selected, " and ".join(f"{name} is not null" for name in staged.expressions)


def cleaned_users(batches: Iterable[pa.RecordBatch], cleaning: Cleaning, dropped: "Counter[str]") -> Iterator[pa.RecordBatch]:
    """Each batch of whole users as the Preprocessing leaves it."""
    for batch in batches:
        cleaned = cleaning.preprocessing.clean(_events(batch, cleaning.preprocessing))
        dropped.update(cleaned.dropped)
        yield _taken(batch, cleaned)


def _events(batch: pa.RecordBatch, preprocessing: Preprocessing) -> Events:
    lengths = users_of(batch)[1]
    columns = {name: batch[name].to_numpy() for name in ("weight", "timestamp") if name in batch.schema.names}
    factors = None
    if "event_type" in batch.schema.names:
        types = batch["event_type"].dictionary_encode()
        factors = np.array([preprocessing.factor(t) for t in types.dictionary.to_pylist()])[types.indices.to_numpy()]
    return Events(
        np.repeat(np.arange(len(lengths)), lengths),
        batch["item_id"].dictionary_encode().indices.to_numpy().astype(np.int64),
        columns.get("weight"),
        columns.get("timestamp"),
        factors,
    )


def _taken(batch: pa.RecordBatch, cleaned: Cleaned) -> pa.RecordBatch:
    names = [name for name in ("user_id", "item_id", "timestamp") if name in batch.schema.names]
    kept = batch.select(names)
    if len(cleaned.places) < len(batch):
        kept = kept.take(pa.array(cleaned.places))
    arrays = kept.columns
    if cleaned.weights is not None:
        names, arrays = [*names, "weight"], [*arrays, pa.array(cleaned.weights, pa.float64())]
    return pa.RecordBatch.from_arrays(arrays, names)


def long_enough(batches: Iterable[pa.RecordBatch], least: int, dropped: "Counter[str]") -> Iterator[pa.RecordBatch]:
    """Users with at least so many interactions."""
    for batch in batches:
        lengths = users_of(batch)[1]
        dropped["user_below_min_interactions"] += int(lengths[lengths < least].sum())
        yield batch.filter(pa.array(np.repeat(lengths >= least, lengths)))


# --- second pass: the whole catalogue -------------------------------------------------------------------------------------


class _Catalogue:
    """What the first pass must remember of each row: 4 bytes of item, and the length of each user."""

    def __init__(self) -> None:
        self._codes = Codes()
        self._items: list[NDArray[np.int32]] = []
        self._lengths: list[NDArray[np.int64]] = []
        self._last = np.zeros(0, np.int64)  # when an item was last met

    def watched(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The batches, each looked at as it passes."""
        for batch in batches:
            items = self._codes.of(batch["item_id"])
            self._items.append(items)
            self._lengths.append(users_of(batch)[1])
            if "timestamp" in batch.schema.names:
                unmet = np.full(len(self._codes) - len(self._last), np.iinfo(np.int64).min)
                self._last = np.concatenate([self._last, unmet])
                np.maximum.at(self._last, items, batch["timestamp"].to_numpy())
            yield batch

    def survivors(self, cleaning: Cleaning, dropped: "Counter[str]") -> NDArray[np.bool_]:
        """Rows (N,) that stay: of items that are still met, and in the k-core."""
        items = np.concatenate(self._items or [np.zeros(0, np.int32)])
        lengths = np.concatenate(self._lengths or [np.zeros(0, np.int64)])
        users = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
        places = np.arange(len(items))
        days, reference = cleaning.preprocessing.max_item_idle_days, cleaning.preprocessing.reference_time
        if days is not None and len(items):
            reference = int(self._last.max()) if reference is None else reference
            met = self._last[items] >= reference - days * SECONDS_PER_DAY
            dropped["item_idle"] = len(items) - int(np.count_nonzero(met))
            places, users, items = places[met], users[met], items[met]
        sides = (("user", cleaning.min_user_interactions), ("item", cleaning.min_item_interactions))
        changed = True
        while changed:  # dropping a user can bring an item below its least number, and the other way round
            changed = False
            for role, least in sides:
                mine = users if role == "user" else items
                stay = np.bincount(mine)[mine] >= least if least > 1 else np.ones(len(mine), np.bool_)
                gone = len(mine) - int(np.count_nonzero(stay))
                dropped[f"{role}_below_min_interactions"] += gone
                if gone:
                    changed, places, users, items = True, places[stay], users[stay], items[stay]
        mask = np.zeros(int(lengths.sum()), np.bool_)
        mask[places] = True
        return mask


def _filtered(batches: Iterable[pa.RecordBatch], mask: NDArray[np.bool_]) -> Iterator[pa.RecordBatch]:
    start = 0
    for batch in batches:
        yield batch.filter(pa.array(mask[start : start + len(batch)]))
        start += len(batch)


# --- where batches go -----------------------------------------------------------------------------------------------------


def _store(batches: Iterable[pa.RecordBatch], into: Path | None, check: Callable[[], None]) -> pa.Table | Path:
    """All rows as a table, or as a Parquet file that appears whole or not at all, and only where `check` passes."""
    if into is None:
        table = pa.Table.from_batches(batches)
        check()
        return table
    into.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(into, durable=False) as partial:  # made again every time
        write_parquet(batches, partial)
        check()
        if into.is_dir():  # of a Ray cluster, in parts
            shutil.rmtree(into)
    return into


def write_parquet(batches: Iterable[pa.RecordBatch], path: Path) -> None:
    """One row group a batch; a thread of its own writes while the next batch is made."""
    with ThreadPoolExecutor(1) as writer, ExitStack() as stack:
        file: pq.ParquetWriter | None = None
        writing: Future[None] | None = None
        for batch in batches:
            if file is None:
                repeating = [name for name in batch.schema.names if name != "timestamp"]
                file = stack.enter_context(
                    pq.ParquetWriter(path, batch.schema, compression="zstd", compression_level=1, use_dictionary=repeating)
                )
            if writing is not None:
                writing.result()
            writing = writer.submit(file.write_batch, batch)
        if writing is not None:
            writing.result()
