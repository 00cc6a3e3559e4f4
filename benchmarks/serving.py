"""A service to measure: a registry of MovieLens-20M's shape, `python -m service` on it, and wrk, which asks."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recsys_ae.artifact import Artifact
from recsys_ae.histories import Histories
from recsys_ae.ids import IdMap
from recsys_ae.items import ItemMetadata
from recsys_ae.models.mult_vae import MultVAE, MultVAEConfig
from recsys_ae.preprocessing import Preprocessing
from recsys_ae.registry import Registry, StoredUsers

ITEMS, USERS, MEAN_LENGTH = 20_000, 138_493, 144
HIDDEN, LATENT = 600, 200


def histories(users: int, items: int, mean_length: int, seed: int = 0) -> Histories:
    """Rows of log-normal lengths over items of falling popularity, no item twice in a row."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.lognormal(np.log(mean_length) - 0.5, 1.0, users), 5, items // 10).astype(np.int64)
    rows = np.repeat(np.arange(users), lengths)
    chosen = (items * rng.random(len(rows)) ** 3).astype(np.int64)
    pairs = np.unique(rows * items + chosen)
    indptr = np.searchsorted(pairs, np.arange(users + 1) * items)
    return Histories(indptr, (pairs % items).astype(np.int32), np.ones(len(pairs), np.float32), items)


def model(items: int, seed: int) -> MultVAE:
    """A 600-200-600 of random weights: as fast as a trained one."""
    made = MultVAE(MultVAEConfig(hidden=(HIDDEN,), latent=LATENT, tied=False), items)
    generator = torch.Generator().manual_seed(seed)
    return made.restore({name: 0.05 * torch.randn(t.shape, generator=generator) for name, t in made.initial(generator).items()})


def publish(
    folder: Path, users: int = USERS, items: int = ITEMS, mean_length: int = MEAN_LENGTH, versions: int = 1
) -> Registry:
    """A registry with versions of different weights, the first of them current."""
    registry = Registry(folder)
    rows = histories(users, items, mean_length)
    ids, people = IdMap(tuple(range(items))), IdMap(tuple(range(users)))
    metadata = ItemMetadata.of(ids, rows, {item: f"Title of item {item}" for item in range(items)}, {})
    for seed in range(versions):
        artifact = Artifact("mult_vae", model(items, seed), ids, metadata, Preprocessing())
        version = registry.publish(artifact, "mult_vae", StoredUsers(people, rows), {})
        if seed == 0:
            registry.promote(version)
    return registry


@dataclass(frozen=True)
class Running:
    """A server process, and the file with what it wrote on stderr."""

    url: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def memory(self) -> float:
        """MiB that are resident."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]

    def handles(self) -> int:
        """Open files and sockets."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


@contextmanager
def serving(registry: Path, *arguments: str, **environment: str) -> Iterator[Running]:
    """`python -m service` until the block ends; settings may come from the environment."""
    settings = {f"RECSYS_AE__SERVICE__{name.upper()}": value for name, value in environment.items() if name != "store"}
    settings |= {"RECSYS_AE__STORE__URL": environment["store"]} if "store" in environment else {}
    command = [sys.executable, "-m", "service", "--registry", str(registry), "--port", "0", *arguments]
    with _started(command, settings) as running:
        yield running


@contextmanager
def _started(command: list[str], environment: dict[str, str]) -> Iterator[Running]:
    """A server that says on stderr, which is a file, where it listens."""
    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        process = subprocess.Popen(command, stderr=log, env=os.environ | environment)
        try:
            while (found := re.search(r"http://\S+", Path(log.name).read_text())) is None:
                assert process.poll() is None, Path(log.name).read_text()
                time.sleep(0.05)
            yield Running(found[0], process, Path(log.name))
        finally:
            process.kill()
            process.wait()


EMPTY = """
import sys, uvicorn
from fastapi import FastAPI
app = FastAPI()
@app.get("/empty")
async def empty():
    return {}
config = uvicorn.Config(app, port=0, log_level="warning", access_log=False)
class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        port = self.servers[0].sockets[0].getsockname()[1]
        print(f"http://127.0.0.1:{port}", file=sys.stderr, flush=True)
Server(config).run()
"""


@contextmanager
def empty_route() -> Iterator[str]:
    """The address of a FastAPI route that does nothing, by the same server."""
    with _started([sys.executable, "-c", EMPTY], {}) as running:
        yield f"{running.url}/empty"


def wrk(url: str, script: str | None = None, connections: int = 64, seconds: float = 10) -> dict[str, Any]:
    """Requests a second, latencies in milliseconds, and answers that were no 2xx or did not come.

    wrk stays on one core: where it wanders, it shares the server's now and then, whose latency is then the scheduler's.
    """
    command = ["taskset", "-c", str(max(os.sched_getaffinity(0))), "wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s"]
    command += ["--latency", "--timeout", "20s"]
    if script is not None:
        path = Path(os.environ.get("TMPDIR", "/tmp")) / f"wrk-{os.getpid()}.lua"
        path.write_text(script)
        command += ["-s", str(path)]
    said = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    wrong = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    return {
        "per_second": float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1]),  # type: ignore[index]
        "p50_ms": _milliseconds(said, "50%"),
        "p99_ms": _milliseconds(said, "99%"),
        "not_2xx": int(wrong[1]) if wrong else 0,
        "lost": sum(map(int, errors.groups())) if errors else 0,
    }


def _milliseconds(said: str, share: str) -> float:
    value, unit = re.search(rf"{share}\s+([\d.]+)(us|ms|s)\b", said).groups()  # type: ignore[union-attr]
    return float(value) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[unit]


def users_in_turn(first: int, count: int) -> str:
    """A wrk script that asks for the lists of users, one after the other, again and again."""
    return f"""
local n = -1
request = function()
  n = (n + 1) % {count}
  return wrk.format("GET", "/v1/users/" .. ({first} + n) .. "/recommendations?k=10")
end
"""
