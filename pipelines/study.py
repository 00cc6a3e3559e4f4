"""Optuna studies in one SQLite file, which several processes may search at the same time.

Optuna stores settings and attributes as JSON and numbers as columns; nothing is pickled.
"""

import fcntl
import json
import secrets
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import StorageInternalError
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from recsys_ae.errors import ConfigError, StorageError
from recsys_ae.models.search import Search, Space

BUSY_SECONDS = 60.0
"""How long one process waits for another's write."""
WATCHED_TRIALS, WATCHED_EPOCHS = 5, 5
"""No trial is pruned before so many have ended, nor within its first epochs, which say little of the last."""
COUNTED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
"""Trials that are part of the search. FAIL is left to those whose process was stopped: others take their places."""


class Workers:
    """The processes that search one storage: locks on the bytes of a file, which go with the process that holds them."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab")
        self.me = secrets.randbits(48)
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, 1 + self.me)

    def close(self) -> None:
        """Give all locks back."""
        self._file.close()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One process at a time."""
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, 0)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, 0)

    def alive(self, worker: int) -> bool:
        """Whether the process that was another worker still runs."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 1 + worker)
        except OSError:
            return True
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, 1 + worker)
        return False


@contextmanager
def open_storage(path: Path) -> Iterator[tuple[RDBStorage, Workers]]:
    """The storage, made if it is not there.

    Raises ConfigError where the file is something else or cannot be had; StorageError where it fails later.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _require_studies(path)
        workers = Workers(path.with_name(f"{path.name}.lock"))
    except (OSError, sqlite3.Error) as error:
        raise ConfigError(f"[tune] storage: {path}: {error}; expected an SQLite file of studies, or a new file") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with closing(workers):
        try:
            with workers.alone():  # two processes that make the same tables at once would fail
                storage = _storage(path)
            try:
                yield storage, workers
            finally:
                storage.remove_session()
                storage.engine.dispose()
        except (StorageInternalError, SQLAlchemyError) as error:
            raise StorageError(f"[tune] storage: {path}: {next(iter(str(error).splitlines()), '')}") from None


def _require_studies(path: Path) -> None:
    """Raises sqlite3.Error where the file is none of SQLite or cannot be written, ConfigError where it holds other tables."""
    with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and "studies" not in tables:
            raise ConfigError(f"[tune] storage: {path} is a database of something else; expected a file of its own")
        connection.execute("BEGIN IMMEDIATE").connection.rollback()


def _storage(path: Path) -> RDBStorage:
    def connect() -> sqlite3.Connection:  # a path with any character in it, which a URL could not carry
        return sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False)

    try:
        return RDBStorage("sqlite:///tune.db", engine_kwargs={"creator": connect})
    except RuntimeError as error:
        raise ConfigError(f"[tune] storage: {path} was written by another release of Optuna: {error}") from None


def open_study(storage: RDBStorage, name: str, about: Mapping[str, Any]) -> Study:
    """The study of that name; `about` is what a person finds in it."""
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        direction="maximize",
        load_if_exists=True,
        pruner=MedianPruner(n_startup_trials=WATCHED_TRIALS, n_warmup_steps=WATCHED_EPOCHS),
    )
    for key, value in about.items():
        study.set_user_attr(key, value)
    return study


def next_trial(
    study: Study, workers: Workers, seed: int, trials: int, space: Mapping[str, Space], defaults: Mapping[str, Any]
) -> Trial | None:
    """A trial for this process, or None where there are `trials` already. The first has the defaults.

    Trial n is drawn by seed and n from the trials before it: the same in whichever process, in one go or after a break.
    """
    with workers.alone():
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if not ("worker" in trial.user_attrs and workers.alive(trial.user_attrs["worker"])):
                study.tell(trial.number, state=TrialState.FAIL)
        made = study.get_trials(deepcopy=False)
        if sum(trial.state in COUNTED for trial in made) >= trials:
            return None
        if not any(trial.state != TrialState.FAIL and trial.user_attrs.get("defaults") for trial in made):
            study.enqueue_trial({key: _stored(space[key], value) for key, value in defaults.items()}, {"defaults": True})
        study.sampler = TPESampler(seed=int(np.random.SeedSequence([seed, len(made)]).generate_state(1)[0]))
        begun = study.ask({key: _distribution(each) for key, each in space.items()})
        begun.set_user_attr("worker", workers.me)
    return begun


def settings(trial: Trial | FrozenTrial, space: Mapping[str, Space]) -> dict[str, Any]:
    """The searched keys of a trial, as the model's Config takes them."""
    return {key: value if isinstance(space[key], Search) else json.loads(value) for key, value in trial.params.items()}


def _distribution(space: Space) -> BaseDistribution:
    match space:
        case Search(low, high, log) if space.whole:
            return IntDistribution(int(low), int(high), log=log)
        case Search(low, high, log):
            return FloatDistribution(low, high, log=log)
        case _:
            return CategoricalDistribution([_stored(space, option) for option in space.options])


def _stored(space: Space, value: Any) -> Any:
    """Options as JSON, since Optuna has no lists."""
    return value if isinstance(space, Search) else json.dumps(value)
