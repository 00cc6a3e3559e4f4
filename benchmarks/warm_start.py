"""A night that begins with the weights of the night before, beside one that begins cold: epochs, time, ranking.

    OMP_NUM_THREADS=1 python -m benchmarks.warm_start --data FOLDER [--users N] [--models NAME ...] [--seeds SEED ...]
        [--learnt SHARE ...]

Users and items of MovieLens 1M drawn by seed. The log of the night before lacks a tenth of the rows, and some items wholly;
some of its items are gone on the next night. The same users are held out in both nights, by hash. Both fits of the next
night stop by the same validation users; the difference on the test users is paired. A share learnt of 1 is last night's
weights as they are.
"""

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.quality import BENCHMARKS
from benchmarks.record import paired, write
from recsys_ae.artifact import Artifact
from recsys_ae.dataset import Dataset
from recsys_ae.evaluation import Evaluation, evaluate
from recsys_ae.models import MODELS, Recommender
from recsys_ae.split import Split, strong_generalization
from recsys_ae.split.base import met_items, only_items
from recsys_ae.training import FitRecord, RunContext
from recsys_ae.warm_start import LEARNT, WarmStart, warm_start

METRIC = "ndcg@100"
USERS, LEAST_USERS_OF_AN_ITEM = 1_000, 20
ROWS_TO_COME, ITEMS_TO_COME, ITEMS_TO_GO = 0.1, 0.03, 0.01
HELD_OUT = 0.2  # of the users, for validation and for the test each


@dataclass(frozen=True, eq=False)
class Fit:
    """A fit of the training part, judged on the test users."""

    model: Recommender
    record: FitRecord
    evaluation: Evaluation
    seconds: float
    cpu_seconds: float

    def figures(self) -> dict[str, Any]:
        """For the result file."""
        return {
            "best_epoch": self.record.best_epoch,
            "epochs": self.record.epochs,
            "seconds": round(self.seconds, 1),
            "cpu_seconds": round(self.cpu_seconds, 1),
            f"validation {METRIC}": round(max(self.record.validation), 5),
            f"validation {METRIC} after one epoch": round(self.record.validation[0], 5),
            f"test {METRIC}": round(self.evaluation.scores[METRIC].mean, 5),
            "kl": round(sum(self.record.kl_by_dimension), 2),
        }


def nights(data: Dataset, seed: int) -> tuple[Split, Split]:
    """Of the night before and of the next one."""
    rng = np.random.default_rng(seed)
    columns = data.histories.items
    come = rng.random(data.histories.n_interactions) < ROWS_TO_COME
    come |= (rng.random(data.histories.n_items) < ITEMS_TO_COME)[columns]
    gone = (rng.random(data.histories.n_items) < ITEMS_TO_GO)[columns]
    before, after = (_some(data, rows) for rows in (~come, ~gone))
    return _split(before, seed), _split(after, seed)


def _some(data: Dataset, rows: np.ndarray) -> Dataset:
    """Some of the interactions, and the items that they are of."""
    kept = replace(data, histories=data.histories.select(rows))
    return only_items(kept, met_items(kept.histories))


def _split(data: Dataset, seed: int) -> Split:
    return strong_generalization(data, seed=0, salt=f"night {seed}", validation_users=HELD_OUT, test_users=HELD_OUT)


def sample(data: Dataset, users: int) -> Dataset:
    """So many users, and the items that enough of them met."""
    rows = np.sort(np.random.default_rng(0).permutation(len(data.users))[:users])
    some = data.with_rows(rows)
    met = np.bincount(some.histories.items, minlength=some.histories.n_items)
    return only_items(some, np.flatnonzero(met >= LEAST_USERS_OF_AN_ITEM))


def fit(name: str, split: Split, seed: int, start: WarmStart | None = None) -> Fit:
    """A model with its defaults."""
    model = MODELS[name](MODELS[name].Config(), len(split.train.items))
    run = RunContext(seed=seed, device="cpu", metric=METRIC, initial=start and start.tensors)
    begin, cpu_begin = time.perf_counter(), time.process_time()
    record = model.fit(split.train.histories, validation=split.validation, run=run)
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu_begin
    return Fit(model, record, evaluate(model, split.test), seconds, cpu_seconds)


def compared(name: str, before: Split, after: Split, seed: int, shares: list[float]) -> dict[str, Any]:
    """One model on one pair of nights."""
    earlier = fit(name, before, seed)
    cold = fit(name, after, seed)
    train = before.train
    artifact = Artifact(name, earlier.model, train.items, train.metadata, train.preprocessing)
    entry: dict[str, Any] = {"seed": seed, "night before": earlier.figures(), "cold": cold.figures()}
    for share in shares:
        fresh = MODELS[name](MODELS[name].Config(), len(after.train.items))
        start = warm_start(fresh, after.train.items, artifact, seed, share)
        warm = fit(name, after, seed, start)
        entry[f"warm, learnt {share}"] = warm.figures() | {
            "items_kept": start.items_kept,
            "items_new": start.items_new,
            "items_gone": start.items_gone,
            "cpu_seconds_to_cold": round(warm.cpu_seconds / cold.cpu_seconds, 3),
            f"test {METRIC} less cold, by user": paired(warm.evaluation, cold.evaluation, METRIC),
        }
    return entry


def main() -> None:
    """Run it, print it, write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--models", nargs="+", default=["mult_dae", "mult_vae"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--learnt", nargs="+", type=float, default=[LEARNT])
    parser.add_argument("--note", default="")
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = sample(BENCHMARKS["ml-1m"].read(given.data)[0], given.users)
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in given.models}
    for seed in given.seeds:
        before, after = nights(data, seed)
        for name in given.models:
            results[name].append(compared(name, before, after, seed, given.learnt))
            print(name, results[name][-1], flush=True)
            content = {
                "data": {"set": "ml-1m", "users": len(data.users), "items": len(data.items)}
                | {"interactions": data.histories.n_interactions},
                "nights": {"rows_to_come": ROWS_TO_COME, "items_to_come": ITEMS_TO_COME, "items_to_go": ITEMS_TO_GO},
                "note": given.note,
                "models": results,
            }
            write("warm_start", content)  # as far as it is: an hour's work is not lost with the last minute


if __name__ == "__main__":
    main()
