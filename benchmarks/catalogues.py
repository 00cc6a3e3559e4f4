"""A step's time and memory as the catalogue grows, sampled and exact, and an epoch of a million users over a million items.

    OMP_NUM_THREADS=2 python -m benchmarks.catalogues steps [--items N ...] [--steps 40]
    OMP_NUM_THREADS=2 python -m benchmarks.catalogues epoch [--users 1000000] [--items 1000000] [--interactions 50000000]
    OMP_NUM_THREADS=2 python -m benchmarks.catalogues quality --data FOLDER

mult_dae of width 128, batches of 500 users of some 50 items each, drawn by a power law of the items' places. `quality`: the
same fit on MovieLens 1M with an exact softmax and with sampled ones, so many draws a step, judged on the test users.
"""

import argparse
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator

from benchmarks.quality import BENCHMARKS, as_json
from benchmarks.record import fit_and_judge, write
from recsys_ae.ceiling import ceiling, step_cost
from recsys_ae.histories import Histories
from recsys_ae.models import MODELS
from recsys_ae.training import RunContext
from recsys_ae.training.batches import DeviceHistories
from recsys_ae.training.sampling import Sampling
from recsys_ae.training.steps import SampledSteps, Steps, WholeSteps

BATCH, WIDTH, LENGTH = 500, 128, 50
NEGATIVES = (256, 1_024, 4_096)  # of ML-1M's 3,706 items


def generated(users: int, items: int, interactions: int, seed: int = 0) -> Histories:
    """So many interactions (but for repeats within a row), lengths log-normal, items by a power law."""
    rng = np.random.default_rng(seed)
    lengths = rng.lognormal(0, 0.7, users)
    lengths = np.maximum(2, lengths * interactions / lengths.sum()).astype(np.int64)
    indptr = np.concatenate([[0], lengths.cumsum()])
    chosen = np.empty(indptr[-1], np.int32)
    for start in range(0, len(chosen), 2**22):  # float64 of all at once would be most of the memory
        part = rng.random(min(2**22, len(chosen) - start))
        chosen[start : start + len(part)] = items * part**4
    return Histories(indptr, chosen, np.ones(len(chosen), np.float32), items)


def memory() -> float:
    """GiB that this process has taken at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def a_step(items: int, softmax: str, n_steps: int) -> dict[str, Any]:
    """The median time of a step, by itself: no epoch, no validation."""
    histories = generated(BATCH * (n_steps + 2), items, BATCH * (n_steps + 2) * LENGTH)
    data, generator = DeviceHistories(histories, torch.device("cpu")), Generator().manual_seed(0)
    model = MODELS["mult_dae"](MODELS["mult_dae"].Config(latent=WIDTH, softmax=softmax), items)
    parameters = {name: tensor.requires_grad_() for name, tensor in model.initial(generator).items()}
    steps: Steps = WholeSteps(parameters, 0.0)
    if (negatives := model._negatives()) is not None:
        sampling = Sampling(data, len(histories), items, BATCH, negatives)
        steps = SampledSteps(parameters, model.by_item, sampling, 0.0)
    times = []
    for bags in data.whole().batches(BATCH):
        begin = time.perf_counter()
        steps.step(parameters, bags, lambda p, drawn: model._objective(p, drawn, 0.0, generator), 1e-3, generator)
        times.append(time.perf_counter() - begin)
    return {"items": items, "softmax": softmax, "seconds_a_step": statistics.median(times[2:]), "peak_gib": memory()}


def an_epoch(users: int, items: int, interactions: int) -> dict[str, Any]:
    """A fit of one epoch, as a user would run it."""
    histories = generated(users, items, interactions)
    before = memory()
    model = MODELS["mult_dae"](MODELS["mult_dae"].Config(latent=WIDTH, epochs=1, batch_size=BATCH), items)
    record = model.fit(histories, validation=None, run=RunContext(device="cpu"))
    return {
        "users": users,
        "items": items,
        "interactions": histories.n_interactions,
        "softmax": record.softmax,
        "precision": record.precision,
        "seconds": record.seconds["training"],
        "peak_gib": memory(),
        "of_it_data_gib": before,
    }


def quality(folder: Path) -> list[dict[str, Any]]:
    """Test metrics of mult_dae on ML-1M by softmax."""
    benchmark = BENCHMARKS["ml-1m"]
    _, split = benchmark.read(folder)
    settings = [{"softmax": "exact"}, *({"softmax": "sampled", "negatives": n} for n in NEGATIVES)]
    found = []
    for each in settings:
        judged = fit_and_judge("mult_dae", each, split(benchmark.seeds[0]), benchmark.seeds[0])
        found.append(each | as_json(judged, benchmark.metrics[:2]))
        print(found[-1], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("steps", "epoch", "quality"))
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 30_000, 100_000, 300_000, 1_000_000])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--softmax", nargs="+", default=["sampled", "exact"])
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--interactions", type=int, default=50_000_000)
    parser.add_argument("--data", type=Path, default=Path())
    arguments = parser.parse_args()
    if arguments.part == "steps":
        limit, found = ceiling(BATCH, WIDTH, 20_000), list[Any]()
        for items in arguments.items:
            for softmax in arguments.softmax:
                found.append(a_step(items, softmax, arguments.steps))
                floor = step_cost(limit, BATCH, WIDTH, items, softmax == "exact", LENGTH).seconds
                found[-1] |= {"predicted": floor, "measured_over_predicted": found[-1]["seconds_a_step"] / floor}
                print(found[-1], flush=True)
    elif arguments.part == "epoch":
        found = [an_epoch(arguments.users, arguments.items[-1], arguments.interactions)]
        print(found[0])
    else:
        found = quality(arguments.data)
    write("catalogues", {"found": found}, f"-{arguments.part}")


if __name__ == "__main__":
    main()
