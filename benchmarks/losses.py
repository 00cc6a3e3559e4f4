"""Every loss under the same budget: one model, the same epochs, keys and splits, `loss` alone differs.

    OMP_NUM_THREADS=1 python -m benchmarks.losses SET [--data FOLDER] [--models NAME ...] [--seeds SEED ...] [--epochs N]

Writes `results/losses-SET-DATE.json`, after every seed anew, and the table of docs/losses.md to the terminal.
"""

import argparse
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

from benchmarks.pages import rows
from benchmarks.quality import BENCHMARKS
from benchmarks.record import fit_and_judge, write
from recsys_ae.training.loss import Likelihood

METRICS = ("ndcg@100", "capped_recall@20", "coverage@10")


def table(found: dict[str, dict[str, Any]]) -> str:
    """Means over the seeds."""
    cells = [["model", "loss", *METRICS, "epoch", "CPU time of the fit"]]
    for name, runs in found.items():
        means = [f"{fmean(run[m] for run in runs.values()):.4f}" for m in METRICS]
        epochs = sorted({run["best_epoch"] for run in runs.values()})
        seconds = fmean(run["cpu_seconds"] for run in runs.values())
        cells.append(
            [
                *(f"`{part}`" for part in name.split()),
                *means,
                " to ".join(map(str, dict.fromkeys((epochs[0], epochs[-1])))),
                f"{seconds:.1f} s",
            ]
        )
    return rows(cells)


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=("movielens-small", "ml-1m"))
    parser.add_argument("--data", type=Path, default=Path(), help="folder with the set's Parquet files")
    parser.add_argument("--models", nargs="+", default=["mult_dae", "mult_vae"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--latent", type=int, default=128)
    arguments = parser.parse_args()
    data, split = BENCHMARKS[arguments.set].read(arguments.data)
    budget = {"epochs": arguments.epochs, "latent": arguments.latent}
    found: dict[str, dict[str, Any]] = {}
    for seed in arguments.seeds:
        part = split(seed)
        for model in arguments.models:
            for loss in get_args(Likelihood):
                judged = fit_and_judge(model, budget | {"loss": loss}, part, seed)
                facts = {"best_epoch": judged.record.best_epoch, "cpu_seconds": round(judged.cpu_seconds, 2)}
                metrics = {m: round(judged.evaluation.scores[m].mean, 5) for m in METRICS}
                found.setdefault(f"{model} {loss}", {})[str(seed)] = metrics | facts
                print(model, loss, seed, metrics | facts, flush=True)
        said: dict[str, Any] = {
            "set": arguments.set,
            "users": len(data.users),
            "digest": data.digest,
            "budget": budget,
            "found": found,
        }
        write("losses", said, f"-{arguments.set}")
    print(table(found))


if __name__ == "__main__":
    main()
