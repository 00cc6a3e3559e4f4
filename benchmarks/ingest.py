"""Twenty million rows of CSV -> clean log -> matrix, beside a plain DuckDB script; the same under a memory limit of a third of
the log, and for a log of ids of 200 characters; and a Parquet log -> Dataset. Each run is a process of its own, so that its
peak memory is its own.

The reference reads, keeps of each user and item the last row, sorts by user and time, and writes the same Parquet. It is
written in the two ways that come to mind (a window, an aggregate); the ratio is to the faster. Ours also checks every value,
counts what it drops by cause, settles ties by place, and then builds the matrix.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.record import write
from recsys_ae.dataset import Dataset
from recsys_ae.log import InteractionLog, read_log

PRESET = "ml-20m-like"
LONG_ROWS = 4_000_000
COLUMNS = "user_id, item_id, timestamp, weight"


def reference(query: str) -> Callable[[Path, Path, int], dict[str, Any]]:
    """A plain script: one query over the CSV file, written as Parquet."""

    def run(log: Path, out: Path, limit: int) -> dict[str, Any]:
        with duckdb.connect() as con:
            con.execute(f"copy ({query.format(log=log)}) to '{out}' (format parquet, compression zstd)")
        return {}

    return run


def ingest(log: Path, out: Path, limit: int) -> dict[str, Any]:
    """CSV -> clean log -> Dataset -> matrix."""
    begin = time.perf_counter()
    clean = read_log(str(log), into=out, memory_limit=limit or None)
    seconds = time.perf_counter() - begin
    if limit:
        return {"rows": clean.kept, "dropped": clean.dropped}
    matrix = Dataset.from_log(clean).histories.matrix
    return {"rows": clean.kept, "read_log_seconds": seconds, "nnz": int(matrix.nnz)}


def dataset(log: Path, out: Path, limit: int) -> dict[str, Any]:
    """A clean Parquet log -> Dataset."""
    data = Dataset.from_log(InteractionLog(log, 0))
    h = data.histories
    arrays = [h.indptr, h.items, h.weights, *([] if h.times is None else [h.times])]
    return {"arrays_bytes": sum(array.nbytes for array in arrays), "rows": h.n_interactions}


def lengthen(log: Path, out: Path, limit: int) -> dict[str, Any]:
    """The first rows of a log with ids of 200 characters."""
    ids = "lpad(user_id::varchar, 200, 'user-') as user_id, lpad(item_id::varchar, 200, 'item-') as item_id"
    with duckdb.connect() as con:
        con.execute(f"copy (select {ids}, timestamp, weight from read_csv('{log}') limit {LONG_ROWS}) to '{out}' (header)")
    return {}


RUNS = {
    "reference_window": reference(
        f"select {COLUMNS} from read_csv('{{log}}') "
        "qualify row_number() over (partition by user_id, item_id order by timestamp desc) = 1 order by user_id, timestamp"
    ),
    "reference_aggregate": reference(
        "select user_id, item_id, max(timestamp) as timestamp, arg_max(weight, timestamp) as weight from read_csv('{log}') "
        "group by user_id, item_id order by user_id, timestamp"
    ),
    "ours": ingest,
    "ours_limited": ingest,
    "long_ids": ingest,
    "long_ids_limited": ingest,
    "dataset": dataset,
}


def peak() -> int:
    """Bytes: the most this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def child(name: str, log: Path, out: Path, limit: int) -> None:
    """One run in this process; prints what it took."""
    before, begin = peak(), time.perf_counter()
    found = (RUNS | {"lengthen": lengthen})[name](log, out, limit)
    seconds = time.perf_counter() - begin
    print(json.dumps({"seconds": seconds, "peak_bytes": peak(), "peak_bytes_before": before, **found}))


def run(name: str, log: Path, out: Path, limit: int = 0) -> dict[str, Any]:
    """One run in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.ingest", "--child", name, str(log), str(out), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{name:20} {found['seconds']:6.1f} s  peak {found['peak_bytes'] / 1e9:.2f} GB", flush=True)
    return found


def main() -> None:
    """Make the log, run everything in turn, print the ratios, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=4, metavar=("NAME", "LOG", "OUT", "LIMIT"))
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.child:
        name, log, out, limit = arguments.child
        child(name, Path(log), Path(out), int(limit))
        return
    with tempfile.TemporaryDirectory() as folder:
        log, clean, other = (Path(folder) / name for name in ("log.csv", "clean.parquet", "other.parquet"))
        subprocess.run([sys.executable, "-m", "pipelines", "datasets", "generate", PRESET, "--out", str(log)], check=True)
        long_ids = Path(folder) / "long.csv"
        subprocess.run(
            [sys.executable, "-m", "benchmarks.ingest", "--child", "lengthen", str(log), str(long_ids), "0"], check=True
        )
        size, long_size = log.stat().st_size, long_ids.stat().st_size
        limits = {"ours_limited": size // 3, "long_ids_limited": long_size // 3}
        rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in RUNS}
        for _ in range(arguments.rounds):  # in turn, so that what else the machine does falls on all alike
            for name in RUNS:
                source = clean if name == "dataset" else long_ids if "long" in name else log
                rounds[name].append(run(name, source, clean if name == "ours" else other, limits.get(name, 0)))
    seconds = {name: statistics.median(r["seconds"] for r in found) for name, found in rounds.items()}
    peaks = {name: max(r["peak_bytes"] for r in found) for name, found in rounds.items()}
    fastest = min(seconds["reference_window"], seconds["reference_aggregate"])

    def beside(name: str) -> float:
        """The most that a limited run held beside the interpreter, over its limit."""
        return round(max(r["peak_bytes"] - r["peak_bytes_before"] for r in rounds[name]) / limits[name], 3)

    def slower(limited: str, free: str) -> float:
        return round(seconds[limited] / statistics.median(r["read_log_seconds"] for r in rounds[free]), 3)

    result = {
        "log": {"preset": PRESET, "csv_bytes": size, "long_ids_rows": LONG_ROWS, "long_ids_csv_bytes": long_size},
        "memory_limit_bytes": limits,
        "median_seconds": {name: round(value, 2) for name, value in seconds.items()},
        "peak_bytes": peaks,
        "ours_over_reference": round(seconds["ours"] / fastest, 3),
        "ours_over_reference_window": round(seconds["ours"] / seconds["reference_window"], 3),
        "limited_over_unlimited": {
            "ours": slower("ours_limited", "ours"),
            "long_ids": slower("long_ids_limited", "long_ids"),
        },
        "limited_peak_beside_the_interpreter_over_limit": {name: beside(name) for name in limits},
        "dataset_peak_over_arrays": round(
            max((r["peak_bytes"] - r["peak_bytes_before"]) / r["arrays_bytes"] for r in rounds["dataset"]), 3
        ),
        "rounds": rounds,
    }
    print(json.dumps({key: value for key, value in result.items() if key != "rounds"}, indent=1))
    write("ingest", result)


if __name__ == "__main__":
    main()
