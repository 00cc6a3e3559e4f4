"""evaluate() of a Mult-DAE of 512 and of ALS of 64 on all Gowalla users beside a plain loop over batches with the same metrics.

    python -m benchmarks.evaluation --data FOLDER [--threads N] [--rounds N] [--users N]

The loop scores by model.score, masks, takes torch.topk(100), and computes each metric in numpy from dense rows of what is held
out, as notebooks do. Both sides judge the same model on the split's test part, and their means are compared.
"""

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from scipy.sparse import csr_array, load_npz, save_npz

from benchmarks.compare import Comparison, answer, in_turn, median, report, run_side, side
from benchmarks.floor import ranking_floor
from benchmarks.quality import BENCHMARKS
from recsys_ae.ceiling import ceiling
from recsys_ae.evaluation import evaluate
from recsys_ae.histories import Histories, Holdout
from recsys_ae.ids import IdMap
from recsys_ae.models import MODELS, Recommender
from recsys_ae.products import limit_threads
from recsys_ae.split import Split
from recsys_ae.training import RunContext

KS = (10, 20, 50, 100)
BATCH, SEED = 500, 0
# Fitted as they would be, but shorter: how much of the catalogue can be skipped depends on it.
JUDGED: dict[str, tuple[int, dict[str, Any]]] = {"mult_dae": (512, {"latent": 512, "epochs": 8}), "als": (64, {"factors": 64})}


def plain(model: Recommender, holdout: Holdout) -> dict[str, float]:
    """The loop: the mean of every metric at every k."""
    found: dict[str, list[NDArray[np.float64]]] = {}
    seen, wanted = holdout.fold_in.matrix, holdout.held_out.matrix
    for start in range(0, len(holdout), BATCH):
        block = slice(start, start + BATCH)
        scores = model.score(holdout.fold_in.take(block))
        scores[torch.from_numpy(seen[block].toarray() > 0)] = -torch.inf
        order = torch.topk(scores, max(KS)).indices.numpy()
        hits = np.take_along_axis(wanted[block].toarray() > 0, order, 1)
        for name, values in measures(hits, holdout.held_out.lengths[block]).items():
            found.setdefault(name, []).append(values)
    return {name: float(np.concatenate(values).mean()) for name, values in found.items()}


def measures(hits: NDArray[np.bool_], n: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Per user: every metric of ours at every k."""
    found = {}
    for k in KS:
        cut, ranks = hits[:, :k], np.arange(1, k + 1)
        gains = 1 / np.log2(ranks + 1)
        found |= {
            f"recall@{k}": cut.sum(1) / n,
            f"capped_recall@{k}": cut.sum(1) / np.minimum(n, k),
            f"ndcg@{k}": (cut * gains).sum(1) / np.array([gains[: min(m, k)].sum() for m in n]),
            f"precision@{k}": cut.mean(1),
            f"hit_rate@{k}": cut.any(1).astype(np.float64),
            f"map@{k}": (cut * np.cumsum(cut, 1) / ranks).sum(1) / n,
            f"mrr@{k}": (cut / ranks).max(1),
        }
    return found


def judge(what: str, folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """One side."""
    fold_in, held_out = (Histories.from_matrix(csr_array(load_npz(folder / f"{part}.npz"))) for part in ("fold_in", "held_out"))
    holdout = Holdout(IdMap.of(range(len(fold_in))), fold_in, held_out)
    kind = MODELS[settings["model"]]
    model = kind(kind.Config(**JUDGED[settings["model"]][1]), fold_in.n_items)
    model.restore(load_file(folder / "model.safetensors"))
    begin = time.perf_counter()
    means = plain(model, holdout) if what == "plain" else {n: s.mean for n, s in evaluate(model, holdout, KS).scores.items()}
    seconds = time.perf_counter() - begin
    (folder / f"{what}.json").write_text(json.dumps(means))
    return {"seconds": seconds}


SIDES = {"ours": partial(judge, "ours"), "plain": partial(judge, "plain")}


def main() -> None:
    """Each model by both sides, their means compared."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with Gowalla's train.parquet and test.parquet")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--users", type=int, help="the first ones alone: a trial, not written")
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    split = BENCHMARKS["gowalla"].read(arguments.data)[1](SEED)
    some = slice(arguments.users)
    with tempfile.TemporaryDirectory() as name:
        for part in ("fold_in", "held_out"):
            save_npz(Path(name) / f"{part}.npz", getattr(split.test, part).take(some).matrix, compressed=False)
        compared = {model: compare(model, split, Path(name), arguments) for model in JUDGED}
    found = {
        "reference": "plain loop over batches",
        "seed": SEED,
        "users": len(split.test.fold_in.take(some)),
        "items": split.test.n_items,
        "floor": compared["mult_dae"][1].pop("floor"),  # of the first comparison
        "models": {model: facts for model, (_, facts) in compared.items()},
    }
    report("evaluation", arguments.threads, [one for one, _ in compared.values()], found, keep=arguments.users is None)


def compare(model: str, split: Split, folder: Path, arguments: argparse.Namespace) -> tuple[Comparison, dict[str, Any]]:
    """One model: both sides in turn, and what else is known of it."""
    width, settings = JUDGED[model]
    users, items = len(split.test.fold_in.take(slice(arguments.users))), split.test.n_items
    fitted = MODELS[model](MODELS[model].Config(**settings), items)
    fitted.fit(split.train.histories, validation=None, run=RunContext(seed=SEED, device="cpu"))
    save_file(fitted.tensors(), folder / "model.safetensors")
    about = {"threads": arguments.threads, "model": model}
    runs = {s: partial(run_side, side("evaluation", s, folder, about), arguments.threads) for s in SIDES}
    limit = ceiling(1_000, width, items)
    rounds = in_turn(runs, arguments.rounds)
    mine, theirs = (json.loads((folder / f"{s}.json").read_text()) for s in SIDES)
    what = f"evaluate() on all Gowalla users, {model} {width} wide"
    comparison = Comparison(what, "s", median(rounds["ours"], "seconds"), median(rounds["plain"], "seconds"), 0.5)
    return comparison, {
        "largest_difference_of_means": max(abs(mine[name] - theirs[name]) for name in theirs),
        "ceiling": limit.as_json(),
        "floor": ranking_floor(limit, users, items, width).reached(comparison.ours),
        "rounds": rounds,
    }


if __name__ == "__main__":
    if not answer(SIDES):
        main()
