"""train: fit every model, early stopping on validation users, then on all rows; one registry version each."""

import hashlib
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from pipelines.config import ModelSection, RunConfig
from pipelines.ingest import split_dataset
from pipelines.latent.content import with_cold_items
from pipelines.latent.placing import require_placeable
from recsys_ae.artifact import Artifact, environment
from recsys_ae.cluster import fit_by_ranks, fit_on_ray
from recsys_ae.dataset import Dataset
from recsys_ae.errors import CheckpointError
from recsys_ae.evaluation import evaluate
from recsys_ae.index import Index, require_faiss
from recsys_ae.models import MODELS, Recommender
from recsys_ae.registry import Registry, StoredUsers
from recsys_ae.split import Split, Window
from recsys_ae.training.run import FitRecord, Progress, RunContext

Report = Callable[[str, Progress], None]
"""Called with the model's key after every epoch."""

Initial = Mapping[str, Tensor]
"""Tensors to start from, over the items of what is fitted."""


@dataclass(frozen=True)
class Fitted:
    """A model fitted on the training part, with its record and seconds."""

    section: ModelSection
    model: Recommender
    record: FitRecord
    seconds: float


@dataclass(frozen=True)
class Published:
    """A registry version with what it reached on the validation users."""

    key: str
    version: str
    metrics: dict[str, Any]
    current: bool


def train(config: RunConfig, promote: bool, report: Report | None = None) -> tuple[list[Published], dict[str, Any]]:
    """The whole job: log -> split -> fit, judge on validation, refit on all rows, publish each -> current."""
    require_index(config)
    require_placeable(config)
    split, counts = split_dataset(config)
    published = [publish(config, fit(config, section, split, report), split, report) for section in config.models]
    return choose_current(config, published, promote), counts


def publish(config: RunConfig, fitted: Fitted, split: Split, report: Report | None = None) -> Published:
    """Judge on the validation users, refit on all rows, write a registry version."""
    metrics = evaluate(split.as_judged(fitted.model), split.validation, config.ks).as_json()
    model = refit(config, fitted, split, report)
    version = write_version(config, fitted, model, metrics, split.refit)
    return Published(fitted.section.key, version, metrics, False)


def choose_current(config: RunConfig, published: list[Published], promote: bool) -> list[Published]:
    """The best on validation becomes current if there is none, or with `promote`."""
    registry = Registry(config.registry.path)
    if promote or registry.current() is None:
        registry.promote(max(published, key=lambda p: p.metrics[config.publish.metric]["mean"]).version)
    current = registry.current()
    return [replace(p, current=p.version == current) for p in published]


def fit(
    config: RunConfig, section: ModelSection, split: Split, report: Report | None = None, initial: Initial | None = None
) -> Fitted:
    """Fit on the training part, from `initial` where given; the best epoch on the validation users is kept."""
    model = MODELS[section.name](section.config, len(split.train.items))
    return _fitted(config, section, model, split, None, report, initial)


def refit(
    config: RunConfig, fitted: Fitted, split: Split, report: Report | None = None, initial: Initial | None = None
) -> Recommender:
    """The same model on all rows for the number of epochs found, with the schedules of the full run."""
    model = MODELS[fitted.section.name](fitted.section.config, len(split.refit.items))
    return _fitted(config, fitted.section, model, split, fitted.record, report, initial).model


def _fitted(
    config: RunConfig,
    section: ModelSection,
    model: Recommender,
    split: Split,
    found: FitRecord | None,
    report: Report | None,
    initial: Initial | None,
) -> Fitted:
    """On the training part, or where something was `found` there on all rows."""
    train, validation = (split.train, split.validation) if found is None else (split.refit, None)
    folder = checkpoint_folder(config, section, "fit" if found is None else "refit", split.window)
    context = RunContext(
        seed=config.seed,
        device=config.run.device,
        precision=config.run.precision,
        progress=(lambda p: report(section.key, p)) if report else None,
        checkpoint_folder=folder,
        stop_after=found.best_epoch or None if found else None,
        initial=initial,
        found=found,
        metric=config.publish.metric,
        placed=None if validation is None else split.placed,
    )
    fit = _fit_of(config, model)
    begin = time.perf_counter()
    try:
        record = fit(train.histories, validation=validation, run=context)
    except CheckpointError:  # a damaged one costs its epochs, not the night
        shutil.rmtree(folder)
        record = fit(train.histories, validation=validation, run=context)
    seconds = time.perf_counter() - begin
    shutil.rmtree(folder, ignore_errors=True)
    return Fitted(section, model, record, seconds)


def _fit_of(config: RunConfig, model: Recommender) -> Callable[..., FitRecord]:
    """`model.fit` by whom [cluster] names."""
    cluster = config.cluster
    by_several: dict[str, Any] = {"restarts": cluster.restarts, "share": cluster.share}
    if cluster.engine == "torchrun":
        return partial(fit_by_ranks, model, workers=cluster.workers, **by_several)
    if cluster.engine == "ray":
        return partial(fit_on_ray, model, room=cluster.room, **by_several, address=cluster.address, folder=config.run.folder)
    return model.fit


def checkpoint_folder(config: RunConfig, section: ModelSection, phase: str, window: Window | None = None) -> Path:
    """One folder for each model's configuration and window, so that a changed one never meets another's checkpoint."""
    digest = hashlib.sha256(f"{section.model_dump_json()} {config.seed} {window}".encode()).hexdigest()[:12]
    return config.run.folder / "checkpoints" / f"{section.key}-{phase}-{digest}"


def write_version(config: RunConfig, fitted: Fitted, model: Recommender, metrics: dict[str, Any], data: Dataset) -> str:
    """Write the refitted model as a registry version; returns its name."""
    artifact = artifact_of(config, fitted, model, metrics, data)
    artifact, stored = with_cold_items(config, artifact, StoredUsers(data.users, data.histories))
    index = index_of(config, artifact, stored)
    return Registry(config.registry.path).publish(artifact, fitted.section.key, stored, metrics, index=index)


def require_index(config: RunConfig) -> None:
    """Raises ConfigError where versions may need an index and faiss is missing: before the training, not after it."""
    if config.publish.index_from_items is not None:
        require_faiss()


def index_of(config: RunConfig, artifact: Artifact, stored: StoredUsers) -> Index | None:
    """The approximate index of a catalogue that is large enough. Raises ConfigError where faiss is missing."""
    least = config.publish.index_from_items
    return Index.of(artifact.model, stored.histories) if least is not None and len(artifact.items) >= least else None


def artifact_of(config: RunConfig, fitted: Fitted, model: Recommender, metrics: dict[str, Any], data: Dataset) -> Artifact:
    """A model trained on these rows, with all that is known of its making."""
    manifest = {
        "id": fitted.section.key,
        "seed": config.seed,
        "data": {
            "users": len(data.users),
            "items": len(data.items),
            "interactions": data.histories.n_interactions,
            "digest": data.digest,
        },
        "split": config.split.kind,
        "metrics": metrics,
        "fit": fitted.record.summary(),
        "seconds": fitted.record.seconds,
        "precision": fitted.record.precision,
        "softmax": fitted.record.softmax,
        "environment": environment(),
    }
    if config.log.source:  # the service then adds nothing to the store's events
        manifest["source"] = config.log.source
    return Artifact(fitted.section.name, model, data.items, data.metadata, data.preprocessing, manifest)
