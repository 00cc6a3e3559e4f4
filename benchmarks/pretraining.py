"""What a fit begins with, at several numbers of training users: epochs to a fixed validation ndcg, and the final test ndcg.

    OMP_NUM_THREADS=1 python -m benchmarks.pretraining [SET] [--data FOLDER] [--seeds SEED ...] [--shares SHARE ...]

Two models: mult_dae with one hidden layer (none, layerwise, als, ease) and without (none, als, ease). The aim is nine tenths
of what the random beginning reaches at its best, by seed and share. Differences are by seed, with a t interval over seeds.
Writes `results/pretraining-SET-DATE.json`, after every seed anew.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t

from benchmarks.quality import BENCHMARKS
from benchmarks.record import write
from recsys_ae.evaluation import evaluate
from recsys_ae.models import MODELS
from recsys_ae.split import Split
from recsys_ae.training import RunContext

METRIC = "ndcg@100"
MODELS_AND_BEGINNINGS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "deep": ({"hidden": (128,), "latent": 64, "activation": "tanh"}, ("none", "layerwise", "als", "ease")),
    "linear": ({"latent": 128}, ("none", "als", "ease")),
}


def thinned(split: Split, share: float, seed: int) -> Split:
    """A share of the training users, at least ten."""
    n = len(split.train.users)
    rows = np.sort(np.random.default_rng(seed).permutation(n)[: max(10, round(share * n))])
    return replace(
        split, train=replace(split.train, users=split.train.users.take(rows), histories=split.train.histories.take(rows))
    )


def one(split: Split, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """A fit: its validation curve, its test figure, seconds of all."""
    model = MODELS["mult_dae"](MODELS["mult_dae"].Config(**settings), len(split.train.items))
    begin = time.process_time()
    record = model.fit(
        split.train.histories, validation=split.validation, run=RunContext(seed=seed, device="cpu", precision="float32")
    )
    seconds = time.process_time() - begin
    test = evaluate(model, split.test).scores[METRIC].mean
    return {"validation": [round(v, 5) for v in record.validation], "test": round(test, 5), "cpu_seconds": round(seconds, 2)}


def epochs_to(validation: list[float], aim: float) -> int | None:
    """The first epoch that is as good as `aim`, None where none is."""
    return next((epoch for epoch, value in enumerate(validation, 1) if value >= aim), None)


def summary(found: dict[str, dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """By model, share and beginning: mean test figure, its gain on the random one with a 95 % interval, epochs to the aim."""
    said = {}
    for case, by_seed in found.items():
        base = case.rsplit(" ", 1)[0] + " none"
        differences = [by_seed[seed]["test"] - found[base][seed]["test"] for seed in by_seed]
        n = len(differences)
        half = float(t.ppf(0.975, n - 1) * np.std(differences, ddof=1) / n**0.5) if n > 1 else None
        aims = {seed: 0.9 * max(found[base][seed]["validation"]) for seed in by_seed}
        said[case] = {
            "test": round(float(np.mean([run["test"] for run in by_seed.values()])), 4),
            "less_random": round(float(np.mean(differences)), 4),
            "half_interval": None if half is None else round(half, 4),
            "epochs_to_aim": [epochs_to(by_seed[seed]["validation"], aims[seed]) for seed in by_seed],
            "cpu_seconds": round(float(np.mean([run["cpu_seconds"] for run in by_seed.values()])), 1),
        }
    return said


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", nargs="?", default="movielens-small", choices=("movielens-small", "ml-1m"))
    parser.add_argument("--data", type=Path, default=Path(), help="folder with the set's Parquet files")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--shares", nargs="+", type=float, default=[0.01, 0.05, 0.2, 1.0])
    parser.add_argument("--epochs", type=int, default=30)
    arguments = parser.parse_args()
    data, split = BENCHMARKS[arguments.set].read(arguments.data)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for seed in arguments.seeds:
        for share in arguments.shares:
            part = thinned(split(seed), share, seed)
            for model, (settings, beginnings) in MODELS_AND_BEGINNINGS.items():
                for how in beginnings:
                    run = one(part, settings | {"epochs": arguments.epochs, "pretrain": how}, seed)
                    found.setdefault(f"{model} {share:g} {how}", {})[str(seed)] = run
                    print(model, share, how, seed, run["test"], len(run["validation"]), run["cpu_seconds"], flush=True)
        facts = {"set": arguments.set, "users": len(data.users), "digest": data.digest, "metric": METRIC}
        write("pretraining", facts | {"summary": summary(found), "found": found}, f"-{arguments.set}")


if __name__ == "__main__":
    main()
