"""evaluate: all models on one split, or on each of its windows -> evaluation.json."""

import json
import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines.config import ModelSection, RunConfig
from pipelines.ingest import split_windows
from pipelines.train import Fitted, Report, fit, refit
from recsys_ae.artifact import environment
from recsys_ae.evaluation import Evaluation, evaluate, pooled
from recsys_ae.split import Split, Window
from recsys_ae.training.run import FitRecord

SCHEMA = 1


@dataclass(frozen=True)
class Judged:
    """What a model reached on the test users of one split, and what that cost. The model itself is gone by then."""

    section: ModelSection
    window: Window | None
    record: FitRecord
    evaluation: Evaluation
    parameters: int
    train_users: int
    fit_seconds: float
    peak_rss_bytes: int


def evaluate_models(config: RunConfig, report: Report | None = None) -> dict[str, Any]:
    """The whole job: log -> split -> fit and judge every model on the test users of each window -> the document."""
    splits, counts = split_windows(config)
    judged: dict[str, list[Judged]] = {section.key: [] for section in config.models}
    for section in config.models:
        for place, split in enumerate(splits, 1):
            told = report if len(splits) == 1 else _of_window(report, f"window {place} of {len(splits)}")
            judged[section.key].append(judge_on_test(config, fit(config, section, split, told), split, told))
    return document(config, splits, counts, judged)


def judge_on_test(config: RunConfig, fitted: Fitted, split: Split, report: Report | None = None) -> Judged:
    """A model on the test users; where the protocol says so it is trained on whole rows first."""
    model = refit(config, fitted, split, report) if split.judged_after_refit else fitted.model
    found = evaluate(model, split.test, config.ks)
    return Judged(
        fitted.section,
        split.window,
        fitted.record,
        found,
        model.n_parameters,
        len(split.train.users),
        fitted.seconds,
        peak_rss_bytes(),
    )


def document(
    config: RunConfig, splits: Sequence[Split], counts: dict[str, Any], judged: Mapping[str, Sequence[Judged]]
) -> dict[str, Any]:
    """What evaluation.json holds; of several windows the figures of all test users together, and of each window its own."""
    whole = splits[-1].refit
    return {
        "schema": SCHEMA,
        "data": {
            "users": len(whole.users),
            "items": len(whole.items),
            "interactions": whole.histories.n_interactions,
            "digest": whole.digest,
            "cleaning": counts,
        },
        "split": _sides(splits),
        "seed": config.seed,
        "models": {key: _entry(windows) for key, windows in judged.items()},
        "environment": environment(),
    }


def _sides(splits: Sequence[Split]) -> dict[str, Any]:
    """How large each side is, by window where there are several."""
    if len(splits) > 1:
        windows = [{**_times(split.window), **_sides([split])} for split in splits]
        return {"kind": splits[0].kind, "test_users": sum(len(split.test) for split in splits), "windows": windows}
    split = splits[0]
    sides = {
        "kind": split.kind,
        "train_users": len(split.train.users),
        "train_items": len(split.train.items),
        "train_interactions": split.train.histories.n_interactions,
        "validation_users": len(split.validation),
        "test_users": len(split.test),
        "dropped": split.dropped,
    }
    if split.test.candidates is not None:
        sides |= {"validation_candidates": split.validation.n_candidates, "test_candidates": split.test.n_candidates}
    return sides


def _times(window: Window | None) -> dict[str, int]:
    return asdict(window) if window else {}


def _entry(windows: Sequence[Judged]) -> dict[str, Any]:
    """A model's entry: metrics over the users of all windows, the fit of the last, the costs of all."""
    last, found = windows[-1], pooled([judged.evaluation for judged in windows])
    entry: dict[str, Any] = {
        "metrics": _metrics(found),
        "parameters": last.parameters,
        "config": {"name": last.section.name, **last.section.config.model_dump(mode="json")},
        "fit": last.record.summary(),
    }
    if len(windows) > 1:
        entry["windows"] = [
            {
                **_times(judged.window),
                "users": judged.evaluation.users,
                "metrics": _metrics(judged.evaluation),
                "fit": judged.record.summary(),
            }
            for judged in windows
        ]
    return entry | {"cost": _cost(windows, found)}


def _metrics(found: Evaluation) -> dict[str, Any]:
    return {name: score.as_json() for name, score in found.scores.items()}


def _cost(windows: Sequence[Judged], found: Evaluation) -> dict[str, Any]:
    training = sum(judged.record.seconds.get("training", judged.fit_seconds) for judged in windows)
    fits = [(judged.train_users, fit) for judged in windows for fit in judged.record.members or [judged.record]]
    trained = sum(users * max(fit.epochs, 1) for users, fit in fits)
    parts = windows[-1].record.seconds
    return {
        "fit_seconds": sum(judged.fit_seconds for judged in windows),
        "fit_users_per_second": trained / max(training, 1e-9),
        "score_users_per_second": found.users / max(found.score_seconds, 1e-9),
        "peak_rss_bytes": windows[-1].peak_rss_bytes,
        "seconds": {part: sum(judged.record.seconds[part] for judged in windows) for part in parts},
        "device": windows[-1].record.device,
        "precision": windows[-1].record.precision,
    }


def _of_window(report: Report | None, window: str) -> Report | None:
    """The same report, under a name of its own for each window."""
    return (lambda key, progress: report(f"{key}, {window}", progress)) if report else None


def peak_rss_bytes() -> int:
    """The most memory this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def write_document(content: dict[str, Any], folder: Path) -> Path:
    """`evaluation.json` in the folder, written atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "evaluation.json"
    partial = folder / f".evaluation.json.{os.getpid()}.{time.monotonic_ns()}"
    partial.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
    partial.replace(path)
    return path
