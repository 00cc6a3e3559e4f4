"""Fit by several processes of this machine: torchrun starts them, and starts all again where one dies, from the checkpoint."""

import json
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal

import torch

from recsys_ae.cluster.job import Job
from recsys_ae.cluster.rank import GPUS, SAID, fit_job
from recsys_ae.cluster.worker import PROGRESS
from recsys_ae.errors import ConfigError
from recsys_ae.histories import Histories, Holdout
from recsys_ae.models import Recommender
from recsys_ae.models.autoencoder import Autoencoder
from recsys_ae.training.device import resolve_device
from recsys_ae.training.run import FitRecord, Progress, RunContext


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
    shared = replace(run, world_size=workers, shared=share)
    launch = partial(_launched, workers=workers, restarts=restarts, progress=run.progress)
    return fit_job(model, train, validation, shared, GPUS if cuda else "gloo", launch)


def _launched(job: Job, workers: int, restarts: int, progress: Callable[[Progress], None] | None) -> list[str]:
    """Run the ranks to their end, tell of their progress; returns the last lines of what else they said."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nnodes=1", f"--nproc-per-node={workers}"]
    command += [f"--max-restarts={restarts}", "-m", "recsys_ae.cluster.worker", str(job.folder)]
    said: deque[str] = deque(maxlen=SAID)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith(PROGRESS):
                    if progress:
                        progress(Progress(**json.loads(line.removeprefix(PROGRESS))))
                else:
                    said.append(line.rstrip())
        except BaseException:
            process.terminate()  # torchrun ends its processes
            raise
    return list(said)
