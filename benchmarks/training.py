"""An epoch of Mult-VAE (600-200-600) on Gowalla's train file beside a straightforward dense PyTorch loop: time and memory.

    python -m benchmarks.training --data FOLDER [--threads N] [--rounds N] [--epochs N] [--users N]
    python -m benchmarks.training --data FOLDER --to-quality N --ours mult_dae ease,regularisation=500

The loop is the one that ports of Liang et al.'s reference to PyTorch have: rows made dense from scipy's CSR in every batch,
nn.Linear, log_softmax, Adam as it comes. Each side is a process of its own; its memory is what it holds above the interpreter
after imports. `--to-quality` runs the loop for N epochs, and then times models of ours until their ndcg@100 on the same
validation users is its best one. No side's time has validation in it.
"""

import argparse
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array, load_npz, save_npz
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.compare import (
    Comparison,
    answer,
    in_turn,
    median,
    model_settings,
    ndcg_100,
    report,
    run_side,
    seconds_to,
    side,
    to_target,
)
from benchmarks.floor import epoch_floor
from benchmarks.quality import BENCHMARKS
from benchmarks.record import forget_peak, peak_bytes
from recsys_ae.ceiling import ceiling
from recsys_ae.histories import Histories, Holdout
from recsys_ae.models import MODELS
from recsys_ae.training import RunContext

HIDDEN, LATENT, DROPOUT, BATCH, LEARNING_RATE = 600, 200, 0.5, 500, 1e-3
BETA, ANNEALING_STEPS = 0.2, 200_000  # of the dense loop: the port's own
SEED = 0
SETTINGS = {
    "hidden": [HIDDEN],
    "latent": LATENT,
    "activation": "tanh",
    "tied": False,
    "target": "all",
    "dropout": DROPOUT,
    "batch_size": BATCH,
    "learning_rate": LEARNING_RATE,
}


class DenseMultVAE(nn.Module):
    """Liang et al.'s Mult-VAE on dense rows (B, I)."""

    def __init__(self, n_items: int) -> None:
        super().__init__()
        self.encoder = nn.ModuleList([nn.Linear(n_items, HIDDEN), nn.Linear(HIDDEN, 2 * LATENT)])
        self.decoder = nn.ModuleList([nn.Linear(LATENT, HIDDEN), nn.Linear(HIDDEN, n_items)])
        for layer in (*self.encoder, *self.decoder):
            nn.init.xavier_normal_(layer.weight)
            nn.init.normal_(layer.bias, std=1e-3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, means and log variances."""
        h = F.dropout(F.normalize(x), DROPOUT, self.training)
        mean, log_variance = self.encoder[1](torch.tanh(self.encoder[0](h))).chunk(2, 1)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance) if self.training else mean
        return self.decoder[1](torch.tanh(self.decoder[0](z))), mean, log_variance


class DenseLoop:
    """The reference's training."""

    def __init__(self, matrix: csr_array) -> None:
        torch.manual_seed(SEED)
        self.matrix, self.model, self.steps = matrix, DenseMultVAE(matrix.shape[1]), 0
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE)
        self.rng = np.random.default_rng(SEED)

    def epoch(self) -> float:
        """Seconds of one more epoch."""
        begin = time.perf_counter()
        self.model.train()
        order = self.rng.permutation(self.matrix.shape[0])
        for start in range(0, len(order), BATCH):
            x = torch.from_numpy(self.matrix[order[start : start + BATCH]].toarray())
            logits, mean, log_variance = self.model(x)
            likelihood = (F.log_softmax(logits, 1) * x).sum(1).mean()
            divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1).mean()
            loss = BETA * min(1.0, self.steps / ANNEALING_STEPS) * divergence - likelihood
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            self.steps += 1
        return time.perf_counter() - begin

    @torch.no_grad()
    def ndcg_100(self, holdout: Holdout) -> float:
        """On held-out users."""
        self.model.eval()
        lists, rows = [], holdout.fold_in.matrix
        for start in range(0, rows.shape[0], BATCH):
            x = torch.from_numpy(rows[start : start + BATCH].toarray())
            lists.append(self.model(x)[0].masked_fill_(x > 0, -torch.inf).topk(100).indices.numpy().astype(np.int32))
        return ndcg_100(np.concatenate(lists), holdout)


def dense(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The reference's epochs."""
    forget_peak()
    before = peak_bytes()
    loop = DenseLoop(csr_array(load_npz(folder / "train.npz")))
    seconds = [loop.epoch() for _ in range(settings["epochs"])]
    return {"seconds": sum(seconds) / len(seconds), "bytes": _above(before)}


def ours(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """As many of ours, through the public fit."""
    forget_peak()
    before = peak_bytes()
    train = Histories.from_matrix(load_npz(folder / "train.npz"))
    model = MODELS["mult_vae"](MODELS["mult_vae"].Config(**SETTINGS), train.n_items)
    begin = time.perf_counter()
    record = model.fit(train, validation=None, run=RunContext(seed=SEED, device="cpu", stop_after=settings["epochs"]))
    whole = time.perf_counter() - begin
    seconds = record.seconds["training"] / record.epochs
    return {"seconds": seconds, "bytes": _above(before), "whole_fit": whole, "precision": record.precision}


def to_quality(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The reference's seconds inside training and ndcg@100 on the validation users after each epoch."""
    train, validation = validated(folder, settings)
    loop = DenseLoop(train.matrix)
    seconds, qualities = [], []
    for epoch in range(settings["epochs"]):
        seconds.append(loop.epoch())
        qualities.append(loop.ndcg_100(validation))
        print(f"dense: epoch {epoch + 1}, {sum(seconds):.1f} s, ndcg@100 {qualities[-1]:.4f}", file=sys.stderr, flush=True)
    return {"seconds": seconds, "ndcg@100": qualities}


def ours_to_quality(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """One of our models as far as the target."""
    train, validation = validated(folder, settings)
    found, _ = seconds_to(settings["target"], settings["model"], settings["config"], train, validation, SEED)
    return found


def validated(folder: Path, settings: dict[str, Any]) -> tuple[Histories, Holdout]:
    """Training rows and validation users of the split in benchmarks/quality.py."""
    split, some = BENCHMARKS["gowalla"].read(folder)[1](SEED), slice(settings["users"])
    whole = split.validation
    users = whole.users.take(np.arange(len(whole))[some])
    return split.train.histories.take(some), Holdout(users, whole.fold_in.take(some), whole.held_out.take(some))


EPOCHS = {"dense": dense, "ours": ours}
SIDES = EPOCHS | {"to_quality": to_quality, "ours_to_quality": ours_to_quality}


def _above(before: int | None) -> int:
    """Bytes of the peak above what was held before; 0 where nobody counts."""
    return (peak_bytes() or 0) - (before or 0)


def epochs(arguments: argparse.Namespace) -> None:
    """Both sides in turn."""
    train = BENCHMARKS["gowalla"].read(arguments.data)[0].histories.take(slice(arguments.users))
    settings = {"threads": arguments.threads, "epochs": arguments.epochs}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_npz(folder / "train.npz", train.matrix, compressed=False)
        runs = {s: partial(run_side, side("training", s, folder, settings), arguments.threads) for s in EPOCHS}
        limit = ceiling(BATCH, HIDDEN, train.n_items)
        rounds = in_turn(runs, arguments.rounds)
    mine, theirs = rounds["ours"], rounds["dense"]
    comparisons = [
        Comparison("Mult-VAE, an epoch of Gowalla", "s", median(mine, "seconds"), median(theirs, "seconds"), 0.4),
        Comparison("Mult-VAE on Gowalla, memory", "MiB", median(mine, "bytes") / 2**20, median(theirs, "bytes") / 2**20, 0.75),
    ]
    floor = epoch_floor(limit, len(train), train.n_items, HIDDEN, LATENT, BATCH)
    found = {
        "reference": "dense PyTorch loop",
        "seed": SEED,
        "users": len(train),
        "items": train.n_items,
        "config": SETTINGS,
        "ceiling": limit.as_json(),
        "floor": floor.reached(comparisons[0].ours),
        "rounds": rounds,
    }
    report("training", arguments.threads, comparisons, found, keep=arguments.users is None)


def qualities(arguments: argparse.Namespace) -> None:
    """The dense loop's best validation ndcg@100, and what ours take to it."""
    settings = {"threads": arguments.threads, "users": arguments.users, "epochs": arguments.to_quality}

    def run(name: str, **more: Any) -> dict[str, Any]:
        return run_side(side("training", name, arguments.data, settings | more), arguments.threads)

    theirs = run("to_quality")
    best = int(np.argmax(theirs["ndcg@100"]))
    target, taken = theirs["ndcg@100"][best], sum(theirs["seconds"][: best + 1])
    models = [run("ours_to_quality", target=target, model=name, config=config) for name, config in arguments.ours]
    found = {
        "reference": "dense PyTorch loop",
        "seed": SEED,
        "settings": settings,
        "theirs": {"best_epoch": best + 1} | theirs,
        "ours": models,
    }
    comparisons = to_target("Gowalla, to the loop's best ndcg@100", models, target, taken, 0.2)
    report("training", arguments.threads, comparisons, found, "-to_quality", arguments.users is None)


def main() -> None:
    """One of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with Gowalla's train.parquet and test.parquet")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=1, help="of each run; the figure is their mean")
    parser.add_argument("--users", type=int, help="the first ones alone: a trial, not written")
    parser.add_argument("--to-quality", type=int, metavar="EPOCHS")
    parser.add_argument("--ours", type=model_settings, nargs="+", default=[("mult_dae", {})], metavar="MODEL[,KEY=VALUE...]")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    (qualities if arguments.to_quality else epochs)(arguments)


if __name__ == "__main__":
    if not answer(SIDES):
        main()
