"""`synthetic`: users and items with latent tastes, generated."""

import numpy as np
import pyarrow as pa

from recsys_ae.datasets.raw import RawData
from recsys_ae.ids import Id


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
