"""A Ray cluster for as long as a stage needs it: one that runs already, or one of this machine that ends with the stage."""

import logging
import math
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from recsys_ae.errors import ConfigError


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


def require_room(ray: Any, workers: int, cpus: float, gpus: float) -> None:
    """Raises ConfigError for more workers than the cluster has room for when nobody else is there: Ray would wait for ever."""
    living = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    wanted = {"CPU": cpus} | ({"GPU": gpus} if gpus else {})
    room = sum(
        min(math.floor(resources.get(kind, 0.0) / amount + 1e-9) for kind, amount in wanted.items()) for resources in living
    )
    if room < workers:
        each = " and ".join(f"{amount:g} {kind}" for kind, amount in wanted.items())
        raise ConfigError(f"[cluster] workers = {workers} with {each} each; the {len(living)} nodes there have room for {room}")
