"""A Ray cluster of three nodes on this machine (loopback) whose workers are killed at random moments: what comes of it.

    OMP_NUM_THREADS=1 python -m benchmarks.onray ingest|score|train [--kills N] [--workers N]

ingest: a generated log in twelve CSV files, cleaned with an iterative k-core; score: lists of 20,000 users in forty parts;
train: mult_dae of twelve epochs. Each is made by this process alone, by the cluster, and by the cluster while so many workers
are killed in all, run after run until the number is reached; what came of each run is compared with the first: bytes of the
lists, rows and counts of the log, losses of the fit.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow.csv
import torch

from benchmarks.killing import killing
from benchmarks.record import write
from pipelines.config import RunConfig, make_config
from pipelines.score import score
from recsys_ae import datasets
from recsys_ae.artifact import Artifact
from recsys_ae.cleaning import Cleaning
from recsys_ae.cluster.ingest import read_log_on_ray
from recsys_ae.cluster.ray_train import fit_on_ray
from recsys_ae.cluster.session import Room
from recsys_ae.dataset import Dataset
from recsys_ae.log import InteractionLog, read_log
from recsys_ae.models import MODELS
from recsys_ae.preprocessing import Preprocessing
from recsys_ae.registry import Registry, StoredUsers
from recsys_ae.sealed import file_digest
from recsys_ae.training.run import RunContext

NODES, CPUS = 3, 2
NODE = {"num_cpus": CPUS, "object_store_memory": 300 * 2**20}


@contextmanager
def cluster(nodes: int = NODES) -> Iterator[Any]:
    """Ray's own cluster of several nodes on this machine, with its `address`."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # it would tell the internet
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    try:
        for _ in range(nodes - 1):
            found.add_node(**NODE)
        yield found
    finally:
        found.shutdown()


@dataclass(frozen=True)
class Stage:
    """What is done alone and on a cluster, what its workers are called, and how far two results are apart."""

    alone: Callable[[], Any]
    on_ray: Callable[[str], Any]
    worker: str
    moments: tuple[float, float]  # seconds between two kills, from and to
    differs: Callable[[Any, Any], float]


def ingest(folder: Path, workers: int) -> Stage:
    """2.4 million events."""
    table = datasets.synthetic(n_users=80_000, n_items=8_000, seed=1).events
    table = table.take(np.random.default_rng(0).permutation(len(table)))
    size = -(-len(table) // 12)
    for n in range(12):
        pyarrow.csv.write_csv(table.slice(n * size, size), folder / f"events{n:02}.csv")
    path, rules = str(folder / "*.csv"), Cleaning(Preprocessing(min_weight=3.0), 8, 40)

    def found(log: InteractionLog) -> tuple[str, dict[str, Any]]:
        return Dataset.from_log(log).digest, log.counts

    return Stage(
        lambda: found(read_log(path, cleaning=rules, into=folder / "one.parquet")),
        lambda address: found(
            read_log_on_ray(path, cleaning=rules, into=folder / "many", address=address, rows_per_part=400_000)
        ),
        "ray::",
        (1.0, 6.0),
        lambda a, b: float(a != b),
    )


def lists(folder: Path, workers: int) -> Stage:
    """Lists of 50 of 20,000 users by mult_dae."""
    data = Dataset.from_log(InteractionLog.from_table(datasets.synthetic(n_users=20_000, n_items=4_000, seed=1).events))
    model = MODELS["mult_dae"](MODELS["mult_dae"].Config(latent=64, epochs=1), len(data.items))
    model.fit(data.histories, validation=None, run=RunContext(device="cpu", precision="float32"))
    registry = Registry(folder / "registry")
    artifact = Artifact("mult_dae", model, data.items, data.metadata, data.preprocessing)
    registry.promote(registry.publish(artifact, "mult_dae", StoredUsers(data.users, data.histories), {}))

    def made(name: str, **cluster: Any) -> dict[str, Any]:
        where = {"path": str(folder / f"{name} {time.monotonic_ns()}"), "k": 50, "users_per_file": 500}
        config: RunConfig = make_config(
            {"log": {"path": "none"}, "registry": {"path": str(registry.path)}, "score": where, "cluster": cluster}
        )
        return {path.name: file_digest(path) for path in score(config).folder.glob("part-*.parquet")}

    return Stage(
        lambda: made("alone"),
        lambda address: made("cluster", engine="ray", address=address, workers=workers),
        "_Scorer",
        (0.2, 1.5),
        lambda a, b: float(a != b),
    )


def training(folder: Path, workers: int) -> Stage:
    """mult_dae on 8,000 users."""
    data = Dataset.from_log(InteractionLog.from_table(datasets.synthetic(n_users=8_000, n_items=3_000, seed=1).events))
    config = MODELS["mult_dae"].Config(latent=64, epochs=12)
    cluster: dict[str, Any] = {"room": Room(workers), "restarts": 20, "folder": folder}

    def losses(fit: Callable[..., Any]) -> list[float]:
        checkpoints = folder / f"checkpoints {time.monotonic_ns()}"
        run = RunContext(seed=0, device="cpu", precision="float32", checkpoint_folder=checkpoints)
        found: list[float] = fit(MODELS["mult_dae"](config, len(data.items)), data.histories, validation=None, run=run).losses
        return found

    return Stage(
        lambda: losses(lambda model, *a, **k: model.fit(*a, **k)),
        lambda address: losses(lambda *a, **k: fit_on_ray(*a, **k, address=address, **cluster)),
        "RayTrainWorker",
        (8.0, 25.0),
        apart,
    )


def apart(a: list[float], b: list[float]) -> float:
    """The largest relative difference of two loss curves."""
    return float(np.max(np.abs(np.array(a) / np.array(b) - 1))) if len(a) == len(b) else float("inf")


STAGES = {"ingest": ingest, "score": lists, "train": training}


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    begin = time.perf_counter()
    return work(), round(time.perf_counter() - begin, 1)


def main() -> None:
    """Run it, print it, write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as name:
        folder = Path(name)
        stage = STAGES[given.stage](folder, given.workers)
        alone, seconds = timed(stage.alone)
        facts: dict[str, Any] = {"stage": given.stage, "nodes": NODES, "workers": given.workers, "alone": seconds}
        with cluster() as nodes:
            found, seconds = timed(lambda: stage.on_ray(nodes.address))
            facts |= {"on the cluster": seconds, "differs": stage.differs(alone, found), "disturbed": []}
            print(json.dumps(facts), flush=True)
            killed = 0
            while killed < given.kills:
                with killing(given.kills - killed, stage.worker, killed, *stage.moments) as victims:
                    found, seconds = timed(lambda: stage.on_ray(nodes.address))
                killed += len(victims)
                facts["disturbed"].append({"killed": len(victims), "seconds": seconds, "differs": stage.differs(alone, found)})
                print(json.dumps(facts["disturbed"][-1]), flush=True)
        write("onray", facts, f"-{given.stage}")


if __name__ == "__main__":
    main()
