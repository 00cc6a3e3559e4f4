"""Raw columns -> canonical ones: each value is checked, and the first bad one is named with file and row."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import duckdb

from recsys_ae.errors import LogError
from recsys_ae.preprocessing import EARLIEST, LARGEST_WEIGHT, LATEST
from recsys_ae.sources import Source, one_row

IdMode: TypeAlias = Literal["auto", "string"]

INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "HUGEINT"}
FLOATS = {"FLOAT", "DOUBLE"}
# What a number of a typical time counts: 4.1e9 seconds is the year 2100, 4.1e9 milliseconds is early in 1970.
UNITS = ((LATEST, 1), (LATEST * 1_000, 1_000), (LATEST * 1_000_000, 1_000_000), (LATEST * 10**9, 10**9))


@dataclass(frozen=True)
class ColumnReader:
    """Checks columns of the table `staged` and gives the SQL expression that makes each canonical.

    names: source column by role (user, item, timestamp, weight); types: DuckDB type by role.
    """

    con: duckdb.DuckDBPyConnection
    source: Source
    names: dict[str, str]
    types: dict[str, str]

    def id(self, role: str, ids: IdMode) -> str:
        """Integers of 64 bits or strings; never a mixture."""
        kind = self.types[role]
        if kind in INTEGERS:
            self._check(role, f"{role} not between -9223372036854775808 and 9223372036854775807", "an integer of 64 bits")
            return f"{role}::bigint" if ids == "auto" else f"{role}::varchar"
        if kind.startswith("ENUM"):
            return f"{role}::varchar"
        if kind not in ("VARCHAR", "JSON"):
            raise self._wrong_type(role, "ids", "integers or strings")
        text = self._text(role)
        if kind == "JSON":
            known = "('VARCHAR', 'UBIGINT', 'BIGINT', 'NULL')"
            self._check(role, f"json_type({role}) not in {known}", "an id: an integer or a string")
            integer = f"json_type({role}) in ('UBIGINT', 'BIGINT')"
            other = f"json_type({role}) = 'VARCHAR'"
        else:
            integer = f"regexp_full_match({text}, '-?(0|[1-9][0-9]*)')"
            other = f"not regexp_full_match({text}, '-?[0-9]+')"
        n_integer, n_other, n_all = one_row(
            self.con, f"select count(*) filter ({integer}), count(*) filter ({other}), count({text}) from staged"
        )
        padded = n_other == 0 and n_integer < n_all  # digits throughout, some with leading zeros: names, not numbers
        if ids == "string" or n_integer == 0 or padded:
            return text
        if n_other:
            rare, expected = (other, "an integer") if n_integer >= n_other else (integer, "a string that is no integer")
            counts = f"{n_integer} integers, {n_other} strings"
            way_out = 'ids = "string" in [log] takes all of them as strings'
            self._check(role, rare, f"{expected} like the other ids of this column ({counts}; {way_out})")
        self._check(role, f"try_cast({text} as bigint) is null and {text} is not null", "an integer of 64 bits")
        return f"{text}::bigint"

    def weight(self) -> str:
        """Finite float64 of a sane size."""
        role, kind = "weight", self.types["weight"]
        if kind in ("VARCHAR", "JSON"):
            value = f"try_cast({self._text(role)} as double)"
            self._check(role, f"{self._text(role)} is not null and {value} is null", "a number")
        elif kind in INTEGERS | FLOATS or kind.startswith("DECIMAL"):
            value = f"{role}::double"
        else:
            raise self._wrong_type(role, "weights", "numbers")
        self._check(role, f"isnan({value}) or isinf({value})", "a finite number")
        self._check(
            role, f"abs({value}) > {LARGEST_WEIGHT}", f"a number between -{LARGEST_WEIGHT:.0e} and {LARGEST_WEIGHT:.0e}"
        )
        return value

    def timestamp(self) -> str:
        """Seconds since 1970, int64, rounded down: of a number in seconds to nanoseconds, a timestamp, or an ISO 8601 text."""
        kind = self.types["timestamp"]
        if kind.endswith("_NS"):
            seconds = floored("epoch_ns(timestamp)", 10**9)  # rounded down first: a cast to microseconds may round up
            return self._in_range(f"epoch(make_timestamp({seconds} * 1000000)::timestamptz)::bigint")
        if kind.startswith(("TIMESTAMP", "DATE")):  # one without a zone is of the session's
            return self._in_range("floor(epoch(timestamp::timestamptz))::bigint")
        if kind in INTEGERS:
            return self._of_integers("timestamp::bigint")
        if kind in FLOATS or kind.startswith("DECIMAL"):
            return self._of_floats("timestamp::double")
        if kind not in ("VARCHAR", "JSON"):
            raise self._wrong_type("timestamp", "times", "numbers or timestamps")
        text = self._text("timestamp")
        integer, number = f"try_cast({text} as bigint)", f"try_cast({text} as double)"
        whole = f"regexp_full_match({text}, '[-+]?[0-9]+') and {integer} is not null"
        n_integers, n_numbers, n_all = one_row(
            self.con, f"select count(*) filter ({whole}), count(*) filter (isfinite({number})), count({text}) from staged"
        )
        if n_integers == n_all:  # not by way of float64, which rounds the last digits of nanoseconds
            return self._of_integers(integer)
        if n_numbers * 2 >= n_all:
            self._check("timestamp", f"{text} is not null and {number} is null", "a number of seconds since 1970")
            return self._of_floats(number)
        moment = f"try_cast({text} as timestamptz)"
        faulty = f"{text} is not null and ({moment} is null or not isfinite({moment}))"
        self._check("timestamp", faulty, "an ISO 8601 time like 2024-05-01T12:00:00Z")
        return self._in_range(f"floor(epoch({moment}))::bigint")

    def event_type(self) -> str:
        """A name; null where it is empty."""
        kind = self.types["event_type"]
        if kind in ("VARCHAR", "JSON"):
            return self._text("event_type")
        if kind in INTEGERS or kind.startswith("ENUM"):
            return "event_type::varchar"
        raise self._wrong_type("event_type", "event types", "names")

    def _of_integers(self, number: str) -> str:
        return self._in_range(floored(number, self._per_second(number)))

    def _of_floats(self, number: str) -> str:
        self._check("timestamp", f"isnan({number}) or isinf({number})", "a finite number of seconds since 1970")
        scaled = f"floor({number} / {self._per_second(number)})"
        self._in_range(scaled)  # before the cast, which fails where 64 bits are too few
        return f"{scaled}::bigint"

    def _per_second(self, number: str) -> int:
        size = one_row(self.con, f"select approx_quantile(abs({number}::double), 0.5) from staged")[0] or 0
        return next((scale for limit, scale in UNITS if size <= limit), 1)

    def _in_range(self, seconds: str) -> str:
        self._check("timestamp", f"{seconds} not between {EARLIEST} and {LATEST}", "a time between the years 1900 and 2100")
        return seconds

    def _check(self, role: str, condition: str, expected: str) -> None:
        """Raise LogError for the first row that meets the condition, if there is one."""
        query = f"select rowid, {role} from staged where {condition} order by rowid limit 1"
        for row, value in self.con.execute(query).fetchall():
            shown = repr(value if isinstance(value, str | int | float) else str(value))
            shown = shown if len(shown) <= 80 else shown[:77] + "..."
            place = self.source.place(self.con, int(row))
            raise LogError(f"{place}, column {self.names[role]!r}: found {shown}; expected {expected}")

    def _text(self, role: str) -> str:
        """A text or JSON value as text; null where it is empty."""
        text = f"{role}->>'$'" if self.types[role] == "JSON" else f"trim({role})"
        return f"nullif({text}, '')"

    def _wrong_type(self, role: str, what: str, expected: str) -> LogError:
        place = self.source.place(self.con, 0)
        return LogError(f"{place}, column {self.names[role]!r}: {what} of type {self.types[role]}; expected {expected}")


def floored(number: str, divisor: int) -> str:
    """Integer division that rounds down below zero too, where DuckDB's // rounds towards it."""
    if divisor == 1:
        return number
    return f"(({number}) // {divisor} - (({number}) % {divisor} < 0)::bigint)"
