"""Write-back: events a second over HTTP into SQLite, the server killed meanwhile; every event of a 200 is then counted.

python -m benchmarks.store [--seconds 10] [--batch 500] [--clients 4] [--kills 3]
"""

import argparse
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa

from benchmarks.record import write
from benchmarks.serving import serving
from service.store.tables import events

LEAST = 2_000  # events a second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--kills", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rounds = [
            one_round(Path(folder), n, arguments.seconds, arguments.batch, arguments.clients) for n in range(arguments.kills)
        ]
    for found in rounds:
        print(f"{found['events_per_second']:,.0f} events/s, {found['acknowledged']:,} acknowledged, {found['lost']} lost")
    slowest, lost = min(r["events_per_second"] for r in rounds), sum(r["lost"] for r in rounds)
    facts = {"batch": arguments.batch, "clients": arguments.clients, "least": LEAST, "slowest": slowest, "lost": lost}
    write("store", facts | {"reached": slowest >= LEAST and lost == 0, "rounds": rounds})


def one_round(folder: Path, name: int, seconds: float, batch: int, clients: int) -> dict[str, Any]:
    """Clients post batches until the server is killed; what they were told is stored is then looked for."""
    url = f"sqlite:///{folder / f'{name}.db'}"
    (folder / "registry").mkdir(exist_ok=True)
    told: list[list[str]] = [[] for _ in range(clients)]
    with serving(folder / "registry", store=url) as server:
        posting = [threading.Thread(target=post, args=(server.url, f"{name}-{n}", batch, told[n])) for n in range(clients)]
        begin = time.perf_counter()
        for each in posting:
            each.start()
        time.sleep(seconds)
        server.process.kill()
        took = time.perf_counter() - begin
        for each in posting:
            each.join()
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        stored = set(connection.execute(sa.select(events.c.event_id)).scalars())
    engine.dispose()
    acknowledged = {event_id for ids in told for event_id in ids}
    return {
        "seconds": round(took, 2),
        "acknowledged": len(acknowledged),
        "events_per_second": round(len(acknowledged) / took),
        "stored": len(stored),
        "lost": len(acknowledged - stored),
    }


def post(address: str, name: str, batch: int, told: list[str]) -> None:
    """Batches until nobody answers; `told` gets the ids of those that were answered with 200."""
    with httpx.Client(base_url=address, timeout=30, trust_env=False) as client:
        number = 0
        while True:
            ids = [f"{name}-{number}-{n}" for n in range(batch)]
            posted = [
                {"event_id": id_, "user_id": (number * batch + n) % 5_000, "item_id": n % 997, "timestamp": 1_700_000_000 + n}
                for n, id_ in enumerate(ids)
            ]
            try:
                answer = client.post("/v1/interactions", json={"events": posted})
            except httpx.HTTPError:
                return
            if answer.status_code == 200:
                told += ids
            number += 1


if __name__ == "__main__":
    main()
