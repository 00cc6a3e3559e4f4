"""stage(): a source's rows -> the table `events` with canonical columns, in the order of the source, every value checked.

Two readings give the same table. The quick one guesses each column's kind from the first rows, converts while it reads, and
marks every row that it is not sure of. Where one is marked, the exact one (canonical.py) stages the columns as they are,
decides from all rows, and names the first bad one.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import duckdb

from recsys_ae.canonical import INTEGERS, UNITS, ColumnReader, IdMode, floored
from recsys_ae.errors import LogError
from recsys_ae.preprocessing import EARLIEST, LARGEST_WEIGHT, LATEST, Preprocessing
from recsys_ae.sources import FileSource, Source, identifier, literal, one_row

ROLES = ("user", "item", "timestamp", "weight", "event_type")
GUESSED_FROM = 1_000  # rows
CANONICAL_INTEGER = r"-?(0|[1-9][0-9]*)"
EXACT_IN_64_BITS = INTEGERS - {"UBIGINT", "HUGEINT"}


class NoRowsError(LogError):
    """A source without rows."""


@dataclass(frozen=True)
class Columns:
    """Source column names. `timestamp`, `weight` and `event_type` may be absent unless `required` names them.

    timezone: what a time without a zone of its own is told in, by its IANA name.
    """

    user: str = "user_id"
    item: str = "item_id"
    timestamp: str = "timestamp"
    weight: str = "weight"
    event_type: str = "event_type"
    required: frozenset[str] = frozenset({"user", "item"})
    timezone: str = "UTC"


@dataclass(frozen=True)
class Staged:
    """The table `events`: for each canonical column the SQL expression that gives it, null where the source has nothing."""

    expressions: dict[str, str]
    read: int


@dataclass(frozen=True)
class _Guess:
    """How to read a column while it passes, and the SQL condition under which that may be wrong."""

    expression: str
    doubt: str = "false"


def stage(
    con: duckdb.DuckDBPyConnection, source: Source, columns: Columns, ids: IdMode, preprocessing: Preprocessing
) -> Staged:
    """Make the table `events`, with what the Preprocessing needs. Raises LogError."""
    con.execute(f"set timezone = {literal(columns.timezone)}")
    types = source.columns(con)
    named = {role: getattr(columns, role) for role in ROLES if role != "event_type" or preprocessing.event_weights}
    required = columns.required | ({"event_type"} if preprocessing.event_weights else set())
    if preprocessing.max_user_events_per_day is not None or preprocessing.max_item_idle_days is not None:
        required |= {"timestamp"}
    loose = isinstance(source, FileSource) and source.format == "json"  # a JSON key may first appear in any row
    roles = {role: name for role, name in named.items() if name in types or loose}
    for role in sorted(required - set(roles), key=list(named).index):
        raise no_column(source, role, named[role], types)
    if not loose and (staged := _quickly(con, source, roles, types, ids)) is not None:
        return staged
    return _exactly(con, source, roles, required, types, ids)


def no_column(source: Source, role: str, name: str, types: Mapping[str, str]) -> LogError:
    """The error of a column that is not there."""
    return LogError(f"{source.name}: no column {name!r} (the {role}); found columns {', '.join(types) or 'none'}")


def canonical_name(role: str) -> str:
    """What a role's column is called in a clean log."""
    return f"{role}_id" if role in ("user", "item") else role


# --- the exact reading ----------------------------------------------------------------------------------------------------


def _exactly(
    con: duckdb.DuckDBPyConnection,
    source: Source,
    roles: dict[str, str],
    required: frozenset[str],
    types: Mapping[str, str],
    ids: IdMode,
) -> Staged:
    picks = ", ".join(f"{identifier(name)} as {role}" for role, name in roles.items())
    with source.translated():
        con.execute(f"create table staged as select {picks} from {source.relation(list(roles.values()))}")
    read, *met = one_row(con, f"select count(*), {', '.join(f'count({role})' for role in roles)} from staged")
    if read == 0:
        raise NoRowsError(f"{source.name}: no rows; expected at least one interaction")
    for role, count in zip(list(roles), met, strict=True):
        if count == 0 and roles[role] not in types:
            if role in required:
                raise no_column(source, role, roles[role], types)
            del roles[role]
    reader = ColumnReader(con, source, roles, {role: types.get(name, "JSON") for role, name in roles.items()})
    expressions = {"user_id": reader.id("user", ids), "item_id": reader.id("item", ids)}
    for role, expression in (("timestamp", reader.timestamp), ("weight", reader.weight), ("event_type", reader.event_type)):
        if role in roles:
            expressions[role] = expression()
    selected = ", ".join(f"{expression} as {name}" for name, expression in expressions.items())
    con.execute(f"create table events as select {selected} from staged")
    con.execute("drop table staged")
    return Staged({name: name for name in expressions}, read)


# --- the quick reading ----------------------------------------------------------------------------------------------------


def _quickly(
    con: duckdb.DuckDBPyConnection, source: Source, roles: dict[str, str], types: Mapping[str, str], ids: IdMode
) -> Staged | None:
    """One pass over the source; None where a guess was not sure throughout."""
    relation = source.relation(list(roles.values()))
    with source.translated():
        picks = ", ".join(f"{identifier(name)}::varchar" for name in roles.values())
        first = con.execute(f"select {picks} from {relation} limit {GUESSED_FROM}").fetchall()
    guesses = {}
    for (role, name), sample in zip(roles.items(), zip(*first, strict=True), strict=False):
        texts = [text.strip() for text in sample if text is not None and text.strip()]
        guess = _guess(role, identifier(name), types[name], texts, ids)
        if guess is None:
            return None
        guesses[canonical_name(role)] = guess
    if not guesses:  # no rows
        return None
    selected = ", ".join(f"{guess.expression} as {name}" for name, guess in guesses.items())
    doubt = " or ".join(f"coalesce({guess.doubt}, false)" for guess in guesses.values() if guess.doubt != "false") or "false"
    with source.translated():
        con.execute(f"create table events as select {selected}, {doubt} as doubt from {relation}")
    read, doubtful = one_row(con, "select count(*), coalesce(bool_or(doubt), false) from events")
    expressions = {name: name for name in guesses}
    if not doubtful and "timestamp" in guesses:
        seconds = _seconds(*one_row(con, "select min(timestamp), max(timestamp) from events"))
        if seconds is not None:
            return Staged(expressions | {"timestamp": seconds}, read)
    elif not doubtful:
        return Staged(expressions, read)
    con.execute("drop table events")
    return None


def _guess(role: str, column: str, kind: str, texts: list[str], ids: IdMode) -> _Guess | None:
    """How a column of DuckDB type `kind` with these first values can be read as it passes; None: not at all."""
    if role in ("user", "item"):
        return _guess_id(column, kind, texts, ids)
    if role == "timestamp":
        return _guess_time(column, kind, texts)
    if role == "event_type":
        return _Guess(_text(column)) if kind == "VARCHAR" else _Guess(f"{column}::varchar") if kind.startswith("ENUM") else None
    if kind == "VARCHAR":
        value = f"try_cast({column} as double)"
    elif kind in EXACT_IN_64_BITS | {"FLOAT", "DOUBLE"}:
        value = f"{column}::double"
    else:
        return None
    # NaN is greater than all numbers, but DuckDB believes statistics of Parquet that do not know of it.
    sane = f"isfinite({value}) and abs({value}) <= {LARGEST_WEIGHT}"
    return _Guess(value, f"{column} is not null and not coalesce({sane}, false)")


def _guess_id(column: str, kind: str, texts: list[str], ids: IdMode) -> _Guess | None:
    if kind in EXACT_IN_64_BITS:
        return _Guess(f"{column}::{'bigint' if ids == 'auto' else 'varchar'}")
    if kind.startswith("ENUM"):
        return _Guess(f"{column}::varchar")
    if kind != "VARCHAR":
        return None
    if ids == "string":
        return _Guess(_text(column))
    integers = [re.fullmatch(CANONICAL_INTEGER, text) is not None for text in texts]
    if all(integers):
        return _guess_integer(column)
    return None if any(integers) else _Guess(_text(column), f"regexp_full_match(trim({column}), '{CANONICAL_INTEGER}')")


def _guess_integer(column: str) -> _Guess:
    """Sure of integers written as DuckDB itself writes them."""
    value = f"try_cast({column} as bigint)"
    return _Guess(value, f"{value}::varchar is distinct from {column}")


def _guess_time(column: str, kind: str, texts: list[str]) -> _Guess | None:
    if kind in EXACT_IN_64_BITS:
        return _Guess(f"{column}::bigint")
    if kind == "VARCHAR":
        if all(re.fullmatch(r"-?[0-9]+", text) for text in texts):
            guess = _guess_integer(column)
            # Ten characters that make a number of ten digits, as seconds have them, leave no room for a fraction.
            plain = f"strlen({column}) = 10 and {guess.expression} > 999999999"
            return _Guess(guess.expression, f"case when {plain} then false else {guess.doubt} end")
        if any(re.fullmatch(r"[-+.0-9eE]+", text) and "-" not in text[1:] for text in texts):
            return None
        moment = f"try_cast({column} as timestamptz)"
        number = f"try_cast({column} as double) is not null"
        return _Guess(_epoch(moment), f"{column} is not null and ({number} or {_outside(moment)})")
    if kind.startswith(("TIMESTAMP", "DATE")) and not kind.endswith("_NS"):
        moment = f"{column}::timestamptz"
        return _Guess(_epoch(moment), f"{column} is not null and {_outside(moment)}")
    return None


def _epoch(moment: str) -> str:
    """Seconds since 1970; none of a moment that is not finite, whose epoch no integer holds."""
    return f"case when isfinite({moment}) then floor(epoch({moment}))::bigint end"


def _outside(moment: str) -> str:
    return f"coalesce(not isfinite({moment}) or epoch({moment}) not between {EARLIEST} and {LATEST}, true)"


def _seconds(least: int | None, most: int | None) -> str | None:
    """The expression that makes seconds of numbers between two, where all of them are of one unit beyond doubt."""
    if least is None or most is None:
        return "timestamp"
    if least >= EARLIEST and most <= LATEST:
        return "timestamp"
    for (below, _), (limit, scale) in zip(UNITS, UNITS[1:], strict=False):
        if below < least and most <= limit:
            return floored("timestamp", scale)
    return None


def _text(column: str) -> str:
    return f"nullif(trim({column}), '')"
