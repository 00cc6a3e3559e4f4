"""The parts of `score` written by a Ray cluster: each worker loads the version once, each part is a task (Ray Data)."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.config import RunConfig
from pipelines.score import Part, write_part
from recsys_ae.cluster.session import joined, quiet_data, require_room
from recsys_ae.registry import Registry


def written(config: RunConfig, version: str, parts: Sequence[Part], allow: NDArray[np.bool_]) -> Iterator[tuple[Part, int]]:
    """Each part as it is done, in any order, with its rows. All nodes must see the registry and the folder of the lists.

    A worker that dies costs the part that it was at: another writes it. Raises ConfigError where the cluster has no room.
    """
    cluster = config.cluster
    with joined(cluster.address) as ray:
        require_room(ray, replace(cluster.room, workers=1, least=None, gpus=0.0))
        folder = parts[0].path.parent.resolve()
        rows = [{"place": n, "path": str(folder / part.path.name), "start": part.start, "stop": part.stop}
                for n, part in enumerate(parts)]  # fmt: skip
        found = (
            quiet_data()
            .from_items(rows, override_num_blocks=len(rows))
            .map(
                _Scorer,
                fn_constructor_args=(config.registry.path.resolve(), version, config.score.k, allow, cluster.cpus),
                concurrency=(1, min(cluster.workers, len(rows))),
                num_cpus=cluster.cpus,
            )
        )
        for row in found.iter_rows():
            yield parts[row["place"]], row["rows"]


class _Scorer:
    """One worker, with a version loaded."""

    def __init__(self, registry: Path, version: str, k: int, allow: NDArray[np.bool_], cpus: float) -> None:
        torch.set_num_threads(max(1, int(cpus)))
        self.artifact, self.stored = Registry(registry).load(version)
        self.k, self.allow = k, allow

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        part = Part(Path(row["path"]), row["start"], row["stop"])
        return {"place": row["place"], "rows": write_part(part, self.artifact, self.stored, self.k, self.allow)}
