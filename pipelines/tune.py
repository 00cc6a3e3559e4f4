"""tune: search the hyperparameters of every model on the validation users -> a configuration of the best."""

import hashlib
import json
import math
import os
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import tomlkit
from optuna.importance import get_param_importances
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from pydantic import ValidationError
from tomlkit.items import Table

from pipelines.config import ModelSection, RunConfig, make_config
from pipelines.files import write_text
from pipelines.ingest import split_windows
from pipelines.study import COUNTED, Workers, next_trial, open_storage, open_study, settings
from pipelines.tables import Standing, in_words
from recsys_ae.errors import ConfigError, DataError, ModelError, RecsysError
from recsys_ae.evaluation import mean_metric
from recsys_ae.models import MODELS
from recsys_ae.models.search import Space, search_space
from recsys_ae.split import Split
from recsys_ae.training.run import Progress, RunContext

SCHEMA = 1
LEAST_FOR_IMPORTANCE = 10
"""Complete trials from which on the importance of a hyperparameter says anything."""
OF_THE_TRIAL = (RecsysError, ValueError, ArithmeticError, RuntimeError, MemoryError)
"""What settings may be to blame for (pydantic and torch raise some of these): the trial has failed, the search goes on."""


Report = Callable[[Standing], None]


@dataclass(frozen=True)
class ModelSearch:
    """The search of one model: what is fixed, what is searched, and where trials are kept."""

    section: ModelSection
    space: dict[str, Space]
    trials: int
    study: Study

    @property
    def fixed(self) -> dict[str, Any]:
        """Keys that the configuration sets."""
        return self.section.model_extra or {}

    @property
    def defaults(self) -> dict[str, Any]:
        """The searched keys as they are without a search."""
        return {key: getattr(self.section.config, key) for key in self.space}

    @property
    def complete(self) -> list[FrozenTrial]:
        """Trials with a value, best first, the earlier before the later."""
        found = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return sorted(found, key=lambda trial: (-(trial.value or 0.0), trial.number))


def tune(config: RunConfig, path: Path, report: Report) -> dict[str, Any]:
    """The whole job: log -> split -> a study of every model -> the best of each as a configuration file -> the document.

    Raises ConfigError for a storage or file that cannot be used; ModelError where a model has no trial that came to an end.
    """
    require_writable(config.tune.out, path)
    with open_storage(config.tune.storage) as (storage, workers):
        splits, _ = split_windows(config)
        if not all(len(split.validation) for split in splits):
            raise DataError(f"[split] {config.split.kind}: no validation users; a search needs some to be judged on")
        searches = []
        for section in config.models:
            with workers.alone():
                search = begin(config, section, splits, storage, report)
            run(config, search, splits, workers, report)
            searches.append(search)
        with workers.alone():  # of processes that end together the last one writes, and has read all trials
            found = document(config, searches, splits)
            write_config(config, path, found)
    return found


def begin(
    config: RunConfig, section: ModelSection, splits: Sequence[Split], storage: optuna.storages.RDBStorage, report: Report
) -> ModelSearch:
    """The model's study: the one of the same model, fixed settings, space, data, split, metric and seed, else a new one."""
    fixed = section.model_extra or {}
    space = {key: each for key, each in search_space(MODELS[section.name].Config).items() if key not in fixed}
    about = {
        "model": section.name,
        "fixed": section.config.model_dump(mode="json", exclude=set(space)),
        "space": {key: repr(each) for key, each in space.items()},
        "data": [[split.train.digest, split.refit.digest] for split in splits],
        "split": config.split.model_dump(mode="json"),
        "metric": config.publish.metric,
        "seed": config.seed,
    }
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]
    name = f"{section.key}-{digest}"
    known = optuna.get_all_study_names(storage)
    study = open_study(storage, name, about)
    trials = config.tune.trials if space else 1  # nothing to search: only its value is wanted
    search = ModelSearch(section, space, trials, study)
    if name in known:
        line = f"{section.key}: study {name} goes on"
    else:
        line = f"{section.key}: new study {name}"
        if any(other.rpartition("-")[0] == section.key for other in known):
            line += "; those of it in the storage have other data, split, metric, seed, fixed keys or spaces"
    report(standing(search, line=line if space else f"{line}; every key is fixed or has no space: one trial"))
    return search


def run(config: RunConfig, search: ModelSearch, splits: Sequence[Split], workers: Workers, report: Report) -> None:
    """Trial after trial until all are made, by this process or others, or the time is over; one at least."""
    end = time.monotonic() + (config.tune.timeout or math.inf)
    while trial := next_trial(search.study, workers, config.seed, search.trials, search.space, search.defaults):
        told = judge(config, search, splits, trial, report)
        report(standing(search, line=f"{search.section.key} trial {trial.number}: {told}"))
        if time.monotonic() >= end:
            return


def judge(config: RunConfig, search: ModelSearch, splits: Sequence[Split], trial: Trial, report: Report) -> str:
    """Fit with a trial's settings and tell the study what came of it; returns that in words."""
    searched, begun = settings(trial, search.space), time.monotonic()
    try:
        value = objective(config, search, splits, trial, report)
    except optuna.TrialPruned as pruned:
        search.study.tell(trial, state=TrialState.PRUNED)
        told = str(pruned)
    except OF_THE_TRIAL as error:  # told as pruned, so that the sampler learns to stay away
        trial.set_user_attr("failed", _first_fault(error))
        search.study.tell(trial, state=TrialState.PRUNED)
        told = f"failed, {_first_fault(error)}"
    except BaseException:
        search.study.tell(trial, state=TrialState.FAIL)
        raise
    else:
        search.study.tell(trial, value)
        told = f"{config.publish.metric} {value:.4f}"
    words = in_words(searched) or "nothing to search"
    return f"{told}; {words}; {time.monotonic() - begun:.1f} s"


def objective(config: RunConfig, search: ModelSearch, splits: Sequence[Split], trial: Trial, report: Report) -> float:
    """Mean over the windows of the metric on the validation users. Raises TrialPruned where others were better by then."""
    model_class = MODELS[search.section.name]
    model_config = model_class.Config(**search.fixed, **settings(trial, search.space))
    values = []
    for place, split in enumerate(splits):

        def watch(epoch: Progress, place: int = place) -> None:
            now = f"trial {trial.number}, epoch {epoch.epoch} of {epoch.epochs}"
            if epoch.validation is not None:
                trial.report(epoch.validation, place * epoch.epochs + epoch.epoch)
                if trial.should_prune():
                    raise optuna.TrialPruned(f"pruned at {epoch.validation:.4f} after epoch {epoch.epoch}")
                now += f", validation {epoch.validation:.4f}"
            report(standing(search, now))

        context = RunContext(
            seed=config.seed,
            device=config.run.device,
            precision=config.run.precision,
            progress=watch,
            metric=config.publish.metric,
            placed=split.placed,
        )
        model = model_class(model_config, len(split.train.items))
        model.fit(split.train.histories, validation=split.validation, run=context)
        values.append(mean_metric(split.as_judged(model), split.validation, config.publish.metric))
    return sum(values) / len(values)


def standing(search: ModelSearch, now: str = "", line: str = "") -> Standing:
    """Where a search stands, over all processes."""
    ended = [t for t in search.study.get_trials(deepcopy=False) if t.state in COUNTED and t.state.is_finished()]
    best = search.complete[0].value if search.complete else None
    return Standing(search.section.key, len(ended), search.trials, best, now, line)


def document(config: RunConfig, searches: Sequence[ModelSearch], splits: Sequence[Split]) -> dict[str, Any]:
    """What `--json` prints: of every model its trials, the best first, and what mattered."""
    return {
        "schema": SCHEMA,
        "metric": config.publish.metric,
        "validation_users": sum(len(split.validation) for split in splits),
        "windows": len(splits),
        "storage": str(config.tune.storage),
        "written": str(config.tune.out),
        "models": {search.section.key: _entry(search) for search in searches},
    }


def _entry(search: ModelSearch) -> dict[str, Any]:
    made, complete = search.study.get_trials(deepcopy=False), search.complete
    if not complete:
        reasons = [trial.user_attrs["failed"] for trial in made if "failed" in trial.user_attrs]
        last = f"; the last failed: {reasons[-1]}" if reasons else ""
        raise ModelError(
            f"{search.section.key}: none of {len(made)} trials in study {search.study.study_name} has a value{last}"
        )
    defaults = [trial.value for trial in complete if trial.user_attrs.get("defaults")]
    return {
        "study": search.study.study_name,
        "trials": dict(Counter(_outcome(trial) for trial in made)),
        "fixed": search.fixed,
        "best": _trial(complete[0], search.space),
        "defaults": defaults[0] if defaults else None,
        "importance": get_param_importances(search.study) if len(complete) >= LEAST_FOR_IMPORTANCE and search.space else {},
        "complete": [_trial(trial, search.space) for trial in complete],
    }


def _outcome(trial: FrozenTrial) -> str:
    """complete, pruned, failed by its settings, stopped with its process, or running in another."""
    if trial.state == TrialState.FAIL:
        return "stopped"
    return "failed" if "failed" in trial.user_attrs else trial.state.name.lower()


def _trial(trial: FrozenTrial, space: Mapping[str, Space]) -> dict[str, Any]:
    return {
        "trial": trial.number,
        "value": trial.value,
        "settings": settings(trial, space),
        "defaults": "defaults" in trial.user_attrs,
    }


def require_writable(out: Path, path: Path) -> None:
    """Raises ConfigError, before hours of search, where the tuned configuration could not be written."""
    if out.resolve() == path.resolve():
        raise ConfigError(f"[tune] out: {out} is the configuration itself; expected another file")
    if out.is_dir():
        raise ConfigError(f"[tune] out: {out} is a folder; expected a file")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"[tune] out: {out}: {error}") from None
    if not os.access(out.parent, os.W_OK):
        raise ConfigError(f"[tune] out: {out.parent} cannot be written to")


def write_config(config: RunConfig, path: Path, found: dict[str, Any]) -> None:
    """The configuration at `path`, its comments too, with the best settings of every model and without `[tune]`; atomically.

    What the environment sets stays in the environment.
    """
    content = tomlkit.parse(path.read_text("utf-8"))
    content.pop("tune", None)
    if "models" not in content:
        content["models"] = tomlkit.aot()
        for section in config.models:
            content["models"].append(tomlkit.item({"name": section.name}))
    for section, table in zip(config.models, content["models"], strict=True):
        _add(table, found["models"][section.key]["best"]["settings"])
    lines = [f"# Found by `recsys-ae tune {path}`, {found['metric']} on {found['validation_users']} validation users:"]
    for key, entry in found["models"].items():
        lines.append(f"#   {key} {entry['best']['value']:.4f}, trial {entry['best']['trial']} of study {entry['study']}")
    text = "\n".join((*lines, "", tomlkit.dumps(content).lstrip("\n")))
    make_config(tomllib.loads(text), str(config.tune.out))
    write_text(config.tune.out, text)


def _add(table: Table, values: Mapping[str, Any]) -> None:
    """Keys at the end of a table, before the blank lines and comments that lead over to the next one."""
    body = table.value.body
    length = max(place for place, (key, _) in enumerate(body, 1) if key)
    rest, body[length:] = body[length:], []
    table.update(values)
    body.extend(rest)


def _first_fault(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        return error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
    first = next(iter(str(error).splitlines()), "")
    return first if isinstance(error, RecsysError) else f"{type(error).__name__}: {first}"
