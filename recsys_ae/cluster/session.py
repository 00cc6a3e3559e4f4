"""A Ray cluster for as long as a stage needs it: one that runs already, or one of this machine that ends with the stage."""

import logging
import math
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from recsys_ae.errors import ConfigError

POLL = 1.0  # seconds


def require_ray() -> None:
    """Raises ConfigError where Ray is missing."""
    if find_spec("ray") is None:
        raise ConfigError("[cluster] engine = \"ray\" needs Ray; pip install 'recsys-ae[ray]'")


@contextmanager
def joined(address: str | None = None) -> Iterator[Any]:
    """`ray`, joined to the cluster at `address` (`auto`, HOST:PORT), to that which this process is in already, or else to one
    of this machine. Nodes need this package and the folders of the run. Raises ConfigError where it cannot be reached.
    """
    require_ray()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would tell the internet
    import ray

    if ray.is_initialized():
        yield ray
        return
    _require_there(address)
    try:
        ray.init(address=address or "local", include_dashboard=False if address is None else None, log_to_driver=False,
                 logging_level=logging.ERROR)  # fmt: skip
    except ConnectionError as error:
        raise ConfigError(f"[cluster] address = {address!r} cannot be joined ({error}); expected a Ray cluster there") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def quiet_data() -> Any:
    """`ray.data`, which tells of no progress."""
    import ray.data as found

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    found.DataContext.get_current().enable_progress_bars = False
    return found


def _require_there(address: str | None) -> None:
    """Raises ConfigError where nothing listens at HOST:PORT: Ray would try for minutes, and then end the process."""
    found = re.fullmatch(r"(?:ray://)?([^:/]+):(\d+)", address or "")
    if found is None:
        return
    try:
        socket.create_connection((found[1], int(found[2])), timeout=10).close()
    except OSError as error:
        raise ConfigError(f"[cluster] address = {address!r} cannot be joined ({error}); expected a Ray cluster there") from None


@dataclass(frozen=True)
class Room:
    """What a stage asks of a cluster: `workers` of `cpus` and `gpus` each, at least `least` of them (all where None).

    wait: seconds for which nodes that are on their way are waited for.
    """

    workers: int
    cpus: float = 1.0
    gpus: float = 0.0
    least: int | None = None
    wait: float = 0.0

    @property
    def needed(self) -> int:
        """Workers without whom nothing begins."""
        return self.workers if self.least is None else self.least

    @property
    def each(self) -> dict[str, float]:
        """What a worker takes, as Ray calls it."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})


def require_room(ray: Any, room: Room) -> None:
    """Raises ConfigError where the cluster has no room for the workers when nobody else is there: Ray would wait for ever.

    Where there is time to wait, the workers' places are asked of the cluster meanwhile, so that its autoscaler, if it has one,
    makes them.
    """
    found = room_of(ray, room)
    if found < room.needed and room.wait:
        asked = ray.util.placement_group([room.each] * room.needed)  # goes with this job, should it end here
        deadline = time.monotonic() + room.wait
        while (found := room_of(ray, room)) < room.needed and time.monotonic() < deadline:
            time.sleep(POLL)
        ray.util.remove_placement_group(asked)
    if found < room.needed:
        said = f"{'workers' if room.least is None else 'min_workers'} = {room.needed}"
        each = " and ".join(f"{amount:g} {kind}" for kind, amount in room.each.items())
        waited = f" after {room.wait:g} seconds" if room.wait else ""
        raise ConfigError(
            f"[cluster] {said} with {each} each; the {len(_living(ray))} nodes there{waited} have room for {found}"
        )


def room_of(ray: Any, room: Room) -> int:
    """How many of the workers the nodes that live have room for, if nobody else is there."""
    return sum(
        min(math.floor(resources.get(kind, 0.0) / amount + 1e-9) for kind, amount in room.each.items())
        for resources in _living(ray)
    )


def _living(ray: Any) -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
