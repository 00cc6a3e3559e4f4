"""What the data are like, and whether anything leaks from what is asked into what is known."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_ae.dataset import Dataset
from recsys_ae.groups import LENGTHS
from recsys_ae.histories import Histories, Holdout
from recsys_ae.split import Split

BINS, CURVE_POINTS, TOP = 60, 101, 100


def profile(data: Dataset) -> dict[str, Any]:
    """Density, histories, popularity and times of all rows."""
    histories = data.histories
    n_users, n_items, n = len(data.users), len(data.items), histories.n_interactions
    popularity = np.bincount(histories.items, minlength=n_items)
    order = np.argsort(-popularity, kind="stable")
    found: dict[str, Any] = {
        "density": n / max(n_users * n_items, 1),
        "history_lengths": {
            "edges": list(LENGTHS),
            "users": np.bincount(
                np.maximum(np.searchsorted(LENGTHS, histories.lengths, side="right") - 1, 0), minlength=len(LENGTHS)
            ).tolist(),
        },
        "popularity_curve": _lorenz(popularity[order]),
        "top_items": [
            {"item_id": data.items.ids[c], "title": data.metadata.title(int(c)), "users": int(popularity[c])}
            for c in order[:TOP].tolist()
            if popularity[c]
        ],
    }
    if histories.times is not None and n:
        found |= _times(histories.times)
    return found


def _lorenz(descending: NDArray[np.int64]) -> dict[str, list[float]]:
    """Share of the interactions that the most popular share of the items has."""
    places = np.unique(np.linspace(0, len(descending), CURVE_POINTS).astype(np.int64))
    had = np.concatenate([[0], np.cumsum(descending)])
    return {
        "items": [round(float(p) / max(len(descending), 1), 4) for p in places],
        "interactions": [round(float(h) / max(int(had[-1]), 1), 4) for h in had[places]],
    }


def _times(times: NDArray[np.int64]) -> dict[str, Any]:
    first, last = int(times.min()), int(times.max())
    bins = max(1, min(BINS, (last - first) // 86_400 + 1))
    counts, edges = np.histogram(times, bins=bins, range=(first, last + 1))
    return {
        "times": {"first": first, "last": last},
        "interactions_by_time": [
            {"from": int(edge), "interactions": int(count)} for edge, count in zip(edges, counts, strict=False)
        ],
    }


def checks(splits: Sequence[Split]) -> list[dict[str, Any]]:
    """Leaks that would make every figure too good, looked for in the rows themselves; of several windows each in turn."""
    found: list[dict[str, Any]] = []
    for place, split in enumerate(splits, 1):
        window = f"window {place}: " if len(splits) > 1 else ""
        for name, holdout in (("validation", split.validation), ("test", split.test)):
            trained = split.refit if name == "test" and split.judged_after_refit else split.train
            leaked = _targets_in_training(trained, holdout)
            found.append(_check(f"{window}no {name} target stands in the user's own training row", leaked, "interactions"))
        if split.kind == "strong_generalization":
            shared = len(set(split.train.users.ids) & set(split.test.users.ids))
            found.append(_check(f"{window}no test user is a training user", shared, "users"))
        if split.window is not None:
            found += [_check(window + text, late, "interactions") for text, late in _late(split).items()]
    return found


def _check(text: str, faults: int, of: str) -> dict[str, Any]:
    return {"check": text, "passed": faults == 0, "found": f"{faults:,} {of}"}


def _targets_in_training(trained: Dataset, holdout: Holdout) -> int:
    """Held-out interactions that the same user has in training."""
    rows = trained.users.positions(holdout.users.ids)
    known = np.flatnonzero(rows >= 0)
    if not len(known) or trained.histories.n_items != holdout.n_items:
        return 0
    return int(holdout.held_out.take(known).shared_with(trained.histories.take(rows[known])).sum())


def _late(split: Split) -> Mapping[str, int]:
    """Interactions on the wrong side of a window's times."""
    window = split.window
    assert window is not None
    begin, end = window.test_from, window.test_until

    def outside(histories: Histories, first: float, until: float) -> int:
        times = histories.times
        return 0 if times is None else int(((times < first) | (times >= until)).sum())

    return {
        "no training interaction is younger than the validation part": outside(
            split.train.histories, -math.inf, window.validation_from
        ),
        "no test history reaches into the test part": outside(split.test.fold_in, -math.inf, begin),
        "every test target is within the test part": outside(split.test.held_out, begin, end),
    }


def cold(splits: Sequence[Split]) -> dict[str, int] | None:
    """Users and items of a split by time that training could not know; they are not judged, and counted here."""
    if splits[0].window is None:
        return None
    return {
        "users": sum(split.dropped.get("test_users_without_history", 0) for split in splits),
        "items": splits[-1].dropped.get("items_unseen_in_training", 0),
    }
