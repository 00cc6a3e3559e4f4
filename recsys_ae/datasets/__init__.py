"""Named data sets: `movielens-small`, which the demo extra ships, `synthetic`, which is generated, and the public ones."""

from collections.abc import Callable
from pathlib import Path

from recsys_ae.datasets.catalogue import CATALOGUE
from recsys_ae.datasets.embedded import movielens_small
from recsys_ae.datasets.generator import synthetic
from recsys_ae.datasets.raw import RawData
from recsys_ae.datasets.store import load as load_public
from recsys_ae.errors import ConfigError

DATASETS: dict[str, Callable[[], RawData]] = {"movielens-small": movielens_small, "synthetic": synthetic}
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
    return DATASETS[name]() if name in DATASETS else load_public(CATALOGUE[name], folder)


__all__ = ["CATALOGUE", "DATASETS", "DIVIDED", "RawData", "check_name", "descriptions", "load", "movielens_small", "synthetic"]
