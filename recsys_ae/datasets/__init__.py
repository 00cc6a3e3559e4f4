"""Named data sets: `movielens-small`, which the demo extra ships, those that are generated, and the public ones."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from recsys_ae.datasets.catalogue import CATALOGUE
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
"""The sets that need no fetching."""

DIVIDED = tuple(name for name, public in CATALOGUE.items() if public.split)
"""The sets that come as train and test."""


def descriptions() -> dict[str, str]:
    """Every name with one line on what it is."""
    made = {name: (make.__doc__ or "").strip().splitlines()[0] for name, make in DATASETS.items()}
    return made | {name: public.title for name, public in CATALOGUE.items()}


def check_name(name: str) -> None:
    """Raises ConfigError for an unknown data set."""
    if name not in DATASETS and name not in CATALOGUE:
        raise ConfigError(f"dataset {name!r} is unknown; expected one of {', '.join(descriptions())}")


def load(name: str, folder: Path | None = None) -> RawData:
    """A data set by name; a public one from the data folder. Raises ConfigError for one that is unknown or was not fetched."""
    check_name(name)
    if name in DATASETS:
        return DATASETS[name]()
    from recsys_ae.datasets import store  # which brings DuckDB

    return store.load(CATALOGUE[name], folder)


__all__ = ["CATALOGUE", "DATASETS", "DIVIDED", "RawData", "check_name", "descriptions", "load", "movielens_small", "synthetic"]
