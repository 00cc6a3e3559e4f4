"""A service whose models change, that is asked for too much, stopped, given damaged versions, and kept busy for long.

python -m benchmarks.service_life [--parts swaps overload stops corruption soak] [--soak-minutes 10]

Each part states what it found beside what it is to reach. A version is a 600-200-600 over 5,000 items with 5,000 stored users.
"""

import argparse
import asyncio
import json
import random
import re
import shutil
import signal
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvloop

from benchmarks.record import RESULTS, about, write_json
from benchmarks.serving import Running, publish, serving
from recsys_ae.registry import Registry
from service.engine import Engine
from service.live import Live
from service.observing import Metrics
from service.settings import Settings

ITEMS, USERS, LENGTH, VERSIONS = 5_000, 5_000, 60, 3
SWAPS, SECONDS = 50, 60.0
STOPS = 20
FLIPS, CUTS = 1_000, 100


class Load:
    """Clients that ask one after the other until told to stop: statuses, versions and milliseconds of their answers."""

    def __init__(self, url: str, clients: int, write_share: float = 0.0) -> None:
        self.url, self.clients, self.write_share = url, clients, write_share
        self.statuses: Counter[int | str] = Counter()
        self.versions: Counter[str] = Counter()
        self.answers: list[tuple[float, float, int]] = []  # when, milliseconds, status
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Load":
        self._tasks = [asyncio.create_task(self._go_on(random.Random(n))) for n in range(self.clients)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def _go_on(self, rng: random.Random) -> None:
        host, port = self.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            while not self._stop.is_set():
                asked, began = self._asked(rng), time.perf_counter()
                writer.write(asked)
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head, re.I)
                body = await reader.readexactly(int(length[1]) if length else 0)
                status = int(head[9:12])
                self.statuses[status] += 1
                self.answers.append((began, 1e3 * (time.perf_counter() - began), status))
                if status == 200 and (version := re.search(rb'"model_version":"([^"]+)"', body)):
                    self.versions[version[1].decode()] += 1
                if re.search(rb"connection: close", head, re.I):
                    return
                if status == 503:
                    await asyncio.sleep(0.1)  # a tenth of what Retry-After asks for
        except (OSError, asyncio.IncompleteReadError) as error:
            self.statuses[type(error).__name__] += 1
        finally:
            writer.close()

    def _asked(self, rng: random.Random) -> bytes:
        user = rng.randrange(USERS)
        if rng.random() < self.write_share:
            event = {"event_id": f"{rng.random()}", "user_id": user, "item_id": rng.randrange(ITEMS)}
            return _posted("/v1/interactions", {"events": [event]})
        if rng.random() < 0.5:
            return f"GET /v1/users/{user}/recommendations HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        return _posted("/v1/recommendations", {"history": [{"item_id": rng.randrange(ITEMS)} for _ in range(20)]})

    def percentile(self, share: float, begin: float = 0.0, end: float = float("inf")) -> float:
        """Milliseconds of the answers of 200 that were asked for between two moments."""
        found = [took for at, took, status in self.answers if begin <= at < end and status == 200]
        return float(np.percentile(found, 100 * share)) if found else float("nan")


def _posted(path: str, content: Any) -> bytes:
    body = json.dumps(content).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def swaps(registry: Registry) -> dict[str, Any]:
    """50 swaps under load in 60 s: 0 failed answers, each of one valid version, p99 <= 2 x steady, memory +100 MB."""
    versions = registry.versions()
    with serving(registry.path, watch_seconds="0.1", cache_mib="16") as running:
        async with Load(running.url, 8) as load:
            await asyncio.sleep(5)
            settled = time.perf_counter()
            await asyncio.sleep(15)
            begin, before = time.perf_counter(), running.memory()
            for n in range(SWAPS):
                await asyncio.to_thread(registry.promote, versions[(n + 1) % len(versions)])
                await asyncio.sleep(max(0.0, begin + (n + 1) * SECONDS / SWAPS - time.perf_counter()))
            end = time.perf_counter()
            await asyncio.sleep(5)
        made = await _figure(running, "recsys_ae_swaps_total")
        memory = running.memory()
    registry.promote(versions[0])
    steady, during = load.percentile(0.99, settled, begin), load.percentile(0.99, begin, end)
    failed = sum(count for status, count in load.statuses.items() if status != 200)
    return {
        "answers": sum(load.statuses.values()),
        "failed": failed,
        "swaps": made,
        "foreign_versions": len(set(load.versions) - set(versions)),
        "answers_by_version": list(load.versions.values()),
        "p99_steady_ms": round(steady, 1),
        "p99_during_ms": round(during, 1),
        "p99_ratio": round(during / steady, 2),
        "mib_before": round(before, 1),
        "mib_after": round(memory, 1),
        "reached": failed == 0 and during <= 2 * steady and memory - before <= 100,
    }


async def overload(registry: Registry) -> dict[str, Any]:
    """Ten times the clients that keep it busy: only 200, 429, 503; accepted p99 <= 3 x; health < 100 ms; recovery < 2 s."""
    with serving(registry.path, cache_mib="0", largest_in_flight="16") as running:
        async with Load(running.url, 8) as normal:
            await asyncio.sleep(10)
        health: list[float] = []
        async with Load(running.url, 80) as load, httpx.AsyncClient(base_url=running.url, trust_env=False) as probe:
            for _ in range(40):
                began = time.perf_counter()
                await probe.get("/health/ready")
                health.append(1e3 * (time.perf_counter() - began))
                await asyncio.sleep(0.25)
        over = time.perf_counter()
        async with Load(running.url, 8) as after:
            await asyncio.sleep(4)
    back = next(
        (at - over for at, took, status in after.answers if status == 200 and took <= 2 * normal.percentile(0.99)), 99.0
    )
    strange = sum(count for status, count in load.statuses.items() if status not in (200, 429, 503))
    ratio = load.percentile(0.99) / normal.percentile(0.99)
    return {
        "statuses": {str(status): count for status, count in load.statuses.items()},
        "other_statuses": strange,
        "p99_normal_ms": round(normal.percentile(0.99), 1),
        "p99_accepted_ms": round(load.percentile(0.99), 1),
        "p99_ratio": round(ratio, 2),
        "health_p99_ms": round(float(np.percentile(health, 99)), 1),
        "recovery_seconds": round(back, 3),
        "reached": strange == 0 and ratio <= 3 and np.percentile(health, 99) < 100 and back < 2,
    }


async def stops(registry: Registry) -> dict[str, Any]:
    """SIGTERM under load, 20 times: nothing that was accepted is dropped, the process is gone within 10 s."""
    lost, took, answers = 0, [], 0
    for _ in range(STOPS):
        with serving(registry.path, drain_seconds="0.5") as running:
            async with Load(running.url, 8) as load:
                await asyncio.sleep(0.5)
                running.process.send_signal(signal.SIGTERM)
                began = time.perf_counter()
                await asyncio.to_thread(running.process.wait, 30)
                took.append(time.perf_counter() - began)
            lost += sum(count for status, count in load.statuses.items() if status != 200)
            answers += load.statuses[200]
    return {
        "stops": STOPS,
        "answers": answers,
        "dropped": lost,
        "slowest_exit_seconds": round(max(took), 2),
        "reached": lost == 0 and max(took) <= 10,
    }


async def corruption(registry: Registry) -> dict[str, Any]:
    """Bit flips and truncations of every file of a version that is promoted: each refused, the old model serves."""
    rng, good = random.Random(0), registry.versions()[0]
    victim = registry.path / registry.versions()[1]
    files = [path for path in sorted(victim.iterdir()) if path.is_file()]
    saved = {path: path.read_bytes() for path in files}
    settings, metrics = Settings(registry=registry.path), Metrics()
    live = Live(registry, partial(Engine.load, registry, settings=settings), metrics.life)
    pointer = registry.path / "current.json"
    registry.promote(victim.name)  # while it is whole; from here on it is not
    promoted = pointer.read_bytes()
    accepted = served_other = 0
    for n in range(FLIPS + CUTS):
        path = rng.choice(files)
        whole = saved[path]
        if n < FLIPS:
            place = rng.randrange(8 * len(whole))
            damaged = bytearray(whole)
            damaged[place // 8] ^= 1 << place % 8
        else:
            damaged = bytearray(whole[: rng.randrange(len(whole))])
        path.write_bytes(bytes(damaged))
        pointer.write_bytes(promoted)  # touched: looked at again
        live.look()
        accepted += victim.name in live.now.engines
        served_other += live.now.main is None or live.now.main.version != good
        path.write_bytes(whole)
    registry.promote(good)
    return {
        "bit_flips": FLIPS,
        "truncations": CUTS,
        "accepted": accepted,
        "old_not_served": served_other,
        "reached": accepted == 0 and served_other == 0,
    }


async def soak(registry: Registry, minutes: float) -> dict[str, Any]:
    """Mixed load with writes and a swap every 10 s: memory grows less than 1 MB a minute, file handles stay."""
    versions = registry.versions()
    points: list[tuple[float, float, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        store = f"sqlite:///{folder}/events.db"
        with serving(registry.path, store=store, watch_seconds="0.5", cache_mib="16") as running:
            async with Load(running.url, 4, write_share=0.2) as load:
                begin, n = time.perf_counter(), 0
                while (now := time.perf_counter() - begin) < 60 * minutes:
                    if now >= 10 * (n + 1):
                        n += 1
                        await asyncio.to_thread(registry.promote, versions[n % len(versions)])
                    points.append((now, running.memory(), running.handles()))
                    await asyncio.sleep(1)
            made = await _figure(running, "recsys_ae_swaps_total")
    registry.promote(versions[0])
    settled = [point for point in points if point[0] >= min(120.0, 20 * minutes)]
    slope = float(np.polyfit([at / 60 for at, _, _ in settled], [mib for _, mib, _ in settled], 1)[0])
    handles = [count for _, _, count in settled]
    failed = sum(count for status, count in load.statuses.items() if status != 200)
    return {
        "minutes": minutes,
        "answers": sum(load.statuses.values()),
        "failed": failed,
        "swaps": made,
        "mib_by_minute": [round(statistics.median(m for at, m, _ in points if at // 60 == k), 1) for k in range(int(minutes))],
        "mib_a_minute": round(slope, 3),
        "handles": [min(handles), max(handles)],
        "reached": slope < 1 and failed == 0 and max(handles) - min(handles) <= 10,
    }


async def _figure(running: Running, name: str) -> float:
    async with httpx.AsyncClient(base_url=running.url, trust_env=False) as client:
        lines = (await client.get("/metrics")).text.split("\n")
    return float(next(line.split()[-1] for line in lines if line.startswith(name)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=["swaps", "overload", "stops", "corruption", "soak"])
    parser.add_argument("--soak-minutes", type=float, default=10)
    arguments = parser.parse_args()
    parts: dict[str, Callable[[Registry], Any]] = {
        "swaps": swaps,
        "overload": overload,
        "stops": stops,
        "corruption": corruption,
        "soak": lambda registry: soak(registry, arguments.soak_minutes),
    }
    for name in arguments.parts:
        with tempfile.TemporaryDirectory() as folder:
            registry = publish(Path(folder) / "registry", USERS, ITEMS, LENGTH, VERSIONS)
            found = uvloop.run(parts[name](registry))
            shutil.rmtree(registry.path)
        print(name, found, flush=True)
        write_json(RESULTS / f"service_{name}.json", about("service_life") | found)


if __name__ == "__main__":
    main()
