"""Fit by the workers of a Ray cluster: Ray Train starts them, and starts all again where one dies, from the checkpoint.

The job's folder, the run's checkpoints and this package are what every node needs to have.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, Literal

import torch

from recsys_ae.cluster.job import Job
from recsys_ae.cluster.rank import GPUS, fit_as_rank, fit_job
from recsys_ae.cluster.session import Room, joined, require_room, room_of
from recsys_ae.errors import ConfigError
from recsys_ae.histories import Histories, Holdout
from recsys_ae.models import Recommender
from recsys_ae.models.autoencoder import Autoencoder
from recsys_ae.training.run import FitRecord, Progress, RunContext

PROGRESS = "progress.jsonl"
POLL = 0.2  # seconds
LOOK = 2.0  # seconds between two looks at a cluster that had room
GONE = 600.0  # seconds for nodes to come back of which too few are left
RESIZED = 60.0  # seconds between two looks for nodes that have come


def fit_on_ray(
    model: Recommender,
    train: Histories,
    validation: Holdout | None,
    run: RunContext,
    room: Room,
    restarts: int = 3,
    share: Literal["users", "items"] = "users",
    *,
    address: str | None = None,
    folder: Path,
) -> FitRecord:
    """`model.fit` by the workers of a Ray cluster; the same up to the order in which floats are summed.

    `folder`: one that all nodes share; what is trained on is written below it. Where `room.least` is given, as many workers
    train as have room: fewer when nodes go, more when they come, each time from the latest checkpoint; users alone can be
    shared out so. Else, and of a model without gradient steps, as `fit_by_ranks`. Raises ConfigError where the cluster cannot
    be joined or is too small, ModelError where the fit fails.
    """
    if not isinstance(model, Autoencoder):
        return model.fit(train, validation=validation, run=run)
    if share == "items" and room.least is not None:
        raise ConfigError('[cluster] min_workers and share = "items"; expected share = "users"')
    if run.device != "auto" and run.device.startswith("cuda") != (room.gpus > 0):
        raise ConfigError(
            f'[run] device = "{run.device}" and [cluster] gpus = {room.gpus:g}; expected gpus = 1 for cuda, gpus = 0 for cpu'
        )
    folder.mkdir(parents=True, exist_ok=True)
    shared = replace(run, world_size=room.workers, shared=share, device="cuda" if room.gpus else "cpu")
    with joined(address) as ray:
        launch = partial(_launched, ray=ray, room=room, restarts=restarts, progress=run.progress)
        return fit_job(model, train, validation, shared, GPUS if room.gpus else "gloo", launch, folder.resolve())


def _launched(job: Job, ray: Any, room: Room, restarts: int, progress: Callable[[Progress], None] | None) -> list[str]:
    """Run the ranks to their end, tell of their progress; returns what Ray said where they failed, or why it is waited for no
    longer."""
    from ray.exceptions import RayError
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    require_room(ray, room)
    log = job.folder / PROGRESS
    log.touch()
    trainer = TorchTrainer(
        _as_rank,
        train_loop_config={"folder": str(job.folder), "threads": max(1, int(room.cpus))},
        torch_config=TorchConfig(backend=job.told["backend"]),
        scaling_config=ScalingConfig(
            num_workers=room.workers if room.least is None else (room.least, room.workers),
            use_gpu=room.gpus > 0,
            resources_per_worker=room.each,
            elastic_resize_monitor_interval_s=RESIZED,
        ),
        run_config=RunConfig(
            name="fit", storage_path=str(job.folder / "ray"), failure_config=FailureConfig(max_failures=restarts)
        ),
    )
    failures = list[Exception]()

    def fit() -> None:
        try:
            trainer.fit()
        except SystemExit:  # how Ray leaves a thread whose cluster is gone, when nobody waits for it any more
            pass
        except Exception as error:
            failures.append(error)

    thread = Thread(target=fit, daemon=True)  # where it runs in the main one, Ray takes Ctrl-C and leaves with code 0
    thread.start()
    told, alive, room_seen = 0, True, time.monotonic()
    while alive:
        thread.join(POLL)
        alive = thread.is_alive()
        lacking = time.monotonic() - room_seen
        if lacking > LOOK and (found := room_of(ray, room)) >= room.needed:
            room_seen = time.monotonic()
        elif lacking > (patience := max(room.wait, GONE, LOOK)):  # Ray would wait for ever
            return [f"for {patience:g} seconds the cluster has had room for {found} workers; expected {room.needed}"]
        with log.open() as file:
            file.seek(told)
            while (line := file.readline()).endswith("\n"):
                told = file.tell()
                if progress:
                    progress(Progress(**json.loads(line)))
    for error in failures:
        if not isinstance(error, TrainingFailedError | RayError):
            raise error
    return [line for error in failures for line in str(error).splitlines()]


def _as_rank(config: dict[str, Any]) -> None:
    """One worker of Ray Train, which has made the process group."""
    from ray.train.torch import get_device

    job = Job(Path(config["folder"]))
    if job.ended:  # and one rank was gone before another had done with it: Ray has started all again
        return
    torch.set_num_threads(config["threads"])
    fit_as_rank(job, str(get_device()), partial(_tell, job.folder / PROGRESS))


def _tell(log: Path, progress: Progress) -> None:
    with log.open("a") as file:
        file.write(json.dumps(asdict(progress)) + "\n")
