"""What comparisons share: each side in a process of its own and in turn, costs beside each other, and the way to a quality."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.record import write
from recsys_ae.evaluation import mean_metric
from recsys_ae.histories import Histories, Holdout
from recsys_ae.metrics import ndcg
from recsys_ae.models import MODELS, Recommender
from recsys_ae.ranking import Ranking, hits
from recsys_ae.training import RunContext
from recsys_ae.training.device import resolve_precision
from recsys_ae.training.run import Progress

Side = Callable[[Path, dict[str, Any]], dict[str, Any]]
"""(folder with the data, settings) -> what it took."""


@dataclass(frozen=True)
class Comparison:
    """A cost of ours and of another's, less is better; `goal` is the most that ours over theirs should be."""

    what: str
    unit: str
    ours: float
    theirs: float
    goal: float

    @property
    def ratio(self) -> float:
        """Ours over theirs."""
        return self.ours / self.theirs

    def as_json(self) -> dict[str, Any]:
        """As the result file has it."""
        return asdict(self) | {"ratio": round(self.ratio, 4)}

    def __str__(self) -> str:
        return (
            f"{self.what}: ours {self.ours:.4g} {self.unit}, theirs {self.theirs:.4g} {self.unit}, "
            f"ratio {self.ratio:.3f} (goal: at most {self.goal:.3g})"
        )


def report(
    name: str, threads: int, comparisons: Sequence[Comparison], found: dict[str, Any], part: str = "", keep: bool = True
) -> None:
    """Print what was found and, unless it was a trial, write it; each part, number of threads and kind of processor has a file
    of its own."""
    for comparison in comparisons:
        print(comparison)
    print(json.dumps({key: value for key, value in found.items() if key != "rounds"}, indent=1))
    if keep:
        narrow = resolve_precision("auto", torch.device("cpu")) == torch.bfloat16
        compared = {"threads": threads, "bfloat16": narrow, "comparisons": [comparison.as_json() for comparison in comparisons]}
        write(name, compared | found, variant=f"{part}-threads{threads}{'' if narrow else '-float32'}")


def answer(sides: Mapping[str, Side]) -> bool:
    """Where this process was started as one side: be it, print what it took, and say so."""
    if sys.argv[1:2] != ["--side"]:
        return False
    _, _, name, folder, settings = sys.argv
    asked = json.loads(settings)
    torch.set_num_threads(asked["threads"])
    print(json.dumps(sides[name](Path(folder), asked)))
    return True


def side(module: str, name: str, folder: Path, settings: dict[str, Any]) -> list[str]:
    """The command that makes a process one side, for `answer`."""
    return [sys.executable, "-m", f"benchmarks.{module}", "--side", name, str(folder), json.dumps(settings)]


def run_side(command: Sequence[str], threads: int, cwd: Path | None = None) -> dict[str, Any]:
    """Run one side; the last line that it prints is what it found."""
    limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))  # before any import
    done = subprocess.run(command, cwd=cwd, env=os.environ | limits, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def in_turn(runs: Mapping[str, Callable[[], dict[str, Any]]], rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Every side once a round, so that what else the machine does falls on all alike."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            found[name].append(run())
            print(f"{name}: {found[name][-1]}", file=sys.stderr, flush=True)
    return found


def median(rounds: Sequence[Mapping[str, Any]], key: str) -> float:
    """Of one figure over a side's rounds."""
    return statistics.median(found[key] for found in rounds)


def ndcg_100(items: NDArray[np.int32], holdout: Holdout) -> float:
    """Mean ndcg@100 of lists (U, 100), by whomever."""
    ranking = Ranking(items, np.zeros(items.shape, np.float32))
    return float(ndcg(hits(ranking, holdout.held_out), holdout.held_out.lengths, 100).mean())


def model_settings(text: str) -> tuple[str, dict[str, Any]]:
    """`NAME,key=value,...`: a model of ours and its settings, values in JSON where they are."""
    name, *pairs = text.split(",")
    if name not in MODELS:
        raise argparse.ArgumentTypeError(f"model {name!r} is unknown; expected one of {', '.join(MODELS)}")
    settings = dict(pair.partition("=")[::2] for pair in pairs)
    return name, {key: _value(text) for key, text in settings.items()}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


class _Reached(Exception):  # noqa: N818 - no error
    """Ends the fit that looks for the epoch."""


def seconds_to(
    target: float, name: str, settings: dict[str, Any], train: Histories, validation: Holdout, seed: int
) -> tuple[dict[str, Any], Recommender]:
    """The whole fit that brings a model's validation ndcg@100 to `target`, timed without any validation; and the model.

    A first fit finds the epoch; the second repeats it by the same seed as far as that. Where the target is not reached, the
    best epoch is timed, and `ndcg@100` says what it gave.
    """
    config = MODELS[name].Config(**settings)
    epoch = None
    if "patience" in type(config).model_fields:
        epoch = _epoch_reaching(target, MODELS[name](config, train.n_items), train, validation, seed)
    model = MODELS[name](config, train.n_items)
    begin = time.perf_counter()
    record = model.fit(train, validation=None, run=RunContext(seed=seed, device="cpu", stop_after=epoch))
    seconds = time.perf_counter() - begin
    found = {
        "model": name,
        "config": config.model_dump(mode="json"),
        "epochs": record.epochs,
        "precision": record.precision,
        "seconds": seconds,
        "seconds_in_training": record.seconds["training"],
        "ndcg@100": mean_metric(model, validation, "ndcg@100"),
    }
    return found, model


def to_target(what: str, models: Sequence[dict[str, Any]], target: float, theirs: float, goal: float) -> list[Comparison]:
    """What `seconds_to` found of models that reached the target, beside the other's seconds to it."""
    return [
        Comparison(f"{found['model']} on {what}", "s", found["seconds"], theirs, goal)
        for found in models
        if found["ndcg@100"] >= target
    ]


def _epoch_reaching(target: float, model: Recommender, train: Histories, validation: Holdout, seed: int) -> int:
    """The first epoch whose validation is at least `target`, else the best one."""
    last = 0

    def watch(progress: Progress) -> None:
        nonlocal last
        last = progress.epoch
        print(f"  {progress}", file=sys.stderr, flush=True)
        if progress.validation is not None and progress.validation >= target:
            raise _Reached

    try:
        return model.fit(train, validation=validation, run=RunContext(seed=seed, device="cpu", progress=watch)).best_epoch
    except _Reached:
        return last
