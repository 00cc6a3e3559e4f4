"""The parts of `score` written by a Ray cluster: each worker loads the version once, each part is a task (Ray Data)."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.config import RunConfig
from pipelines.score import Part, write_part
from recsys_ae.cluster.session import joined
from recsys_ae.errors import ConfigError
from recsys_ae.registry import Registry


def written(config: RunConfig, version: str, parts: Sequence[Part], allow: NDArray[np.bool_]) -> Iterator[tuple[Part, int]]:
    """Each part as it is done, in any order, with its rows. All nodes must see the registry and the folder of the lists.

    A worker that dies costs the part that it was at: another writes it. Raises ConfigError where the cluster has no room.
    """
    cluster = config.cluster
    with joined(cluster.address) as ray:
        require_room(ray, cluster.cpus, cluster.gpus)
        ray.data.DataContext.get_current().enable_progress_bars = False
        folder = parts[0].path.parent.resolve()
        rows = [{"place": n, "path": str(folder / part.path.name), "start": part.start, "stop": part.stop}
                for n, part in enumerate(parts)]  # fmt: skip
        found = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _Scorer,
            fn_constructor_args=(config.registry.path.resolve(), version, config.score.k, allow, cluster.cpus),
            concurrency=(1, min(cluster.workers, len(rows))),
            num_cpus=cluster.cpus,
            num_gpus=cluster.gpus or None,
            max_restarts=-1,
            max_task_retries=-1,
        )
        for row in found.iter_rows():
            yield parts[row["place"]], row["rows"]


def require_room(ray: Any, cpus: float, gpus: float) -> None:
    """Raises ConfigError where no node has room for a worker, which would be waited for for ever."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        raise ConfigError(f"[cluster] cpus = {cpus:g}, gpus = {gpus:g}: no node of {len(nodes)} has so many for a worker")


class _Scorer:
    """One worker, with a version loaded."""

    def __init__(self, registry: Path, version: str, k: int, allow: NDArray[np.bool_], cpus: float) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, int(cpus))))
        self.artifact, self.stored = Registry(registry).load(version)
        self.k, self.allow = k, allow

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        part = Part(Path(row["path"]), row["start"], row["stop"])
        return {"place": row["place"], "rows": write_part(part, self.artifact, self.stored, self.k, self.allow)}
