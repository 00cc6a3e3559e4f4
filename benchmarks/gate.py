"""The gate's honesty: simulated nights with real models on generated data, and how many held-out users it takes.

    OMP_NUM_THREADS=1 python -m benchmarks.gate [--nights N] [--users N ...] [--models NAME ...] [--seed N]

Each night draws held-out users from a large world, and training users twice: for yesterday's model and for tonight's, each a
random four fifths of one pool. The two fits are equal models; the damaged one is tonight's with a twentieth of its
recommendations replaced by random items. Yesterday's is also fitted with the held-out users' whole histories, as the
version that is published: what the comparison would say if it were judged itself, not its twin. Entries merge into one file a
model, so that numbers of users may be added.
"""

import argparse
import json
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import RESULTS, about, write_json
from pipelines import gate
from recsys_ae import Dataset, Holdout, datasets, strong_generalization
from recsys_ae.cleaning import Cleaning
from recsys_ae.evaluation import Z95, Evaluation, tallied
from recsys_ae.histories import Histories
from recsys_ae.models import MODELS, Recommender
from recsys_ae.ranking import rank_top_k
from recsys_ae.split import Split
from recsys_ae.training import RunContext

DAMAGE = 0.05
"""Share of the recommendations that are replaced."""
FITTED_ON = 0.8
"""Share of the pool of training users that each model knows."""
METRIC, K, MIN_RATIO = "ndcg@100", 100, 0.98
KINDS = ("equal", "damaged", "beside_seen")
"""Tonight's model beside yesterday's twin; damaged, beside it; beside yesterday's model that had seen the held-out users."""


@dataclass(frozen=True)
class Night:
    """What the gate said of the three comparisons."""

    passed: dict[str, bool]
    ratio: dict[str, float]


def world(n_users: int, n_items: int, test_users: float, seed: int) -> Split:
    """A generated world, most of whose users are there to be held out."""
    raw = datasets.synthetic(n_users=n_users, n_items=n_items, seed=seed)
    data = Dataset.from_log(raw.clean(Cleaning()))
    return strong_generalization(data, seed=seed, validation_users=1, test_users=int(n_users * test_users))


def night(split: Split, name: str, settings: dict[str, Any], users: int, seed: int) -> Night:
    """One night with so many held-out users."""
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.permutation(len(split.test))[:users])
    test = split.test.take(drawn)
    pool = split.refit.users.positions(split.train.users.ids)

    def model(seed: int, *more: NDArray[np.int64]) -> Recommender:
        rows = rng.permutation(pool)[: int(FITTED_ON * len(pool))]
        histories = split.refit.histories.take(np.sort(np.concatenate([rows, *more])))
        return _fitted(name, settings, histories, seed)

    yesterday = model(2 * seed)
    tonight = model(2 * seed + 1)
    seen = model(2 * seed, split.refit.users.positions(test.users.ids))
    lists = rank_top_k(tonight, test.fold_in, K).items
    replaced = (rng.random(lists.shape) < DAMAGE) & (lists >= 0)
    damaged = np.where(replaced, rng.integers(0, test.n_items, lists.shape), lists).astype(np.int32)
    now = _judged(rank_top_k(yesterday, test.fold_in, K).items, test)
    itself = _judged(rank_top_k(seen, test.fold_in, K).items, test)
    base = _judged(rank_top_k(_fitted("popularity", {}, split.train.histories, 0), test.fold_in, K).items, test)
    pairs = {"equal": (lists, now), "damaged": (damaged, now), "beside_seen": (lists, itself)}
    verdicts = {
        kind: gate.judge("tonight", _judged(candidate, test), base, current, metric=METRIC, min_ratio=MIN_RATIO, seed=seed)
        for kind, (candidate, current) in pairs.items()
    }
    return Night(
        {kind: verdict.passed for kind, verdict in verdicts.items()},
        {kind: verdict.ratio or 0.0 for kind, verdict in verdicts.items()},
    )


def wilson(hits: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    share, z2 = hits / of, Z95**2 / of
    middle, half = share + z2 / 2, Z95 * sqrt(share * (1 - share) / of + z2 / (4 * of))
    return (middle - half) / (1 + z2), (middle + half) / (1 + z2)


def _fitted(name: str, settings: dict[str, Any], histories: Histories, seed: int) -> Recommender:
    model = MODELS[name](MODELS[name].Config(**settings), histories.n_items)
    model.fit(histories, validation=None, run=RunContext(seed=seed, device="cpu", precision="float32"))
    return model


def _judged(lists: NDArray[np.int32], test: Holdout) -> Evaluation:
    return tallied(lambda rows: lists[rows], test, (K,))


def main() -> None:
    """All nights, print, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=int, default=40)
    parser.add_argument("--users", type=int, nargs="+", default=[50, 100, 200, 500, 1_000, 2_000, 5_000])
    parser.add_argument("--models", nargs="+", default=["ease", "als"])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    split = world(60_000, 300, 0.9, arguments.seed)
    print(f"{len(split.train.users):,} users to train on, {len(split.test):,} to hold out", flush=True)
    facts = {
        "seed": arguments.seed,
        "metric": METRIC,
        "min_ratio_to_current": MIN_RATIO,
        "damage": DAMAGE,
        "trained_on": int(FITTED_ON * len(split.train.users)),
        "items": split.train.histories.n_items,
    }
    for name in arguments.models:
        path = RESULTS / f"gate-{name}.json"
        before = json.loads(path.read_text())["users"] if path.exists() else {}
        for users in arguments.users:
            seeds = (arguments.seed + 1_000 * users + number for number in range(arguments.nights))
            found = summed([night(split, name, {}, users, seed) for seed in seeds])
            print(name, users, found, flush=True)
            before[str(users)] = {"nights": arguments.nights, **found}
        by_users = dict(sorted(before.items(), key=lambda entry: int(entry[0])))
        write_json(path, about("gate") | {"model": name, **facts, "users": by_users})


def summed(nights: list[Night]) -> dict[str, Any]:
    """Of each comparison, the share of nights that published, its 95 % interval, and the ratios."""
    found = {}
    for kind in KINDS:
        passed, ratios = sum(each.passed[kind] for each in nights), [each.ratio[kind] for each in nights]
        found[kind] = {
            "published": passed / len(nights),
            "ci95": [round(bound, 4) for bound in wilson(passed, len(nights))],
            "ratio_mean": round(float(np.mean(ratios)), 4),
            "ratio_sd": round(float(np.std(ratios, ddof=1)), 4),
        }
    return found


if __name__ == "__main__":
    main()
