"""evaluate: all models on one split -> evaluation.json."""

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

from pipelines.config import RunConfig
from pipelines.ingest import split_dataset
from pipelines.train import Fitted, Report, fit, refit
from recsys_ae.artifact import environment
from recsys_ae.evaluation import Evaluation, evaluate
from recsys_ae.models import Recommender
from recsys_ae.split import Split

SCHEMA = 1


def evaluate_models(config: RunConfig, report: Report | None = None) -> dict[str, Any]:
    """The whole job: log -> split -> fit and judge every model on the test users -> the document."""
    split, counts = split_dataset(config)
    models = {}
    for section in config.models:
        fitted = fit(config, section, split, report)
        models[section.key] = judge_on_test(config, fitted, split, report)
    return document(config, split, counts, models)


def judge_on_test(config: RunConfig, fitted: Fitted, split: Split, report: Report | None = None) -> dict[str, Any]:
    """A model's entry in the document; where the protocol says so it is trained on whole rows first."""
    model = refit(config, fitted, split, report) if split.judged_after_refit else fitted.model
    return _entry(fitted, model, evaluate(model, split.test, config.ks), len(split.train.users))


def document(config: RunConfig, split: Split, counts: dict[str, Any], models: dict[str, Any]) -> dict[str, Any]:
    """What evaluation.json holds."""
    return {
        "schema": SCHEMA,
        "data": {
            "users": len(split.refit.users),
            "items": len(split.refit.items),
            "interactions": split.refit.histories.n_interactions,
            "digest": split.refit.digest,
            "cleaning": counts,
        },
        "split": {
            "kind": split.kind,
            "train_users": len(split.train.users),
            "train_items": len(split.train.items),
            "train_interactions": split.train.histories.n_interactions,
            "validation_users": len(split.validation),
            "test_users": len(split.test),
            "dropped": split.dropped,
        },
        "seed": config.seed,
        "models": models,
        "environment": environment(),
    }


def _entry(fitted: Fitted, model: Recommender, judged: Evaluation, n_users: int) -> dict[str, Any]:
    record = fitted.record
    training = record.seconds.get("training", fitted.seconds)
    rounds = max(record.epochs, 1)
    return {
        "metrics": {name: score.as_json() for name, score in judged.scores.items()},
        "parameters": model.n_parameters,
        "config": {"name": fitted.section.name, **fitted.section.config.model_dump(mode="json")},
        "fit": record.summary(),
        "cost": {
            "fit_seconds": fitted.seconds,
            "fit_users_per_second": n_users * rounds / max(training, 1e-9),
            "score_users_per_second": judged.users / max(judged.score_seconds, 1e-9),
            "peak_rss_bytes": peak_rss_bytes(),
            "seconds": record.seconds,
            "device": record.device,
            "precision": record.precision,
        },
    }


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
