"""Fit by several processes of this machine: torchrun starts them, and starts all again where one dies, from the checkpoint."""

import json
import subprocess
import sys
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from recsys_ae.cluster.job import Job
from recsys_ae.cluster.worker import PROGRESS
from recsys_ae.errors import ConfigError, ModelError
from recsys_ae.histories import Histories, Holdout
from recsys_ae.models import MODELS, Recommender
from recsys_ae.models.autoencoder import Autoencoder
from recsys_ae.scratch import scratch_folder
from recsys_ae.training.device import resolve_device
from recsys_ae.training.run import FitRecord, Progress, RunContext

SAID = 30  # lines of a failure


def fit_by_ranks(
    model: Recommender,
    train: Histories,
    validation: Holdout | None,
    run: RunContext,
    workers: int,
    restarts: int = 3,
    share: Literal["users", "items"] = "users",
) -> FitRecord:
    """`model.fit` by so many processes; the same up to the order in which floats are summed.

    `share`: what each has a part of. By users all hold the whole model; by items each holds the rows of some.

    Of a model without gradient steps there is nothing to share: it is fitted here. A process that dies costs what was trained
    since the last epoch's checkpoint, `restarts` times. Raises ConfigError for more workers than GPUs, ModelError where the
    fit fails.
    """
    if not isinstance(model, Autoencoder):
        return model.fit(train, validation=validation, run=run)
    cuda = resolve_device(run.device).type == "cuda"
    if cuda and workers > torch.cuda.device_count():
        raise ConfigError(
            f"[cluster] workers = {workers}; expected at most the {torch.cuda.device_count()} GPUs of this machine"
        )
    (name,) = (name for name, kind in MODELS.items() if type(model) is kind)
    with scratch_folder("fit") as folder:
        job = Job(folder)
        shared = replace(run, world_size=workers, shared=share)
        job.write(name, model, train, validation, shared, "nccl" if cuda else "gloo")
        said = _launched(folder, workers, restarts, run)
        done = job.finished()
        if done is None:
            raise ModelError("the fit of several ranks failed; its last words:\n" + "\n".join(said))
        tensors, record = done
    model.restore(tensors)
    return record


def _launched(folder: Path, workers: int, restarts: int, run: RunContext) -> list[str]:
    """Run the ranks to their end, tell of their progress; returns the last lines of what else they said."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nnodes=1", f"--nproc-per-node={workers}"]
    command += [f"--max-restarts={restarts}", "-m", "recsys_ae.cluster.worker", str(folder)]
    said: deque[str] = deque(maxlen=SAID)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith(PROGRESS):
                    if run.progress:
                        run.progress(Progress(**json.loads(line.removeprefix(PROGRESS))))
                else:
                    said.append(line.rstrip())
        except BaseException:
            process.terminate()  # torchrun ends its processes
            raise
    return list(said)
