"""Lists loaded into a table of PostgreSQL beside COPY of the same rows.

    python -m benchmarks.score_table --url URL [--rows N] [--rounds N]

So many rows (a hundred items a user) in Parquet parts. Ours is `score_table.load` over a table that has as many rows of another
version. Beside it COPY through psycopg from a file made before, CSV or binary, into an empty table of the same columns and key:
which is what a load could do if nobody read the table meanwhile. Each side is a process of its own, in turn; the peak memory
is that of the process above what it held after its imports. All is made in a schema of its own, dropped at the end.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.compare import Comparison, in_turn, median
from benchmarks.record import forget_peak, peak_bytes, write

SCHEMA = "recsys_ae_benchmark"
K, PARTS = 100, 4
VERSIONS = ("20261124T031500.123456-mult_vae-1a2b3c4d", "20261125T031500.123456-mult_vae-5e6f7a8b")
COLUMNS = "user_id bigint, rank integer, item_id bigint, score real, model_version text, primary key (user_id, rank)"


def make_parts(folder: Path, rows: int) -> None:
    """Lists of random items."""
    rng = np.random.default_rng(0)
    for place, users in enumerate(np.array_split(np.arange(rows // K), PARTS)):
        n = len(users) * K
        columns = {
            "user_id": np.repeat(users, K),
            "rank": np.tile(np.arange(1, K + 1, dtype=np.int32), len(users)),
            "item_id": rng.integers(0, 50_000, n),
            "score": rng.random(n, np.float32),
        }
        pq.write_table(pa.table(columns), folder / f"part-{place:05}.parquet", compression="zstd")


def load(url: str, folder: Path, version: str) -> None:
    """Ours."""
    from pipelines import score_table

    score_table.load(url, f"{SCHEMA}.lists", sorted(folder.glob("*.parquet")), version, version)


def copy(url: str, path: Path, form: str) -> None:
    """The file into an empty table."""
    import psycopg

    statement = f"copy {SCHEMA}.plain from stdin (format {form})"
    with psycopg.connect(url) as con, con.cursor() as cursor, path.open("rb") as file, cursor.copy(statement) as into:
        while data := file.read(2**20):
            into.write(data)


def side(name: str, url: str, folder: Path) -> dict[str, Any]:
    """Seconds and peak memory of one side in a process of its own; before, the table is as it is every night."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as con:
        if name == "ours":
            load(url, folder, VERSIONS[0])
            con.execute(f"vacuum analyze {SCHEMA}.lists")
        con.execute(f"truncate {SCHEMA}.plain")
        con.execute("checkpoint")
    command = [sys.executable, "-m", "benchmarks.score_table", "--side", name, "--url", url, "--folder", str(folder)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def be(name: str, url: str, folder: Path) -> None:
    """Load, and print what it took."""
    import psycopg  # noqa: F401

    from pipelines import score_table  # noqa: F401

    forget_peak()
    before = peak_bytes() or 0
    begin = time.perf_counter()
    if name == "ours":
        load(url, folder, VERSIONS[1])
    else:
        copy(url, folder / f"lists.{name}", name)
    seconds = time.perf_counter() - begin
    print(json.dumps({"seconds": seconds, "peak_bytes": (peak_bytes() or 0) - before}))


def main() -> None:
    """Make the rows and the table, all sides in turn, drop it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True, help="a database to write to")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=["ours", "csv", "binary"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        be(arguments.side, arguments.url, arguments.folder)
        return
    import psycopg

    with tempfile.TemporaryDirectory() as name, psycopg.connect(arguments.url, autocommit=True) as con:
        folder = Path(name)
        make_parts(folder, arguments.rows)
        con.execute(f"drop schema if exists {SCHEMA} cascade")
        con.execute(f"create schema {SCHEMA}")
        try:
            con.execute(f"create table {SCHEMA}.plain ({COLUMNS})")
            load(arguments.url, folder, VERSIONS[0])
            for form in ("csv", "binary"):
                with (
                    (folder / f"lists.{form}").open("wb") as file,
                    con.cursor() as cursor,
                    cursor.copy(f"copy {SCHEMA}.lists to stdout (format {form})") as out,
                ):
                    file.writelines(out)
            sides = {each: lambda each=each: side(each, arguments.url, folder) for each in ("ours", "csv", "binary")}
            rounds = in_turn(sides, arguments.rounds)
        finally:
            con.execute(f"drop schema {SCHEMA} cascade")
    seconds = {each: median(found, "seconds") for each, found in rounds.items()}
    what = f"{arguments.rows:,} rows into PostgreSQL in the place of as many"
    comparisons = [
        Comparison(f"{what}, beside COPY of {form}", "s", seconds["ours"], seconds[form], 4.0) for form in ("csv", "binary")
    ]
    for comparison in comparisons:
        print(comparison)
    peak = max(found["peak_bytes"] for found in rounds["ours"])
    print(f"{arguments.rows / seconds['ours']:,.0f} rows a second, {peak / 2**20:,.0f} MiB")
    found = {
        "rows": arguments.rows,
        "peak_bytes": peak,
        "comparisons": [each.as_json() for each in comparisons],
        "rounds": rounds,
    }
    write("score_table", found)


if __name__ == "__main__":
    main()
