"""Named data sets: `movielens-small`, which the demo extra ships, and `synthetic`, which is generated."""

from collections.abc import Callable

from recsys_ae.datasets.embedded import movielens_small
from recsys_ae.datasets.generator import synthetic
from recsys_ae.datasets.raw import RawData
from recsys_ae.errors import ConfigError

DATASETS: dict[str, Callable[[], RawData]] = {"movielens-small": movielens_small, "synthetic": synthetic}


def load(name: str) -> RawData:
    """A data set by name. Raises ConfigError for an unknown one."""
    if name not in DATASETS:
        raise ConfigError(f"dataset {name!r} is unknown; expected one of {', '.join(DATASETS)}")
    return DATASETS[name]()


__all__ = ["DATASETS", "RawData", "load", "movielens_small", "synthetic"]
