"""Time, memory and shape of each generated preset, each in a process of its own; the shape of originals where given."""

import argparse
import multiprocessing
import resource
import time
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys_ae.datasets.generator import PRESETS, generate

SHARES = (0.001, 0.01, 0.05, 0.1, 0.2, 0.5)


def gini(counts: NDArray[np.int64]) -> float:
    """0 where all are alike, towards 1 where one has all."""
    n = len(counts)
    return round(float((2 * np.arange(1, n + 1) - n - 1) @ np.sort(counts) / (n * counts.sum())), 4)


def shape(users: NDArray[np.int64], items: NDArray[np.int64]) -> dict[str, Any]:
    """Sizes, history lengths and popularity of interactions (N,); Lorenz: what the most popular SHARES of the items have."""
    found: dict[str, Any] = {"interactions": len(users)}
    for name, column in (("users", users), ("items", items)):
        counts = np.unique(column, return_counts=True)[1]
        falling = np.sort(counts)[::-1]
        lorenz = np.cumsum(falling) / counts.sum()
        found[name] = {
            "number": len(counts),
            "min": int(counts.min()),
            "median": float(np.median(counts)),
            "mean": round(float(counts.mean()), 1),
            "max": int(counts.max()),
            "gini": gini(counts),
            "lorenz": {share: round(float(lorenz[max(int(share * len(counts)), 1) - 1]), 4) for share in SHARES},
        }
    return found


def measure(name: str) -> dict[str, Any]:
    """Generate a preset; the peak is that of generating, before shapes are counted."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin, begin_cpu = time.perf_counter(), time.process_time()
    events = generate(PRESETS[name]).events
    seconds, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cost = {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "peak_rss_bytes": peak * 1024,
        "before_bytes": before * 1024,
    }
    return cost | shape(events.users, events.items)


def main() -> None:
    """Measure, print, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("presets", nargs="*", default=list(PRESETS), help="all if absent")
    parser.add_argument("--original", nargs="+", action="append", default=[], help="Parquet files of one log: user, item first")
    arguments = parser.parse_args()
    result: dict[str, Any] = {"presets": {}, "originals": {}}
    for name in arguments.presets:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            result["presets"][name] = pool.apply(measure, (name,))
        print(name, result["presets"][name], flush=True)
    for files in arguments.original:
        tables = [pq.read_table(file) for file in files]
        columns = [np.concatenate([table.column(place).to_numpy() for table in tables]) for place in (0, 1)]
        key = "/".join(files[0].split("/")[-2:])
        result["originals"][key] = shape(*columns)
        print(key, result["originals"][key])
    from benchmarks.record import write  # here: it imports torch, which would count as the generator's memory

    write("generator", result)


if __name__ == "__main__":
    main()
