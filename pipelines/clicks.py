"""clicks: what became of the lists that were shown, by version, arm and position; from the API's own store.

The database gives the lists of the time asked for and the events that name them, DuckDB brings them together and adds up by
user, out of core, and Python sees sums alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import duckdb

from pipelines.config import RunConfig
from recsys_ae import sql
from recsys_ae.errors import ConfigError, LogError
from recsys_ae.scratch import scratch_folder
from recsys_ae.shares import NOBODY, Products, Ratio, Sums, ratio_difference, ratio_of_sums
from recsys_ae.sources import connection, literal

Key: TypeAlias = tuple[str, str, str]

LEAST_SCHEMA = 2  # of the store, whose lists are logged from there on
GROUPS = {"all": "'all'", "versions": "model_version", "arms": "arm", "sources": "source"}
MEASURES = {"lists": ("(clicked > 0)::int", "1"), "items": ("clicked", "length")}
"""What is clicked and what is shown of a list."""


@dataclass(frozen=True)
class Asked:
    """Lists shown from `since` to before `until` (seconds since 1970, None: no bound), events at most `within` hours later."""

    since: int | None = None
    until: int | None = None
    within: float = 24.0
    event_types: tuple[str, ...] = ()  # all where empty

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise ConfigError(f"--since {_iso(self.since)} is not before --until {_iso(self.until)}; expected an earlier one")
        if not 0 < self.within < float("inf"):
            raise ConfigError(f"--within is {self.within}; expected hours above 0")


def clicks(config: RunConfig, asked: Asked) -> dict[str, Any]:
    """Shares of lists with a click and of items clicked: of all, by version, arm, source and position, and between arms.

    A click is an event whose `request_id` is that of a list in which its item stands, of the same user where the list's is
    known, at most `within` after the list; of several such lists, as in a batch, the first. Clicks on one item of a list count
    once. An event's time is the client's own where it has one, and may lie before the list's: the id says that it came later.

    Users are clusters (`recsys_ae.shares`): a user's lists are not independent. A list of nobody known is a user of its own.

    Raises ConfigError where no store is configured, LogError where it cannot be read or is older than its lists.
    """
    if config.store.url is None:
        raise ConfigError("no store of events is configured; expected [store] url, or RECSYS_AE__STORE__URL")
    with scratch_folder("recsys-ae-clicks") as folder:
        _fetch(config.store.url.get_secret_value(), asked, folder)
        with connection(config.log.memory_limit) as con:
            _count(con, asked, folder)
            sums = _sums(con)
            return _document(asked, sums, _products(con))


def moment(option: str, text: str | None) -> int | None:
    """A date or time of an option, UTC where it names no zone, as seconds since 1970. Raises ConfigError."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
        return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        raise ConfigError(
            f"{option} is {text!r}; expected a date or time of ISO 8601, as 2026-11-24 or 2026-11-24T18:00"
        ) from None


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _fetch(url: str, asked: Asked, folder: Path) -> None:
    """lists.parquet and events.parquet, of one moment."""
    bounds = [f"shown_at {sign} {time}" for sign, time in ((">=", asked.since), ("<", asked.until)) if time is not None]
    lists = "from recsys_impressions" + (f" where {' and '.join(bounds)}" if bounds else "")
    columns = "sequence, request_id, place, user_id, model_version, arm, source, items, shown_at"
    with sql.reading(url) as session:
        schema = sql.number(session, "select max(version) as n from recsys_schema")
        if schema < LEAST_SCHEMA:
            raise LogError(
                f"{sql.shown(url)}: the store's tables are of version {schema}, which has no lists; expected {LEAST_SCHEMA}: "
                "start the service of this release on it"
            )
        sql.write(session, f"select {columns} {lists}", folder / "lists.parquet")
        sql.write(
            session,
            'select sequence, request_id, user_id, item_id, event_type, coalesce("timestamp", received_at) as happened_at '
            f"from recsys_events where request_id in (select request_id {lists})",
            folder / "events.parquet",
        )


def _count(con: duckdb.DuckDBPyConnection, asked: Asked, folder: Path) -> None:
    """Tables: `clicks` (sequence of a list, rank), each once, and `counted`, a row a list with its user, length and clicks."""
    # A file without rows has texts for columns.
    con.execute(f"create view lists as select * replace (shown_at::bigint as shown_at) from {_file(folder / 'lists.parquet')}")
    types = f" where event_type in ({', '.join(map(literal, asked.event_types))})" if asked.event_types else ""
    events = f"select * replace (happened_at::bigint as happened_at) from {_file(folder / 'events.parquet')}"
    con.execute(f"create view events as {events}{types}")
    con.execute(f"""
        create temp table clicks as
        with opened as (
            select sequence, request_id, place, user_id, shown_at, unnest(item_ids) as item_id,
                generate_subscripts(item_ids, 1) as rank
            from (select *, from_json(items, '["VARCHAR"]') as item_ids from lists semi join events using (request_id))
        ), first as (
            select opened.sequence, opened.rank
            from events join opened using (request_id, item_id)
            where (opened.user_id is null or opened.user_id = events.user_id)
                and events.happened_at <= opened.shown_at + {asked.within * 3600}
            qualify row_number() over (
                partition by events.sequence order by opened.user_id is null, opened.place, opened.sequence
            ) = 1
        )
        select distinct sequence, rank from first
    """)
    con.execute("""
        create temp table counted as
        select coalesce('user ' || user_id, 'list ' || sequence) as cluster, lists.sequence, model_version, arm, source,
            json_array_length(items)::int as length, coalesce(n, 0)::int as clicked
        from lists left join (select sequence, count(*) as n from clicks group by all) using (sequence)
    """)


def _sums(con: duckdb.DuckDBPyConnection) -> dict[Key, Sums]:
    """By group, name and measure; leaves the table `by_user` with hits h and counts c of each."""
    parts = [
        f"""select '{group}' as kind, {name} as name, '{measure}' as measure, cluster,
            sum({hits})::double as h, sum({counts})::double as c
        from counted where {name} is not null group by all"""
        for group, name in GROUPS.items()
        for measure, (hits, counts) in MEASURES.items()
    ]
    con.execute(f"""
        create temp table by_user as {" union all ".join(parts)}
        union all
        select 'positions', rank::varchar, 'items', cluster, coalesce(h, 0), c
        from (
            select cluster, rank, sum(n)::double as c
            from (select cluster, length, count(*) as n from counted group by all), unnest(range(1, length + 1)) as place(rank)
            group by all
        ) left join (
            select cluster, rank, count(*)::double as h from clicks join counted using (sequence) group by all
        ) using (cluster, rank)
    """)
    rows = con.execute("""
        select kind, name, measure, count(*), sum(h), sum(c), sum(h * h), sum(h * c), sum(c * c)
        from by_user group by all order by all
    """).fetchall()
    return {(group, name, measure): Sums(*rest) for group, name, measure, *rest in rows}


def _products(con: duckdb.DuckDBPyConnection) -> dict[Key, Products]:
    """By measure and two arms, over the users who are in both."""
    rows = con.execute("""
        select measure, a.name, b.name, sum(a.h * b.h), sum(a.h * b.c), sum(a.c * b.h), sum(a.c * b.c)
        from by_user a join by_user b using (kind, measure, cluster)
        where kind = 'arms' and a.name > b.name group by all
    """).fetchall()
    return {(measure, a, b): Products(*rest) for measure, a, b, *rest in rows}


def _document(asked: Asked, sums: dict[Key, Sums], products: dict[Key, Products]) -> dict[str, Any]:
    """What --json prints."""
    groups: dict[str, dict[str, Any]] = {group: {} for group in (*GROUPS, "positions")}
    for (group, name, measure), found in sums.items():
        entry = groups[group].setdefault(name, {"users": found.users})
        entry[measure] = {"shown": int(found.counts), "clicked": int(found.hits), **_rate(ratio_of_sums(found))}
    positions = sorted(groups["positions"].items(), key=lambda entry: int(entry[0]))
    return {
        "since": None if asked.since is None else _iso(asked.since),
        "until": None if asked.until is None else _iso(asked.until),
        "within_hours": asked.within,
        "event_types": list(asked.event_types) or None,
        **groups,
        "all": groups["all"].get("all"),
        "positions": {name: {"users": entry["users"], **entry["items"]} for name, entry in positions},
        "differences": list(_differences(sums, products, sorted(groups["arms"]))),
    }


def _rate(found: Ratio) -> dict[str, Any]:
    return {"mean": found.mean, "se": found.se, "ci95": found.interval}


def _differences(sums: dict[Key, Sums], products: dict[Key, Products], arms: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Of every two arms, the later less the earlier in order of their names."""
    for place, b in enumerate(arms):
        for a in arms[place + 1 :]:
            entry: dict[str, Any] = {"arm": a, "less": b}
            for measure in MEASURES:
                both = products.get((measure, a, b), NOBODY)
                found = ratio_difference(sums["arms", a, measure], sums["arms", b, measure], both)
                entry[measure] = {"mean": found.mean, "ci95": found.interval}
            yield entry


def _file(path: Path) -> str:
    return f"read_parquet({literal(path)})"
