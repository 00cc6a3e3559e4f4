"""What every benchmark shares: fit and judge models on a split, compare pairwise by user, write a dated result."""

import json
import platform
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recsys_ae.evaluation import Evaluation, evaluate, summarise
from recsys_ae.models import MODELS
from recsys_ae.split import Split
from recsys_ae.training import RunContext

RESULTS = Path(__file__).parent / "results"


def processor() -> str:
    """The processor's name, with its number of threads in use."""
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return f"{names[0] if names else platform.processor()}, {torch.get_num_threads()} threads"


def fit_and_judge(name: str, settings: dict[str, Any], split: Split, seed: int) -> tuple[Evaluation, dict[str, Any]]:
    """One model fitted on the training part and judged on the test users, with its costs."""
    model = MODELS[name](MODELS[name].Config(**settings), len(split.train.items))
    begin = time.perf_counter()
    record = model.fit(split.train.histories, validation=split.validation, run=RunContext(seed=seed))
    seconds = time.perf_counter() - begin
    costs = {"fit_seconds": round(seconds, 2), "best_epoch": record.best_epoch, "precision": record.precision}
    return evaluate(model, split.test), costs


def paired(ours: Evaluation, reference: Evaluation, metric: str) -> dict[str, float]:
    """Mean difference over users with its standard error."""
    score = summarise(ours.per_user[metric] - reference.per_user[metric])
    return {"mean": round(score.mean, 5), "se": round(score.se or 0.0, 5)}


def table(rows: dict[str, dict[int, Evaluation]], metrics: tuple[str, ...]) -> dict[str, Any]:
    """Mean over seeds of each metric, and the figure of each seed."""
    found: dict[str, Any] = {}
    for name, by_seed in rows.items():
        found[name] = {}
        for metric in metrics:
            values = {seed: round(e.scores[metric].mean, 5) for seed, e in by_seed.items()}
            found[name][metric] = {"mean": round(float(np.mean(list(values.values()))), 5), "by_seed": values}
    return found


def write(name: str, content: dict[str, Any]) -> Path:
    """`results/NAME-DATE.json`."""
    RESULTS.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    path = RESULTS / f"{name}-{now:%Y-%m-%d}.json"
    about = {
        "date": f"{now:%Y-%m-%d}",
        "machine": processor(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "command": " ".join(["python -m", f"benchmarks.{name}", *(Path(a).name if "/" in a else a for a in sys.argv[1:])]),
    }
    path.write_text(json.dumps(about | content, indent=1) + "\n")
    print(f"written to {path}")
    return path
