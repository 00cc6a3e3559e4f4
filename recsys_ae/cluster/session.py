"""A Ray cluster for as long as a stage needs it: one that runs already, or one of this machine that ends with the stage."""

import logging
import os
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
    try:
        ray.init(address=address or "local", include_dashboard=False if address is None else None, log_to_driver=False,
                 logging_level=logging.ERROR)  # fmt: skip
    except ConnectionError as error:
        raise ConfigError(f"[cluster] address = {address!r} cannot be joined ({error}); expected a Ray cluster there") from None
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield ray
    finally:
        ray.shutdown()
