"""One rank of a fit: `torchrun -m recsys_ae.cluster.worker FOLDER`, a `Job`'s. Progress is lines of JSON on stdout."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from torch import distributed

from recsys_ae.cluster.job import Job
from recsys_ae.cluster.rank import GPUS, fit_as_rank
from recsys_ae.training.run import Progress

PROGRESS = "progress "


def main() -> None:
    """Meet the others and fit with them."""
    job = Job(Path(sys.argv[1]))
    if job.ended:  # and one rank was gone before another had done with it: torchrun has started all again
        return
    told = job.told
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    device = told["device"]
    if told["backend"] == GPUS:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    _meet(told["backend"])
    fit_as_rank(job, device, _tell)


def _meet(backend: str) -> None:
    """Join the others. torchrun's store outlives a restart, and with it what the dead have written of their addresses: a rank
    that reads those waits for ever (torch 2.13, one restart of three). So each attempt has keys of its own."""
    place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    attempt = f"attempt {os.environ['TORCHELASTIC_RESTART_COUNT']}"
    store = distributed.PrefixStore(attempt, distributed.TCPStore(*place))  # type: ignore[attr-defined]
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    distributed.init_process_group(backend, store=store, rank=rank, world_size=size)


def _tell(progress: Progress) -> None:
    sys.stdout.write(PROGRESS + json.dumps(asdict(progress)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
