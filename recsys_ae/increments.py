"""A database's events kept on this machine: each night reads only what is new or changed, and holds what a full reading would.

    FOLDER/source.json                what the events are of, how far they were read, and the file's digest
    FOLDER/events-1a2b3c4d.parquet    every event once, in its latest version, in order of its id

An event is told by its id; `since` is a column that grows with every insertion and correction (a sequence, a time of change),
so a late event is simply a new one. What is kept depends on what the source holds alone, not on when it was read.
"""

import datetime
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from recsys_ae import sql
from recsys_ae.canonical import FLOATS, INTEGERS
from recsys_ae.errors import ArtifactError, LogError
from recsys_ae.scratch import alone, sync
from recsys_ae.sealed import check_digest, content_digest, file_digest, read_sealed, write_sealed
from recsys_ae.sources import connection, identifier, literal, one_row

STATE, LOCK = "source.json", ".lock"
DUCKDB_MEMORY = 400 * 10**6  # bytes, where no other limit is set; what does not fit spills to the temporary folder


@dataclass(frozen=True)
class Events:
    """The kept events: their file, how many there are, how many were read for that, and why all were read, if all were."""

    path: Path
    rows: int
    read: int
    whole: str | None


@dataclass(frozen=True)
class EventSource:
    """Where events are, and how one and a change of it are told.

    overlap: how far before the last reading's end the next begins, for changes that were on their way then: seconds where
    `since` is a time, else its own unit.
    """

    url: str
    query: str
    event_id: str
    since: str
    overlap: float = 3600.0

    @property
    def key(self) -> str:
        """Of all that decides what the events are; without the password."""
        return content_digest({"url": sql.shown(self.url), "query": self.query, "id": self.event_id, "since": self.since})


def refresh(source: EventSource, folder: Path, *, anew: bool = False, memory_limit: int | None = None) -> Events:
    """Read what is new since the last time; or all: the first time, `anew`, where the source is another, the file damaged or
    the columns changed, and where the source does not hold as many events as are then known (some were removed).

    Raises LogError where the source cannot be read, lacks a column, or has an event without an id. What was kept stays then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder / LOCK), sql.reading(source.url) as session:
        state, reason = (None, "asked for") if anew else _state(source, folder)
        if state is not None:
            found = _increment(source, folder, session, state, memory_limit)
            if isinstance(found, Events):
                return found
            reason = found
        return _whole(source, folder, session, reason, memory_limit)


def _state(source: EventSource, folder: Path) -> tuple[dict[str, Any] | None, str]:
    """What is kept, or why it cannot be gone on from."""
    if not (folder / STATE).is_file():
        return None, "the first time"
    try:
        state = read_sealed(folder / STATE)
        if state["key"] != source.key:
            return None, "the source is another one"
        check_digest(folder / state["file"], state["file_digest"])
    except ArtifactError as error:
        return None, str(error)
    return state, ""


def _whole(source: EventSource, folder: Path, session: sql.Session, reason: str, memory_limit: int | None) -> Events:
    fresh = folder / "fresh.parquet"
    try:
        read = sql.write(session, source.query, fresh)
        with connection(memory_limit or DUCKDB_MEMORY) as con:
            look = _look(con, source, fresh)
            return _keep(con, source, folder, f"({_latest(source, fresh, look)})", read, look.single, reason)
    finally:
        fresh.unlink(missing_ok=True)


def _increment(
    source: EventSource, folder: Path, session: sql.Session, state: dict[str, Any], memory_limit: int | None
) -> Events | str:
    """The events, or why all must be read."""
    fresh, base = folder / "fresh.parquet", folder / state["file"]
    key, since = identifier(source.event_id), identifier(source.since)
    start = _start(state["mark"], state["mark_type"], source.overlap)
    counted = "count(*)" if state["single"] else f"count(distinct {key})"
    try:
        there = sql.number(session, f"select {counted} as n from ({source.query}) as source")
        later = "" if start is None else f" where {since} >= {start} or {since} is null"
        new = f"select * from ({source.query}) as source{later}"
        read = sql.write(session, new, fresh)
        with connection(memory_limit or DUCKDB_MEMORY) as con:
            look = _look(con, source, fresh)
            columns = _columns(con, base)
            if not _alike(con, fresh, look.columns, columns):
                return "its columns are not what they were"
            typed = ", ".join(f"{identifier(name)}::{kind} as {identifier(name)}" for name, kind in columns.items())
            kept = f"select base.* from {_file(base)} as base anti join {_file(fresh)} as fresh using ({key})"
            merged = f"({kept} union all select {typed} from ({_latest(source, fresh, look)}))" if read else f"({kept})"
            known = int(one_row(con, f"select count(*) from {merged}")[0])
            if known != there:
                return (
                    f"it holds {there} events where {known} are known: some are gone, or came without a later {source.since!r}"
                )
            if not read:
                return Events(base, known, 0, None)
            return _keep(con, source, folder, merged, read, state["single"] and look.single, None)
    finally:
        fresh.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Look:
    """What a reading holds: DuckDB types by column, and whether each event is there once."""

    columns: dict[str, str]
    single: bool


def _look(con: duckdb.DuckDBPyConnection, source: EventSource, fresh: Path) -> _Look:
    """Raises LogError where a column is missing or an event has no id."""
    columns = _columns(con, fresh)
    for role, name in (("event_id", source.event_id), ("since", source.since)):
        if name not in columns:
            raise LogError(f"{sql.shown(source.url)}: no column {name!r} ({role}); found columns {', '.join(columns)}")
    if columns[source.event_id] in FLOATS:
        raise LogError(
            f"{sql.shown(source.url)}: {source.event_id!r} is a {columns[source.event_id]}, which cannot tell large ids apart; "
            "expected an integer or a text: cast it in the query"
        )
    key = identifier(source.event_id)
    rows, with_id, distinct = one_row(con, f"select count(*), count({key}), count(distinct {key}) from {_file(fresh)}")
    if with_id < rows:
        missing = f"{rows - with_id} of {rows} events have no {source.event_id!r}"
        raise LogError(f"{sql.shown(source.url)}: {missing}; expected an id of every event")
    return _Look(columns, distinct == rows)


def _alike(con: duckdb.DuckDBPyConnection, fresh: Path, found: dict[str, str], known: dict[str, str]) -> bool:
    """Whether a reading has the columns that are known; of one that is nothing but nulls not every driver tells the type."""
    if list(found) != list(known):
        return False
    other = [name for name in known if found[name] != known[name]]
    counts = ", ".join(f"count({identifier(name)})" for name in other)
    return not other or not any(one_row(con, f"select {counts} from {_file(fresh)}"))


def _latest(source: EventSource, fresh: Path, look: _Look) -> str:
    """The query of each event's latest version; of two of one moment the same whichever comes first."""
    if look.single:
        return f"select * from {_file(fresh)}"
    others = ", ".join(identifier(name) for name in look.columns if name not in (source.event_id, source.since))
    by = f"{identifier(source.since)} desc nulls last{', ' + others if others else ''}"
    return (
        f"select * from {_file(fresh)} qualify row_number() over (partition by {identifier(source.event_id)} order by {by}) = 1"
    )


def _keep(
    con: duckdb.DuckDBPyConnection, source: EventSource, folder: Path, rows: str, read: int, single: bool, whole: str | None
) -> Events:
    """The rows as the kept file, and the state that names it: both on the disk before the one before them goes."""
    partial = folder / "events.partial"
    try:
        con.execute(
            f"copy (select * from {rows} order by {identifier(source.event_id)}) to {literal(partial)} (format parquet, "
            "compression zstd)"
        )
        since = identifier(source.since)
        count, kind = one_row(con, f"select count(*), any_value(typeof({since})) from {_file(partial)}")
        mark = _mark(con, partial, since, kind or "VARCHAR")
        digest = file_digest(partial)
        path = folder / f"events-{digest['sha256'][:8]}.parquet"
        sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    state = {"key": source.key, "file": path.name, "file_digest": digest, "rows": count, "single": single}
    write_sealed(folder / STATE, state | {"mark": mark, "mark_type": kind or "VARCHAR"})
    sync(folder)
    for old in folder.glob("events-*.parquet"):
        if old != path:
            old.unlink()
    return Events(path, int(count), read, whole)


def _mark(con: duckdb.DuckDBPyConnection, path: Path, since: str, kind: str) -> str | None:
    """How far the events reach. A time past tomorrow is a mistake, which would hide all until then: it marks nothing."""
    (mark,) = one_row(con, f"select max({since})::varchar from {_file(path)}")
    tomorrow = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)  # some clocks run in other zones
    if mark is None or not (kind.startswith(("TIMESTAMP", "DATE")) or kind == "VARCHAR"):
        return mark
    try:
        if datetime.datetime.fromisoformat(mark).replace(tzinfo=datetime.UTC) <= tomorrow:
            return mark
    except ValueError:
        return mark
    bound = literal(f"{tomorrow:%Y-%m-%d %H:%M:%S}")
    return one_row(con, f"select max({since})::varchar from {_file(path)} where {since} <= {bound}")[0]


def _start(mark: str | None, kind: str, overlap: float) -> str | None:
    """The literal of where the next reading begins: the last mark less the overlap; None: with the first event."""
    if mark is None:
        return None
    if kind in INTEGERS:
        return str(int(mark) - math.ceil(overlap))
    if kind in FLOATS:
        return repr(float(mark) - overlap)
    try:
        moment = datetime.datetime.fromisoformat(mark)
    except ValueError:  # a text that is no time
        return literal(mark)
    moment = (moment - datetime.timedelta(seconds=overlap)).replace(microsecond=0)
    if len(mark) <= len("2026-01-01"):
        return literal(moment.date())
    if kind == "VARCHAR":  # compared as texts, so written as they are; one without its zone comes before all with it
        return literal(moment.replace(tzinfo=None).isoformat(mark[10]))
    return literal(moment.isoformat(" "))


def _file(path: Path) -> str:
    return f"read_parquet({literal(path)})"


def _columns(con: duckdb.DuckDBPyConnection, path: Path) -> dict[str, str]:
    return {name: kind for name, kind, *_ in con.execute(f"describe select * from {_file(path)}").fetchall()}
