"""What a rank does once it has met the others, and what is done with a job around it, whoever starts the ranks."""

from collections.abc import Callable
from pathlib import Path

from torch import distributed

from recsys_ae.cluster.job import Job
from recsys_ae.errors import ModelError, RecsysError
from recsys_ae.histories import Histories, Holdout
from recsys_ae.models import MODELS
from recsys_ae.models.autoencoder import Autoencoder
from recsys_ae.scratch import scratch_folder
from recsys_ae.training.run import FitRecord, Progress, RunContext

GPUS = "cpu:gloo,cuda:nccl"  # counts and lists are exchanged on the CPU
SAID = 30  # lines of a failure

Launch = Callable[[Job], list[str]]
"""Runs the ranks of a job to their end; the last lines of what they said."""


def fit_job(
    model: Autoencoder,
    train: Histories,
    validation: Holdout | None,
    run: RunContext,
    backend: str,
    launch: Launch,
    parent: Path | None = None,
) -> FitRecord:
    """`model.fit` by the ranks that `launch` starts, of a job in a scratch folder. Raises ModelError where it fails."""
    if run.placed is not None:
        raise ModelError(f'cold items are not placed while {run.world_size} ranks train; expected one, engine = "local"')
    model.sharing(run)
    (name,) = (name for name, kind in MODELS.items() if type(model) is kind)
    with scratch_folder("fit", parent) as folder:
        job = Job(folder)
        job.write(name, model, train, validation, run, backend)
        said = launch(job)
        done = job.finished()
        if done is None:
            raise ModelError("the fit of several ranks failed; its last words:\n" + "\n".join(said[-SAID:]))
        tensors, record = done
    model.restore(tensors)
    return record


def fit_as_rank(job: Job, device: str, tell: Callable[[Progress], None]) -> None:
    """Fit with the others of the process group, which ends with it; the first rank writes what came of it."""
    try:
        model = job.model()
        place = {"rank": distributed.get_rank(), "world_size": distributed.get_world_size()}  # fewer than asked for, of some
        run = RunContext(**job.run() | {"device": device, "progress": tell} | place)
        try:
            record = model.fit(job.train(), validation=job.validation(), run=run)
            if run.rank == 0 or run.shared == "items":
                job.keep(model.tensors(), run.rank)
        except RecsysError as error:  # the others come to it too, or lose this one: it would be the same again
            job.fail(error)
            return
        distributed.barrier()
        if run.rank == 0:
            job.finish(record)
        distributed.barrier()
    finally:
        distributed.destroy_process_group()
