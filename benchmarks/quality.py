"""Every model with its defaults on one set; the entries merge into `results/quality_SET.json`, so models may run one by one,
and so may their seeds.

    python -m benchmarks.quality SET [--data FOLDER] [--models NAME ...] [--seeds SEED ...] [--epochs N] [--note TEXT]

On MovieLens 1M EASE is also computed by the textbook formula in numpy (float64 inverse, dense, own ranking and metrics),
sharing nothing with the library but the split. On the two MovieLens sets every model is compared with one reference, pairwise
by user; the reference is fitted again for that.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import RESULTS, Judged, about, fit_and_judge, paired, write_json
from recsys_ae import datasets
from recsys_ae.dataset import Dataset
from recsys_ae.histories import Holdout
from recsys_ae.log import Cleaning, Columns, InteractionLog, read_log
from recsys_ae.models import MODELS
from recsys_ae.preprocessing import Preprocessing
from recsys_ae.split import Split, given, leave_last_out, strong_generalization

PAIRS = Columns(timestamp="no time")  # users and items alone are read
EARLY_STOPPING_USERS = 3_000  # of the validation users, who are all users of a set that is split by events
JUDGED_USERS = 5_000  # of Amazon Beauty's 22,363, where each has one target
LINEAR = [{"name": "sparse_ease"}, {"name": "user_knn"}, {"name": "rp3beta"}]
# what a minute of one core allows
CONV_QUICK = {
    "batch_size": 128, "window": 20, "learning_rate": 0.003, "epochs": 5, "schedule": "cosine",
    "kernel": 3, "dilations": [1, 2, 4], "dropout": 0.5,
}  # fmt: skip
STRONG = ("ndcg@100", "capped_recall@20", "capped_recall@50", "recall@20", "coverage@10")
GIVEN = ("recall@20", "ndcg@20", "ndcg@100", "coverage@10")


@dataclass(frozen=True)
class Benchmark:
    """One set: how it is read from its folder, split by a seed, and judged."""

    read: Callable[[Path], tuple[Dataset, Callable[[int], Split]]]
    protocol: str
    seeds: tuple[int, ...]
    metrics: tuple[str, ...]
    reference: str | None = None  # what all are compared with, pairwise by user
    others: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)  # beside the defaults of every model

    @property
    def entries(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """Model and settings by the entry's name."""
        return {name: (name, {}) for name in MODELS} | self.others


def movielens_small(_: Path) -> tuple[Dataset, Callable[[int], Split]]:
    """Ratings of 4 and more, users of 5 films and more."""
    preprocessing = Preprocessing(min_weight=4.0)
    log = InteractionLog.from_table(datasets.load("movielens-small").events, cleaning=Cleaning(preprocessing, 5))
    data = Dataset.from_log(log, preprocessing)
    return data, lambda seed: strong_generalization(data, seed=seed)


def one_file(name: str, users: int | float, folder: Path) -> tuple[Dataset, Callable[[int], Split]]:
    """A file of user_id, item_id; users of 5 items and more."""
    data = Dataset.from_log(read_log(str(folder / name), PAIRS, Cleaning(min_user_interactions=5)))
    return data, lambda seed: strong_generalization(data, seed=seed, validation_users=users, test_users=users)


def next_event(folder: Path) -> tuple[Dataset, Callable[[int], Split]]:
    """The last event of a user from those before it; a part of the users is judged, all are trained on."""
    data = Dataset.from_log(read_log(str(folder / "events.parquet")))
    return data, lambda seed: fewer_users(leave_last_out(data), seed)


def gowalla(folder: Path) -> tuple[Dataset, Callable[[int], Split]]:
    """LightGCN's files; the data set is the train file."""
    train, test = (Dataset.from_log(read_log(str(folder / f"{side}.parquet"), PAIRS)) for side in ("train", "test"))
    return train, lambda seed: fewer_validation_users(given(train, test, seed=seed), seed)


def fewer_validation_users(split: Split, seed: int) -> Split:
    """Ranking 40,981 items for all users after every epoch would take longer than the epoch."""
    return replace(split, validation=some_users(split.validation, EARLY_STOPPING_USERS, seed))


def fewer_users(split: Split, seed: int) -> Split:
    """The test users are fewer too."""
    return replace(fewer_validation_users(split, seed), test=some_users(split.test, JUDGED_USERS, seed))


def some_users(whole: Holdout, users: int, seed: int) -> Holdout:
    """So many users of a holdout, drawn."""
    rows = np.sort(np.random.default_rng(seed).permutation(len(whole))[:users])
    return whole.take(rows)


BENCHMARKS = {
    "movielens-small": Benchmark(
        movielens_small,
        "strong_generalization, 66 + 66 of 659 users, 0.2 held out",
        (0, 1, 2, 3, 4),
        STRONG,
        "ease",
        {"mult_dae from ease": ("mult_dae", {"pretrain": "ease"})},
    ),
    "ml-1m": Benchmark(
        partial(one_file, "pairs.parquet", 500),
        "strong_generalization, 500 + 500 users, 0.2 held out, users below 5 items dropped",
        (98765, 1, 2),
        STRONG,
        "ease lambda=1000",
        {"ease lambda=1000": ("ease", {"regularisation": 1000.0}), "mult_dae from ease": ("mult_dae", {"pretrain": "ease"})},
    ),
    "gowalla": Benchmark(
        gowalla,
        f"given, refit on whole rows, early stopping on {EARLY_STOPPING_USERS} of the users",
        (0, 1, 2),
        GIVEN,
        # BARS' ItemCF, whose published figures are .1570 recall@20 and .1214 ndcg@20
        others={
            "item_knn as published": ("item_knn", {"neighbours": 100, "similarity": "cosine", "score": "average"}),
            "ensemble with user_knn": ("ensemble", {"members": LINEAR}),
            "mult_dae from als": ("mult_dae", {"pretrain": "als"}),
            # the epochs are those that early stopping finds for mult_dae alone
            "ensemble with user_knn, mult_dae": ("ensemble", {"members": [*LINEAR, {"name": "mult_dae", "epochs": 32}]}),
        },
    ),
    "amazon-beauty": Benchmark(
        partial(one_file, "events.parquet", 0.1), "strong_generalization, 10 % + 10 % of the users, 0.2 held out", (0,), STRONG
    ),
    "amazon-beauty-next": Benchmark(
        next_event,
        f"leave_last_out, every item ranked, {JUDGED_USERS} of the users judged, early stopping on {EARLY_STOPPING_USERS}",
        (0,),
        ("hit_rate@10", "ndcg@10", "hit_rate@50", "coverage@10"),
        others={
            "conv_vae of 5 epochs": ("conv_vae", CONV_QUICK),
            "mult_vae of width 64, 5 epochs": ("mult_vae", {"latent": 64, "epochs": 5}),
        },
    ),
}  # fmt: skip


def independent_ease(split: Split, regularisation: float) -> dict[str, float]:
    """Mean ndcg@100 and capped_recall@20 of the closed form, written out in numpy."""
    x = split.train.histories.matrix.toarray().astype(np.float64)
    p = np.linalg.inv(x.T @ x + regularisation * np.eye(x.shape[1]))
    b = np.eye(x.shape[1]) - p / np.diag(p)
    seen, wanted = split.test.fold_in.matrix.toarray() > 0, split.test.held_out.matrix.toarray() > 0
    scores = np.where(seen, -np.inf, seen @ b)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :100]
    ndcg, recall = [], []
    for ranked, target in zip(order, wanted, strict=True):
        n = int(target.sum())
        gains = [1 / np.log2(place + 2) for place, item in enumerate(ranked) if target[item]]
        ndcg.append(sum(gains) / sum(1 / np.log2(place + 2) for place in range(min(n, 100))))
        recall.append(target[ranked[:20]].sum() / min(n, 20))
    return {"ndcg@100": float(np.mean(ndcg)), "capped_recall@20": float(np.mean(recall))}


def as_json(judged: Judged, metrics: tuple[str, ...]) -> dict[str, Any]:
    """What the result file says of one model on one split."""
    scores = judged.evaluation.scores
    return {
        "metrics": {m: round(scores[m].mean, 5) for m in metrics},
        "se": {m: round(se, 5) for m in metrics if (se := scores[m].se) is not None},
        "best_epoch": judged.record.best_epoch,
        "epochs": judged.record.epochs,
        "precision": judged.record.precision,
        "fit_seconds": round(judged.fit_seconds, 2),
        "cpu_seconds": round(judged.cpu_seconds, 2),
        "peak_bytes": judged.peak_bytes,
    }


def measure(benchmark: Benchmark, entry: str, splits: dict[int, Split], references: dict[int, Judged]) -> dict[str, Any]:
    """One entry: its configuration, and what it reached on every split."""
    name, settings = benchmark.entries[entry]
    by_seed: dict[int, Any] = {}
    for seed, split in splits.items():
        judged = fit_and_judge(name, settings, split, seed)
        by_seed[seed] = as_json(judged, benchmark.metrics)
        if seed in references:
            by_seed[seed]["less_reference"] = {
                m: paired(judged.evaluation, references[seed].evaluation, m) for m in benchmark.metrics[:2]
            }
        if entry == "ease lambda=1000":
            by_seed[seed]["independent"] = independent_ease(split, settings["regularisation"])
        print(entry, seed, by_seed[seed], flush=True)
    return {"model": name, "config": MODELS[name].Config(**settings).model_dump(mode="json"), "seeds": by_seed}


def merge(path: Path, head: dict[str, Any], entry: str, found: dict[str, Any]) -> None:
    """Put one entry into the set's file; the others stay, and so do its other seeds if its configuration is the same.

    All of a file are of the same data and protocol.
    """
    content = json.loads(path.read_text()) if path.exists() else head | {"not_measured": {}, "entries": {}}
    for key, value in head.items():
        if content[key] != value:
            raise SystemExit(f"{path}: its {key} is {content[key]}, this run's {value}; remove the file to begin anew")
    before = content["entries"].get(entry)
    if before and before["config"] == found["config"]:
        found = found | {"seeds": before["seeds"] | {str(seed): run for seed, run in found["seeds"].items()}}
    content["entries"][entry] = found
    content["not_measured"].pop(entry, None)
    write_json(path, content)


def main() -> None:
    """Run what is asked for, print it, merge it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=list(BENCHMARKS))
    parser.add_argument("--data", type=Path, default=Path(), help="folder with the set's Parquet files")
    parser.add_argument("--models", nargs="+", help="all where absent")
    parser.add_argument("--seeds", nargs="+", type=int, help="the set's own where absent")
    parser.add_argument("--epochs", type=int, help="stop the iterated ones after so many; the entry's name says so")
    parser.add_argument("--note", default="", help="what a reader must know of this run")
    arguments = parser.parse_args()
    benchmark = BENCHMARKS[arguments.set]
    if arguments.epochs:
        cut = {f"{name} epochs={arguments.epochs}": (name, {"epochs": arguments.epochs}) for name in arguments.models or ()}
        benchmark = replace(benchmark, others=benchmark.others | cut)
        arguments.models = list(cut)
    wanted = arguments.models or list(benchmark.entries)
    if unknown := set(wanted) - set(benchmark.entries):
        parser.error(f"unknown models {sorted(unknown)}; expected some of {', '.join(benchmark.entries)}")
    data, split = benchmark.read(arguments.data)
    facts = {"users": len(data.users), "items": len(data.items), "interactions": data.histories.n_interactions}
    head = {
        "set": arguments.set,
        "protocol": benchmark.protocol,
        "data": facts | {"digest": data.digest},
        "metrics": list(benchmark.metrics),
        "reference": benchmark.reference,
    }
    splits = {seed: split(seed) for seed in arguments.seeds or benchmark.seeds}
    references: dict[int, Judged] = {}
    if benchmark.reference:
        name, settings = benchmark.entries[benchmark.reference]
        references = {seed: fit_and_judge(name, settings, part, seed) for seed, part in splits.items()}
    for entry in wanted:
        found = measure(benchmark, entry, splits, references)
        merge(RESULTS / f"quality_{arguments.set}.json", head, entry, about("quality") | {"note": arguments.note} | found)


if __name__ == "__main__":
    main()
