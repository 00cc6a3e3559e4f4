"""RecBole's MultiVAE and Cornac's VAECF beside ours on MovieLens 1M, in an environment of their own.

    make peers                                  makes that environment, .venv-peers; once
    python -m benchmarks.peers speed --data FOLDER [--python PATH] [--threads N] [--rounds N] [--epochs N] [--users N]
    python -m benchmarks.peers quality --data FOLDER [--epochs N] --ours mult_dae ease,regularisation=1000

`speed`: the same architecture (600-200-600, tanh), batch and learning rate for all: seconds of an epoch, each through its own
`fit` after a first one for whatever a process does but once; and of the hundred best items of all users, seen ones left out,
each through its own public way (RecBole's `full_sort_topk`, Cornac's `recommend`, our `rank_top_k`). Cornac has no dropout.

`quality`: RecBole trains for so many epochs on our split's training users; its best ndcg@100 on our validation users, by our
metric from its lists, is what models of ours are timed to. No side's time has validation in it.
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
from scipy.sparse import csr_array, load_npz, save_npz

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
from benchmarks.training import BATCH, HIDDEN, LATENT, SETTINGS
from recsys_ae.ceiling import ceiling
from recsys_ae.evaluation import mean_metric
from recsys_ae.histories import Histories
from recsys_ae.models import MODELS
from recsys_ae.ranking import rank_top_k
from recsys_ae.training import RunContext

HERE = Path(__file__).parent
K, RANKED_AT_ONCE = 100, 500
SEED = 98765  # of the first split in benchmarks/results/quality_ml-1m.json
PEERS = {"RecBole's MultiVAE": "recbole_multivae.py", "Cornac's VAECF": "cornac_vaecf.py"}


def ours(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Seconds of an epoch, and of the hundred best items of all users."""
    train = Histories.from_matrix(csr_array(load_npz(folder / "train.npz")))
    model = MODELS["mult_vae"](MODELS["mult_vae"].Config(**SETTINGS), train.n_items)
    model.fit(train, validation=None, run=RunContext(seed=SEED, device="cpu", stop_after=1))
    begin = time.perf_counter()
    record = model.fit(train, validation=None, run=RunContext(seed=SEED, device="cpu", stop_after=settings["epochs"]))
    fitted = time.perf_counter()
    rank_top_k(model, train, settings["k"])
    ranked = time.perf_counter() - fitted
    return {"epoch": (fitted - begin) / record.epochs, "top_100": ranked, "precision": record.precision}


def ours_to_quality(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """One of our models as far as the target, and what it then reaches on the test users."""
    split = BENCHMARKS["ml-1m"].read(folder)[1](SEED)
    train, validation = split.train.histories, split.validation
    found, model = seconds_to(settings["target"], settings["model"], settings["config"], train, validation, SEED)
    return found | {"test ndcg@100": mean_metric(model, split.test, "ndcg@100")}


SIDES = {"ours": ours, "ours_to_quality": ours_to_quality}


def peer(script: str, folder: Path, settings: dict[str, Any], python: Path) -> dict[str, Any]:
    """A run of another's, in a folder of its own, for what it leaves there."""
    command = [str(python.absolute()), str(HERE / script), json.dumps(settings), str(folder)]
    with tempfile.TemporaryDirectory() as own:
        return run_side(command, settings["threads"], cwd=Path(own))


def asked(arguments: argparse.Namespace, epochs: int) -> dict[str, Any]:
    """What all sides are told."""
    own = {"epochs": arguments.epochs or epochs, "threads": arguments.threads, "k": K, "rank_batch": RANKED_AT_ONCE}
    return SETTINGS | own | {"seed": SEED, "holdouts": []}


def speed(arguments: argparse.Namespace) -> None:
    """All three in turn."""
    some = BENCHMARKS["ml-1m"].read(arguments.data)[0].histories.take(slice(arguments.users)).matrix
    train = Histories.from_matrix(some[:, np.unique(some.indices)])  # RecBole knows no item that nobody met
    settings = asked(arguments, 5)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_npz(folder / "train.npz", train.matrix, compressed=False)
        runs = {what: partial(peer, script, folder, settings, arguments.python) for what, script in PEERS.items()}
        mine = partial(run_side, side("peers", "ours", folder, settings), arguments.threads)
        limit = ceiling(BATCH, HIDDEN, train.n_items)
        rounds = in_turn({"ours": mine} | runs, arguments.rounds)
    comparisons = [
        Comparison(
            f"{label} of MovieLens 1M, beside {other}", "s", median(rounds["ours"], key), median(rounds[other], key), 1 / 3
        )
        for other in PEERS
        for label, key in (("an epoch", "epoch"), ("top 100 of all users", "top_100"))
    ]
    found = {
        "reference": " and ".join(PEERS),
        "seed": SEED,
        "users": len(train),
        "items": train.n_items,
        "settings": settings,
        "ceiling": limit.as_json(),
        "floor": epoch_floor(limit, len(train), train.n_items, HIDDEN, LATENT, BATCH).reached(comparisons[0].ours),
        "rounds": rounds,
    }
    report("peers", arguments.threads, comparisons, found, keep=arguments.users is None)


def quality(arguments: argparse.Namespace) -> None:
    """RecBole's best ndcg@100 on our validation users, and what ours take to it."""
    split = BENCHMARKS["ml-1m"].read(arguments.data)[1](SEED)
    holdouts = {"validation": split.validation, "test": split.test}
    settings = asked(arguments, 100) | {"holdouts": list(holdouts)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part, histories in ({"train": split.train.histories} | {n: h.fold_in for n, h in holdouts.items()}).items():
            save_npz(folder / f"{part}.npz", histories.matrix, compressed=False)
        seconds = peer(PEERS["RecBole's MultiVAE"], folder, settings, arguments.python)["epochs"]
        lists = np.load(folder / "lists.npz")
        theirs = {n: [ndcg_100(ranked, holdout) for ranked in lists[n]] for n, holdout in holdouts.items()}
    best = int(np.argmax(theirs["validation"]))
    target, taken = theirs["validation"][best], sum(seconds[: best + 1])
    models = []
    for model, config in arguments.ours:
        own = {"threads": arguments.threads, "target": target, "model": model, "config": config}
        models.append(run_side(side("peers", "ours_to_quality", arguments.data, own), arguments.threads))
    comparisons = to_target("MovieLens 1M, to RecBole's best ndcg@100", models, target, taken, 0.1)
    found = {
        "reference": "RecBole's MultiVAE",
        "seed": SEED,
        "users": len(split.train.users),
        "settings": settings,
        "theirs": {"best_epoch": best + 1, "test ndcg@100": theirs["test"][best], "ndcg@100": theirs["validation"]},
        "ours": models,
        "rounds": {"epochs": seconds},
    }
    report("peers", arguments.threads, comparisons, found, "-quality")


def main() -> None:
    """One of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "quality"])
    parser.add_argument("--data", type=Path, required=True, help="folder with MovieLens 1M's pairs.parquet")
    parser.add_argument("--python", type=Path, default=Path(".venv-peers/bin/python"), help="of the peers' environment")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="5 for speed, 100 for quality")
    parser.add_argument("--users", type=int, help="of `speed`: the first ones alone; a trial, not written")
    parser.add_argument("--ours", type=model_settings, nargs="+", default=[("mult_dae", {})], metavar="MODEL[,KEY=VALUE...]")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    {"speed": speed, "quality": quality}[arguments.what](arguments)


if __name__ == "__main__":
    if not answer(SIDES):
        main()
