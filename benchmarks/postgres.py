"""Reading a log from PostgreSQL beside COPY ... TO STDOUT to nowhere.

    python -m benchmarks.postgres --url URL [--rows N] [--rounds N]

A table of so many events (user, item, time, rating, type) is made in a schema of its own and dropped at the end. Ours is
`sql.extract` into Parquet; beside it the same query by COPY in text through psycopg, whose bytes are thrown away. Each side is
a process of its own, in turn; the peak memory is that of the process.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.compare import Comparison, in_turn, median
from benchmarks.record import write

SCHEMA = "recsys_ae_benchmark"
QUERY = f"select user_id, item_id, at, rating, kind from {SCHEMA}.events"


def ours(url: str) -> int:
    from recsys_ae import sql

    with tempfile.TemporaryDirectory() as folder:
        return sql.extract(url, Path(folder) / "events.parquet", query=QUERY)


def copied(url: str) -> int:
    import psycopg

    read = 0
    with psycopg.connect(url) as con, con.cursor() as cursor, cursor.copy(f"copy ({QUERY}) to stdout") as copy:
        while data := copy.read():
            read += len(data)
    return read


def kept(url: str) -> int:
    from recsys_ae.increments import EventSource, refresh

    folder = Path(os.environ["KEPT"])
    found = refresh(EventSource(url, f"select * from {SCHEMA}.events", "id", "changed"), folder)
    print(f"read {found.read:,} of {found.rows:,}: {found.whole or 'only what is new'}", file=sys.stderr)
    return found.read


SIDES = {"ours": ours, "copy": copied}
INCREMENTAL = {"kept": kept}


def side(name: str, url: str) -> dict[str, Any]:
    """Seconds and peak memory of one side in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.postgres", "--side", name, "--url", url]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return found


def incremental(url: str, rows: int, execute: Callable[[str], object]) -> dict[str, Any]:
    """Both readings of an incremental ingest: of all rows, and a night later."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["KEPT"] = folder
        first = side("kept", url)
        night = "timestamptz '2026-12-01'"
        execute(insert(rows + 1, rows + rows // 100, night))
        execute(f"update {SCHEMA}.events set rating = 1, changed = {night} where id <= {rows} and id % 200 = 0")
        return {"first": first, "night": side("kept", url), "new": rows // 100, "corrected": rows // 200}


def insert(first: int, last: int, changed: str) -> str:
    """The statement that adds events with ids from first to last."""
    return f"""insert into {SCHEMA}.events select i, (random() * 200000)::bigint, (random() * 50000)::bigint,
        timestamptz '2026-01-01' + random() * interval '300 days', (random() * 4 + 1)::real,
        (array['view', 'cart', 'buy'])[1 + (random() * 2)::int], {changed} from generate_series({first}, {last}) as i"""


def main() -> None:
    """Make the table, both sides in turn, drop it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True, help="a database to write to")
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=list(SIDES | INCREMENTAL), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        begin = time.perf_counter()
        (SIDES | INCREMENTAL)[arguments.side](arguments.url)
        seconds = time.perf_counter() - begin
        print(json.dumps({"seconds": seconds, "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
        return
    import psycopg

    with psycopg.connect(arguments.url, autocommit=True) as con:
        con.execute(f"drop schema if exists {SCHEMA} cascade")
        con.execute(f"create schema {SCHEMA}")
        con.execute(
            f"create table {SCHEMA}.events (id bigint, user_id bigint, item_id bigint, at timestamptz, rating real, kind text, "
            "changed timestamptz)"
        )
        con.execute(insert(1, arguments.rows, "timestamptz '2026-01-01' + i * interval '1 second'"))
        con.execute(f"vacuum analyze {SCHEMA}.events")
        try:
            rounds = in_turn({name: lambda name=name: side(name, arguments.url) for name in SIDES}, arguments.rounds)
            nights = incremental(arguments.url, arguments.rows, con.execute)
        finally:
            con.execute(f"drop schema {SCHEMA} cascade")
    seconds = {name: median(found, "seconds") for name, found in rounds.items()}
    comparison = Comparison(f"{arguments.rows:,} rows from PostgreSQL", "s", seconds["ours"], seconds["copy"], 2.0)
    print(comparison)
    peak = max(found["peak_bytes"] for found in rounds["ours"])
    print(f"peak memory {peak / 2**20:,.0f} MiB")
    for name in ("first", "night"):
        print(f"incremental, {name}: {nights[name]['seconds']:.1f} s, {nights[name]['peak_bytes'] / 2**20:,.0f} MiB")
    write(
        "postgres",
        {
            "rows": arguments.rows,
            "incremental": nights,
            "peak_bytes": peak,
            "comparisons": [comparison.as_json()],
            "rounds": rounds,
        },
    )


if __name__ == "__main__":
    main()
