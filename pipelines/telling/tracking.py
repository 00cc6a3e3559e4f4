"""MLflow: one run for each night and for each `train`, with settings, figures, curves, report and model.

The package comes with the extra `mlflow` and is imported where it is used. It sends nothing home: its telemetry is off.
"""

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pipelines.config import RunConfig, TrackingSection
from pipelines.telling.record import NightRecord
from pipelines.train import Published
from recsys_ae import __version__
from recsys_ae.artifact import MANIFEST
from recsys_ae.errors import RecsysError
from recsys_ae.registry import Registry
from recsys_ae.sealed import content_digest, read_sealed

SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # of a server that is down; seven by default, minutes of every request
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
"""What MLflow reads from the environment; but for telemetry, what the environment says already stands."""
KEY = "recsys_ae.key"
"""The tag by which a night that is run again finds its run."""
MOST_METRICS, MOST_PARAMS = 1000, 100
"""Of one request."""


@dataclass(frozen=True)
class Entry:
    """What is logged: settings, figures, lists with one figure an epoch, files by the folder they go to ("" is the root)."""

    key: str
    name: str
    started: str
    ended: str | None
    failed: bool
    tags: Mapping[str, str | None]
    params: Mapping[str, Any]
    metrics: Mapping[str, float | None]
    curves: Mapping[str, list[float]] = field(default_factory=dict)
    files: tuple[tuple[Path, str], ...] = ()


def log_night(config: RunConfig, record: NightRecord) -> None:
    """Log a night. One that is run again on the same rows with the same settings goes on in its run."""
    if config.tracking.mlflow and record.outcome != "killed":  # the run that goes on after a kill is logged
        log(config.tracking, night_entry(config, record))


def log_training(config: RunConfig, published: list[Published], started: str, ended: str) -> None:
    """Log what `train` made, one run for all models."""
    if config.tracking.mlflow:
        log(config.tracking, training_entry(config, published, started, ended))


def night_entry(config: RunConfig, record: NightRecord) -> Entry:
    """Of a night, as far as it came."""
    data, verdict, report = record.done("split") or {}, record.verdict, record.report
    settings = config.model_dump(mode="json", include={"seed", "log", "split", "publish", "run", "models"})
    # Without the digest of the rows it cannot be told from other nights.
    same = {"settings": settings, "version": __version__, "data": data.get("digest") or record.started}
    metrics: dict[str, float | None] = {f"data/{name}": data.get(name) for name in ("users", "items")}
    metrics |= {f"data/rows_{name}": record.cleaning.get(name) for name in ("read", "kept")}
    metrics |= {f"seconds/{stage.name}": stage.seconds for stage in record.stages}
    metrics |= {"seconds/all": record.seconds, "warnings": len(record.warnings)}
    if verdict is not None:
        metrics |= {f"gate/{name}": getattr(verdict, name) for name in ("mean", "popularity", "current", "ratio")}
    curves: dict[str, list[float]] = {}
    files = []
    for model in config.models:
        if (trained := record.done(f"train {model.key}")) is not None:
            metrics |= _means(f"validation/{model.key}", trained["validation"])
            curves |= _curves(model.key, read_sealed(record.folder / "models" / model.key / "twin" / MANIFEST))
    if report is not None:
        for key, judged in record.evaluation()["models"].items():
            metrics |= _means(f"test/{key}", judged["metrics"])
        files += [(report, ""), (report.parent / "evaluation.json", "")]
    if config.tracking.artifact and record.version is not None and verdict is not None:
        files.append((record.folder / "models" / verdict.candidate / "whole", "model"))  # without users' histories
    tags = {
        "outcome": record.outcome,
        "version": record.version,
        "error": record.error,
        "forced": str(record.forced).lower(),
        "candidate": None if verdict is None else verdict.candidate,
        "host": record.host,
    }
    return Entry(
        key=content_digest(same),
        name=f"night {record.started[:10]}",
        started=record.started,
        ended=record.ended,
        failed=record.outcome == "failed",
        tags=tags,
        params=_params(config, data.get("digest")),
        metrics=metrics,
        curves=curves,
        files=tuple(files),
    )


def training_entry(config: RunConfig, published: list[Published], started: str, ended: str) -> Entry:
    """Of the versions that `train` made; the model itself of the one that is current, if one of them is."""
    registry = Registry(config.registry.path)
    manifests = {each.key: registry.manifest(each.version) for each in published}
    data = next(iter(manifests.values()))["data"]
    metrics: dict[str, float | None] = {f"data/{name}": data[name] for name in ("users", "items")}
    curves: dict[str, list[float]] = {}
    for each in published:
        metrics |= _means(f"validation/{each.key}", each.metrics)
        curves |= _curves(each.key, manifests[each.key])
    current = next((each.version for each in published if each.current), None)
    logged = current if config.tracking.artifact else None  # its own files: users' histories lie beside them
    names = [] if logged is None else [MANIFEST, *registry.manifest(logged)["files"]]
    files = [(registry.path / str(logged) / name, "model") for name in names]
    return Entry(
        key=content_digest({"versions": [each.version for each in published]}),
        name=f"train {started[:10]}",
        started=started,
        ended=ended,
        failed=False,
        tags={"outcome": "trained", "version": current} | {f"version.{each.key}": each.version for each in published},
        params=_params(config, data["digest"]),
        metrics=metrics,
        curves=curves,
        files=tuple(files),
    )


def _params(config: RunConfig, data: str | None) -> dict[str, Any]:
    """Settings under `section.key`, of a model `model.KEY.key`, defaults too."""
    found: dict[str, Any] = {"seed": config.seed, "data.digest": data}
    for name, section in (("split", config.split), ("publish", config.publish), ("run", config.run)):
        found |= {f"{name}.{key}": value for key, value in section.model_dump(mode="json").items()}
    for model in config.models:
        found[f"model.{model.key}"] = model.name
        found |= {f"model.{model.key}.{key}": value for key, value in model.config.model_dump(mode="json").items()}
    return {name: value for name, value in found.items() if value is not None}


def _means(place: str, metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Means under names that MLflow takes: ndcg@10 is ndcg_at_10."""
    return {f"{place}/{name.replace('@', '_at_')}": score["mean"] for name, score in metrics.items()}


def _curves(key: str, manifest: Mapping[str, Any]) -> dict[str, list[float]]:
    """Loss and validation by epoch, of a model that has epochs."""
    fit = manifest["fit"]
    return {
        f"curve/{key}/{name}": fit[found] for name, found in (("loss", "losses"), ("validation", "validation")) if fit[found]
    }


def log(section: TrackingSection, entry: Entry) -> None:
    """Write an entry; what its run has already is not written twice. Raises whatever MLflow raises."""
    with _mlflow() as mlflow:
        entities, client = mlflow.entities, mlflow.MlflowClient(section.url.get_secret_value())
        experiment = client.get_experiment_by_name(section.experiment)
        if experiment is None:
            client.create_experiment(section.experiment)
            experiment = client.get_experiment_by_name(section.experiment)
        found = client.search_runs([experiment.experiment_id], f"tags.`{KEY}` = '{entry.key}'")
        begin, end = _milliseconds(entry.started), _milliseconds(entry.ended or entry.started)
        run = found[0] if found else client.create_run(experiment.experiment_id, begin, {KEY: entry.key}, entry.name)
        known, run_id = run.data, run.info.run_id
        points = [
            entities.Metric(name, value, end, 0)
            for name, value in entry.metrics.items()
            if value is not None and known.metrics.get(name) != value
        ]
        points += [
            entities.Metric(name, value, begin, step)
            for name, curve in entry.curves.items()
            for step, value in enumerate(curve, 1)
            if name not in known.metrics
        ]
        params = [entities.Param(name, str(value)) for name, value in entry.params.items() if name not in known.params]
        tags = [entities.RunTag(f"recsys_ae.{name}", value or "") for name, value in entry.tags.items()]
        tags.append(entities.RunTag("recsys_ae.code", __version__))
        for start in range(0, len(points), MOST_METRICS):
            client.log_batch(run_id, metrics=points[start : start + MOST_METRICS])
        for start in range(0, len(params), MOST_PARAMS):
            client.log_batch(run_id, params=params[start : start + MOST_PARAMS])
        client.log_batch(run_id, tags=tags)
        for path, place in entry.files:
            send = client.log_artifacts if path.is_dir() else client.log_artifact
            send(run_id, str(path), place or None)
        client.set_terminated(run_id, "FAILED" if entry.failed else "FINISHED", end)


@contextmanager
def _mlflow() -> Iterator[Any]:
    """The package, silent and without telemetry. Raises RecsysError where the extra is not installed."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of SQLAlchemy 2.1, at MLflow
        try:
            import mlflow
        except ImportError as error:
            raise RecsysError(f"{error}; expected the extra: pip install 'recsys-ae[mlflow]'") from None
        yield mlflow


def _milliseconds(moment: str) -> int:
    """ISO 8601 as MLflow counts: milliseconds since 1970."""
    return round(datetime.fromisoformat(moment).timestamp() * 1000)
