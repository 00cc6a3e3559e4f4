"""One rank of a fit: `torchrun -m recsys_ae.cluster.worker FOLDER`, a `Job`'s. Progress is lines of JSON on stdout."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from torch import distributed

from recsys_ae.cluster.job import Job
from recsys_ae.errors import RecsysError
from recsys_ae.training.ranks import Ranks
from recsys_ae.training.run import Progress, RunContext

PROGRESS = "progress "


def main() -> None:
    """Fit with the others; the first rank writes what came of it."""
    job = Job(Path(sys.argv[1]))
    told = job.told
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    device = told["device"]
    if told["backend"] == "nccl":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    distributed.init_process_group(told["backend"])
    try:
        ranks = Ranks.now()
        model = job.model()
        run = RunContext(**job.run() | {"device": device, "progress": _tell, "rank": ranks.rank, "world_size": ranks.size})
        try:
            record = model.fit(job.train(), validation=job.validation(), run=run)
        except RecsysError as error:  # all ranks come to it alike, and would again
            job.fail(error)
        else:
            if ranks.rank == 0:
                job.finish(model.tensors(), record)
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


def _tell(progress: Progress) -> None:
    sys.stdout.write(PROGRESS + json.dumps(asdict(progress)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
