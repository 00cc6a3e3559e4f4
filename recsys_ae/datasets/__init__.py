"""Named data sets: `movielens-small`, which the demo extra ships, and those that are generated."""

from collections.abc import Callable
from typing import Any

from recsys_ae.datasets.embedded import movielens_small
from recsys_ae.datasets.generator import generate, preset
from recsys_ae.datasets.raw import RawData
from recsys_ae.errors import ConfigError


def synthetic(n_users: int = 600, n_items: int = 300, **changes: Any) -> RawData:
    """Generated: 600 users, 300 items, 18,000 ratings of 1 to 5 with times; any parameter of the generator may follow."""
    return generate(preset("synthetic", n_users=n_users, n_items=n_items, **changes)).raw


def ml_1m_like() -> RawData:
    """Generated in the shape of MovieLens 1M: 6,040 users, 3,706 items, 1,000,209 ratings of 1 to 5 with times."""
    return generate(preset("ml-1m-like")).raw


def ml_20m_like() -> RawData:
    """Generated in the shape of MovieLens 20M: 138,493 users, 26,744 items, 20,000,263 ratings of 0.5 to 5 with times."""
    return generate(preset("ml-20m-like")).raw


def gowalla_like() -> RawData:
    """Generated in the shape of Gowalla: 29,858 users, 40,981 items, 1,027,370 check-ins with times, no ratings."""
    return generate(preset("gowalla-like")).raw


DATASETS: dict[str, Callable[[], RawData]] = {
    "movielens-small": movielens_small,
    "synthetic": synthetic,
    "ml-1m-like": ml_1m_like,
    "ml-20m-like": ml_20m_like,
    "gowalla-like": gowalla_like,
}


def load(name: str) -> RawData:
    """A data set by name. Raises ConfigError for an unknown one."""
    if name not in DATASETS:
        raise ConfigError(f"dataset {name!r} is unknown; expected one of {', '.join(DATASETS)}")
    return DATASETS[name]()


__all__ = ["DATASETS", "RawData", "gowalla_like", "load", "ml_1m_like", "ml_20m_like", "movielens_small", "synthetic"]
