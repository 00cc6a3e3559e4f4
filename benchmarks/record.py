"""What every benchmark shares: about the run, fit and judge models on a split, compare pairwise by user, write a result."""

import json
import platform
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from recsys_ae.artifact import processor
from recsys_ae.evaluation import Evaluation, evaluate, summarise
from recsys_ae.models import MODELS
from recsys_ae.split import Split
from recsys_ae.training import FitRecord, RunContext
from recsys_ae.training.run import Progress

RESULTS = Path(__file__).parent / "results"


def machine() -> str:
    """The processor's name, with its number of threads in use."""
    return f"{processor()}, {torch.get_num_threads()} threads"


def about(name: str) -> dict[str, str]:
    """Date, machine, versions and command of this run."""
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "command": " ".join(["python -m", f"benchmarks.{name}", *(Path(a).name if "/" in a else a for a in sys.argv[1:])]),
    }


@dataclass(frozen=True, eq=False)
class Judged:
    """A model on the test users of one split, with what fitting it took."""

    evaluation: Evaluation
    record: FitRecord
    fit_seconds: float
    cpu_seconds: float  # of the fit, all threads together: what it took, however busy the machine was
    peak_bytes: int | None


def fit_and_judge(name: str, settings: dict[str, Any], split: Split, seed: int) -> Judged:
    """One model fitted on the training part and judged on the test users; refitted on whole rows where the protocol asks.

    The refit takes the number of epochs that early stopping found, and its time counts; a model without early stopping is
    fitted on the whole rows alone.
    """
    config = MODELS[name].Config(**settings)
    model = MODELS[name](config, len(split.train.items))
    record = FitRecord()
    forget_peak()
    begin, cpu_begin = time.perf_counter(), time.process_time()
    if not split.judged_after_refit or {"patience", "weights"} & set(type(config).model_fields):
        run = RunContext(seed=seed, progress=_show)
        record = model.fit(split.train.histories, validation=split.validation, run=run)
    if split.judged_after_refit:
        run = RunContext(seed=seed, progress=_show, stop_after=record.best_epoch or None, found=record)
        model.fit(split.refit.histories, validation=None, run=run)
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu_begin
    peak = peak_bytes()
    return Judged(evaluate(model, split.test), record, seconds, cpu_seconds, peak)


def _show(progress: Progress) -> None:
    print(f"  {progress}", file=sys.stderr, flush=True)


def forget_peak() -> None:
    """Let the kernel count this process' peak memory from now on, where it can."""
    counter = Path("/proc/self/clear_refs")
    if counter.exists():
        counter.write_text("5")


def peak_bytes() -> int | None:
    """The most bytes that this process has held since, None where nobody counts."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), None)


def paired(ours: Evaluation, reference: Evaluation, metric: str) -> dict[str, float]:
    """Mean difference over users with its standard error."""
    score = summarise(ours.per_user[metric] - reference.per_user[metric])
    return {"mean": round(score.mean, 5), "se": round(score.se or 0.0, 5)}


def write(name: str, content: dict[str, Any], variant: str = "") -> Path:
    """`results/NAME[VARIANT]-DATE.json`."""
    facts = about(name)
    return write_json(RESULTS / f"{name}{variant}-{facts['date']}.json", facts | content)


def write_json(path: Path, content: dict[str, Any]) -> Path:
    """The result file, written whole or not at all."""
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    partial.replace(path)
    print(f"written to {path}")
    return path
