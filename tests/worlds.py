"""Small worlds with a known truth, and the cheap way to fit any model in them."""

from typing import Any

import numpy as np

from recsys_ae import MODELS, Dataset, Histories, Holdout, IdMap, RunContext
from recsys_ae.models import ModelConfig, Recommender

N_USERS, N_ITEMS, N_TASTES = 23, 42, 3  # no layer of `small_config` is 23 wide

# Where a model's Config has one of these keys, tests that ask for no quality take this value. A new model needs no entry.
SMALL: dict[str, Any] = {"latent": 8, "factors": 8, "epochs": 3, "iterations": 3, "batch_size": 10}
SMALL["members"] = [{"name": "ease"}, {"name": "item_knn"}, {"name": "mult_dae", "latent": 8, "epochs": 3, "batch_size": 10}]


def small_config(name: str, **changes: Any) -> ModelConfig:
    """A model's Config with small widths and few epochs."""
    kind = MODELS[name].Config
    return kind(**{key: value for key, value in SMALL.items() if key in kind.model_fields} | changes)


def cpu(**changes: Any) -> RunContext:
    """A run on the CPU in float32, whatever the machine would choose."""
    return RunContext(**{"device": "cpu", "precision": "float32", **changes})


def fitted(name: str, train: Histories, **changes: Any) -> Recommender:
    """A small model, fitted."""
    model = MODELS[name](small_config(name, **changes), train.n_items)
    model.fit(train, validation=None, run=cpu())
    return model


def checkerboard(n: int = 50) -> Histories:
    """User u met every item of u's parity but item u itself, in any order: the one right next item of user u is u."""
    rng = np.random.default_rng(0)
    rows = [rng.permutation([i for i in range(n) if i % 2 == u % 2 and i != u]).tolist() for u in range(n)]
    return Histories.from_rows(rows, n)


def tastes(n_users: int = N_USERS, seed: int = 0, weighted: bool = True) -> Histories:
    """Users of one taste each: nine draws of ten fall on the taste's own items. No item stands twice in a row."""
    rng = np.random.default_rng(seed)
    rows, weights, times = [], [], []
    for user in range(n_users):
        odds = np.where(np.arange(N_ITEMS) % N_TASTES == user % N_TASTES, 9.0, 0.5)
        length = int(rng.integers(4, 12))
        rows.append(rng.choice(N_ITEMS, length, replace=False, p=odds / odds.sum()).tolist())
        weights.append(rng.integers(1, 4, length).tolist() if weighted else [1] * length)
        times.append(sorted(rng.integers(1_600_000_000, 1_700_000_000, length).tolist()))
    return Histories.from_rows(rows, N_ITEMS, weights, times)


def holdout(n_users: int = 19, seed: int = 1) -> Holdout:
    """Users of the same tastes; the last fifth of each history is held out."""
    histories = tastes(n_users, seed)
    place = np.arange(histories.n_interactions) - np.repeat(histories.indptr[:-1], histories.lengths)
    target = place >= np.repeat(histories.lengths - np.maximum(histories.lengths // 5, 1), histories.lengths)
    return Holdout(IdMap(tuple(range(n_users))), histories.select(~target), histories.select(target))


def ragged(seed: int, n_rows: int, n_items: int, longest: int = 8, timed: bool = True) -> Histories:
    """Random rows, some empty, some with repeats, weights between 0.5 and 2."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, longest + 1, n_rows)
    lengths[0] = 0
    return Histories.from_rows(
        [rng.integers(0, n_items, n).tolist() for n in lengths],
        n_items,
        [rng.uniform(0.5, 2, n).tolist() for n in lengths],
        [np.sort(rng.integers(0, 10**6, n)).tolist() for n in lengths] if timed else None,
    )


def as_dataset(histories: Histories) -> Dataset:
    """Histories with users 100, 101, ... and items 1000, 1001, ..."""
    return Dataset(
        IdMap(tuple(range(100, 100 + len(histories)))),
        IdMap(tuple(range(1000, 1000 + histories.n_items))),
        histories,
    )


def pairs(histories: Histories, users: IdMap, items: IdMap) -> set[tuple[object, object]]:
    """Every interaction as (user id, item id)."""
    return set(zip(users.at(histories.rows), items.at(histories.items), strict=True))
