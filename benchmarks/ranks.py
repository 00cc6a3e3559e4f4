"""Several ranks: their steps of a catalogue that no single process holds, their speed beside threads; and an index's search.

    python -m benchmarks.ranks steps [--items 10000000] [--users 1000000] [--interactions 50000000] [--ranks 4]
    OMP_NUM_THREADS=2 python -m benchmarks.ranks search [--items 10000000]
    OMP_NUM_THREADS=2 python -m benchmarks.ranks efficiency
    python -m benchmarks.ranks equal

`steps`: mult_dae of width 64 with a sampled softmax by torchrun on generated histories: seconds a step, memory of all processes
together, bytes that travel. `search`: exact lists of 100 over so many item rows in clusters, beside the index's. `efficiency`:
an epoch of mult_dae, 20,000 users and items, width 256, by two threads of one process and by two ranks of one thread each.
`equal`: mult_dae and mult_vae on 4,000 generated users by 1, 2 and 4 ranks, by users and by items: how far losses are from
those of one, and how much of lists of 100 is the same.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, distributed

from benchmarks.catalogues import BATCH, generated
from benchmarks.record import write
from recsys_ae import datasets
from recsys_ae.cluster import fit_by_ranks
from recsys_ae.dataset import Dataset
from recsys_ae.histories import Histories
from recsys_ae.index import Index, K
from recsys_ae.log import InteractionLog
from recsys_ae.models import MODELS
from recsys_ae.models.als import ALS, ALSConfig
from recsys_ae.ranking import rank_top_k
from recsys_ae.training import RunContext
from recsys_ae.training.batches import OwnItems
from recsys_ae.training.ranks import Ranks
from recsys_ae.training.run import Progress
from recsys_ae.training.sampling import Sampling
from recsys_ae.training.steps import SampledSteps

WIDTH = 64
ARRAYS = ("indptr", "items", "weights")


def memory() -> int:
    """Bytes that this process has taken at most, the files it maps left out where the system tells them apart."""
    status = Path("/proc/self/status").read_text()
    kept = sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))
    return kept * 1024


def a_rank(folder: Path, items: int, steps: int) -> None:
    """One of the processes: build its part, take steps, tell the first."""
    distributed.init_process_group("gloo")
    torch.set_num_threads(1)
    ranks = Ranks(distributed.get_rank(), distributed.get_world_size(), "items")
    sent = _counting()
    histories = Histories(**{name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS}, n_items=items)
    begin = time.perf_counter()
    data = OwnItems.of(histories, torch.device("cpu"), ranks)
    read = time.perf_counter() - begin
    model = MODELS["mult_dae"](MODELS["mult_dae"].Config(latent=WIDTH, softmax="sampled"), items)
    model._ranks = ranks
    generator = Generator().manual_seed(0)
    parameters = {name: tensor.requires_grad_() for name, tensor in model.initial(generator).items()}
    negatives = model.config.negatives // ranks.size
    own = len(range(items)[ranks.mine(items)])
    taken = SampledSteps(parameters, model.by_item, Sampling(data, len(histories), own, BATCH, negatives), 0.0)
    order = torch.randperm(len(histories), generator=generator)
    times, losses, peak = [], [], memory()
    for rows in order[: steps * BATCH].split(BATCH):
        distributed.barrier()
        sent.clear()
        begin = time.perf_counter()
        loss = taken.step(parameters, data.batch(rows), lambda p, b: model._objective(p, b, 0.0, generator), 1e-3, generator)
        times.append(time.perf_counter() - begin)
        losses.append(float(loss))
        peak = max(peak, memory())
    of_all = ranks.of_all(torch.tensor([peak]))
    if ranks.rank == 0:
        told = {
            "seconds_a_step": statistics.median(times[2:]),
            "seconds_to_read": read,
            "gib_of_all": sum(int(each) for each in of_all) / 2**30,
            "bytes_summed_a_step": sum(sent),
            "losses": losses,
        }
        (folder / "told.json").write_text(json.dumps(told))
    distributed.barrier()
    distributed.destroy_process_group()


def _counting() -> list[int]:
    """Bytes of each tensor that is summed over the ranks."""
    sent: list[int] = []
    plain = distributed.all_reduce

    def counted(tensor: Tensor, *arguments: Any) -> Any:
        sent.append(tensor.nbytes)
        return plain(tensor, *arguments)

    distributed.all_reduce = counted
    return sent


def steps(users: int, items: int, interactions: int, ranks: int, n_steps: int) -> dict[str, Any]:
    """By torchrun."""
    with tempfile.TemporaryDirectory(prefix="items-") as name:
        folder = Path(name)
        histories = generated(users, items, interactions)
        for array in ARRAYS:
            np.save(folder / f"{array}.npy", getattr(histories, array))
        n_interactions = histories.n_interactions
        del histories
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "-m"]
        command += ["benchmarks.ranks", "rank", "--folder", name, "--items", str(items), "--steps", str(n_steps)]
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        told = json.loads((folder / "told.json").read_text())
    return {"users": users, "items": items, "interactions": n_interactions, "ranks": ranks, "width": WIDTH} | told


def search(items: int) -> dict[str, Any]:
    """Lists of 100 from item rows in clusters: exact, and by the index."""
    generator = torch.Generator().manual_seed(0)
    clusters = items // 500
    centres = torch.randn(clusters, WIDTH, generator=generator)
    rows = centres[torch.randint(clusters, (items,), generator=generator)]
    rows += 0.3 * torch.randn(items, WIDTH, generator=generator)
    model = ALS(ALSConfig(factors=WIDTH), items).restore({"item_factors": rows})
    rng = np.random.default_rng(0)
    queries = Histories.from_rows([rng.integers(items, size=3).tolist() for _ in range(200)], items)
    begin = time.perf_counter()
    index = Index.of(model, queries)
    made = time.perf_counter() - begin
    assert index is not None
    factors = model.factors(queries)
    assert factors is not None
    asked, nothing = factors.queries.numpy(), [np.empty(0, np.int32)]
    seconds: dict[str, list[float]] = {"exact": [], "index": []}
    for row in range(20):
        one = queries.take(slice(row, row + 1))
        begin = time.perf_counter()
        rank_top_k(model, one, K, exclude_seen=False)
        middle = time.perf_counter()
        index.ranked(asked[row : row + 1], nothing, [K])
        seconds["exact"].append(middle - begin)
        seconds["index"].append(time.perf_counter() - middle)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    faster = medians["exact"] / medians["index"]
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    found = {"items": items, "width": WIDTH, "seconds_to_make": made, "times_as_fast": faster, "gib": gib}
    return found | medians | index.facts


def efficiency() -> list[dict[str, Any]]:
    """Seconds an epoch, of those past the first; losses must be the same."""
    histories, found = generated(20_000, 20_000, 1_000_000), list[dict[str, Any]]()
    for softmax in ("exact", "sampled"):
        for share in ("local", "users", "items"):
            settings = {"latent": 256, "epochs": 4, "batch_size": BATCH, "softmax": softmax}
            model, times = MODELS["mult_dae"](MODELS["mult_dae"].Config(**settings), 20_000), list[float]()

            def note(_: Progress, times: list[float] = times) -> None:
                times.append(time.perf_counter())

            run = RunContext(device="cpu", precision="float32", progress=note)
            if share == "local":
                record = model.fit(histories, validation=None, run=run)
            else:
                record = fit_by_ranks(model, histories, None, run, 2, share=share)
            found.append(
                {
                    "softmax": softmax,
                    "share": share,
                    "seconds_an_epoch": float(statistics.median(np.diff(times))),
                    "losses": record.losses,
                }
            )
            alone = next(each for each in found if each["softmax"] == softmax)  # the first of them
            found[-1]["efficiency"] = alone["seconds_an_epoch"] / found[-1]["seconds_an_epoch"]
            print(found[-1], flush=True)
    return found


def equal() -> list[dict[str, Any]]:
    """Losses and lists of the same fit by several ranks beside those of one."""
    events = datasets.synthetic(n_users=4_000, n_items=2_000, seed=0).events
    histories = Dataset.from_log(InteractionLog.from_table(events)).histories
    judged, found = histories.take(np.arange(1_000)), list[dict[str, Any]]()
    for name in ("mult_dae", "mult_vae"):
        config = MODELS[name].Config(latent=64, epochs=5)
        run = RunContext(seed=0, device="cpu", precision="float32")
        alone = MODELS[name](config, histories.n_items)
        losses = np.array(alone.fit(histories, validation=None, run=run).losses)
        lists = rank_top_k(alone, judged, 100).items
        for share in ("users", "items"):
            for ranks in (2, 4):
                model = MODELS[name](config, histories.n_items)
                record = fit_by_ranks(model, histories, None, run, ranks, share=share)
                own = rank_top_k(model, judged, 100).items
                same = np.mean([len(np.intersect1d(a, b)) / 100 for a, b in zip(lists, own, strict=True)])
                apart = float(np.abs(np.array(record.losses) / losses - 1).max())
                found.append({"model": name, "share": share, "ranks": ranks, "losses apart": apart, "overlap@100": float(same)})
                print(found[-1], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("steps", "search", "efficiency", "equal", "rank"))
    parser.add_argument("--items", type=int, default=10_000_000)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--interactions", type=int, default=50_000_000)
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--folder", type=Path, default=Path(), help="of the histories, for `rank`, which torchrun starts")
    arguments = parser.parse_args()
    if arguments.part == "rank":
        a_rank(arguments.folder, arguments.items, arguments.steps)
        return
    if arguments.part == "steps":
        found = steps(arguments.users, arguments.items, arguments.interactions, arguments.ranks, arguments.steps)
    elif arguments.part == "search":
        found = search(arguments.items)
    else:
        found = {"runs": efficiency() if arguments.part == "efficiency" else equal()}
    print(found)
    write("ranks", {"found": found}, f"-{arguments.part}")


if __name__ == "__main__":
    main()
