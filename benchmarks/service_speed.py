"""Lists a second and latencies at 64 connections, by wrk, beside an empty FastAPI route and beside the model's product alone.

python -m benchmarks.service_speed [--seconds 10] [--rounds 3] [--connections 64]

MovieLens-20M's shape, one process. Unchanged: users whose lists are kept, without a store and with one (SQLite), of which each
request asks whether something has changed. Live: `cache_mib = 0`, every list is made anew.
"""

import argparse
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.record import write
from benchmarks.serving import ITEMS, USERS, empty_route, histories, model, publish, serving, users_in_turn, wrk
from recsys_ae.histories import Histories
from service.batcher import MOST
from service.settings import Settings

KEPT_USERS = 200


def ceiling(threads: int, seconds: float) -> float:
    """Histories a second that the model scores in batches of MOST by so many threads, with nothing else to do."""
    scored, rows = model(ITEMS, 0), histories(200, ITEMS, 144)
    batches = [rows.take(slice(start, start + MOST)) for start in range(0, 200, MOST)]
    end, counts = time.perf_counter() + seconds, [0] * threads

    def score(place: int) -> None:
        while time.perf_counter() < end:
            batch: Histories = batches[counts[place] // MOST % len(batches)]
            scored.score(batch)
            counts[place] += MOST

    workers = [threading.Thread(target=score, args=(place,)) for place in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    arguments = parser.parse_args()
    threads = int(Settings.model_fields["threads"].default)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        registry = publish(Path(folder) / "registry").path
        store = f"sqlite:///{folder}/events.db"

        def asked(name: str, script: str, **settings: str) -> dict[str, Any]:
            with serving(registry, largest_in_flight=str(2 * arguments.connections), **settings) as running:
                wrk(running.url, script, arguments.connections, 3)  # warm
                found = wrk(running.url, script, arguments.connections, arguments.seconds)
            print(f"{name}: {found}", flush=True)
            return found

        rounds = []
        for _ in range(arguments.rounds):
            with empty_route() as url:
                wrk(url, None, arguments.connections, 2)
                empty = wrk(url, None, arguments.connections, arguments.seconds)
            print(f"empty route: {empty}", flush=True)
            kept = users_in_turn(0, KEPT_USERS)
            rounds.append(
                {
                    "empty": empty,
                    "unchanged": asked("unchanged", kept),
                    "unchanged with store": asked("unchanged with store", kept, store=store),
                    "live": asked("live", users_in_turn(0, USERS), cache_mib="0"),
                    "live with store": asked("live with store", users_in_turn(0, USERS), cache_mib="0", store=store),
                    "products_per_second": ceiling(threads, arguments.seconds / 2),
                }
            )
    names = ("unchanged", "unchanged with store", "live", "live with store")
    against = {name: "empty" if name.startswith("unchanged") else "products" for name in names}
    ratios = {
        name: statistics.median(
            r[name]["per_second"] / (r["empty"]["per_second"] if against[name] == "empty" else r["products_per_second"])
            for r in rounds
        )
        for name in names
    }
    tails = {name: statistics.median(r[name]["p99_ms"] / r[name]["p50_ms"] for r in rounds) for name in names}
    print({"ratio to empty route, or to products": ratios, "p99 / p50": tails})
    write("service_speed", {"ratios": ratios, "against": against, "p99_over_p50": tails, "rounds": rounds})


if __name__ == "__main__":
    main()
