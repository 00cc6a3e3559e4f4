"""The hundred best items of every Gowalla user by 64 factors, seen ones left out: rank_top_k beside implicit's recommend.

    python -m benchmarks.top_k --data FOLDER [--threads N] [--rounds N] [--users N]

Both get the same factors: items' from a short ALS, a user's as the mean of those of the items met. Ours makes that mean from
the history within its time, implicit is given it. implicit is called with several sizes of batch; its fastest counts. Two
lists are equal where, place by place, the exact scores of their items are (float64, to 1e-6 of the larger one).
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from scipy.sparse import csr_array, csr_matrix, load_npz, save_npz
from threadpoolctl import threadpool_limits

from benchmarks.compare import Comparison, answer, in_turn, median, report, run_side, side
from benchmarks.floor import ranking_floor
from benchmarks.quality import BENCHMARKS
from recsys_ae.ceiling import ceiling
from recsys_ae.histories import Histories
from recsys_ae.models import MODELS, ModelConfig
from recsys_ae.models.base import FactorRecommender
from recsys_ae.products import Factors, limit_threads
from recsys_ae.ranking import rank_top_k
from recsys_ae.training import FitRecord, RunContext

FACTORS, K, SEED = 64, 100, 0
BATCHES = (250, 1_000, 5_000)
TOLERANCE = 1e-6
ALS = {"factors": FACTORS, "iterations": 3, "regularisation": 1.0, "alpha": 1.0}


class MeanOfFactors(FactorRecommender):
    """Scores of given item factors (I, F): a history is the mean of its items'."""

    Config: ClassVar[type[ModelConfig]] = ModelConfig

    def fit(self, train: Histories, *, validation: object, run: RunContext) -> FitRecord:
        raise NotImplementedError("its factors are given")

    def layout(self) -> dict[str, int | None]:
        return {"item_factors": 0}

    def _factors(self, histories: Histories) -> Factors:
        factors = self._tensors["item_factors"]
        return Factors(torch.from_numpy(means(histories, factors.numpy())), factors)


def means(histories: Histories, factors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of the factors of each row's items, (U, F)."""
    return (histories.matrix @ factors) / np.maximum(histories.lengths, 1).astype(np.float32)[:, None]


def ours(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Our lists."""
    histories, factors = _read(folder)
    model = MeanOfFactors(ModelConfig(), len(factors)).restore({"item_factors": torch.from_numpy(factors)})
    begin = time.perf_counter()
    ranking = rank_top_k(model, histories, K)
    seconds = time.perf_counter() - begin
    np.save(folder / "ours.npy", ranking.items)
    return {"seconds": seconds}


def implicit(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """implicit's lists, in batches of one size."""
    from implicit.cpu.als import AlternatingLeastSquares

    histories, factors = _read(folder)
    model = AlternatingLeastSquares(FACTORS, num_threads=settings["threads"])
    model.item_factors, model.user_factors = factors, means(histories, factors)
    matrix, users, lists = csr_matrix(histories.matrix), np.arange(len(histories)), []
    with threadpool_limits(1, "blas"):  # it threads by itself
        begin = time.perf_counter()
        for start in range(0, len(users), settings["batch"]):
            block = slice(start, start + settings["batch"])
            lists.append(model.recommend(users[block], matrix[block], N=K, filter_already_liked_items=True)[0])
        seconds = time.perf_counter() - begin
    np.save(folder / "implicit.npy", np.concatenate(lists))
    return {"seconds": seconds}


SIDES = {"ours": ours, "implicit": implicit}


def _read(folder: Path) -> tuple[Histories, NDArray[np.float32]]:
    factors = load_file(folder / "factors.safetensors")["item_factors"].numpy()
    return Histories.from_matrix(csr_array(load_npz(folder / "histories.npz"))), factors


def differing(folder: Path) -> int:
    """Rows whose lists are not equal up to ties."""
    histories, factors = _read(folder)
    users, exact = means(histories, factors).astype(np.float64), factors.astype(np.float64)
    lists = np.stack([np.load(folder / f"{name}.npy") for name in SIDES])  # (2, U, K)
    mine, theirs = np.stack([[exact[row] @ user for row, user in zip(side, users, strict=True)] for side in lists])
    return int((np.abs(mine - theirs) > TOLERANCE * np.maximum(1, np.abs(theirs))).any(1).sum())


def main() -> None:
    """Factors, both sides in turn, the lists compared."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with Gowalla's train.parquet and test.parquet")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--users", type=int, help="the first ones alone: a trial, not written")
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    histories = BENCHMARKS["gowalla"].read(arguments.data)[0].histories.take(slice(arguments.users))
    als = MODELS["als"](MODELS["als"].Config(**ALS), histories.n_items)
    als.fit(histories, validation=None, run=RunContext(seed=SEED, device="cpu"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_npz(folder / "histories.npz", histories.matrix, compressed=False)
        save_file(als.tensors(), folder / "factors.safetensors")
        limit = ceiling(1_000, FACTORS, histories.n_items)

        def run(what: str, batch: int = 0) -> dict[str, Any]:
            settings = {"threads": arguments.threads, "batch": batch}
            return run_side(side("top_k", what, folder, settings), arguments.threads)

        theirs = {f"implicit, batches of {batch}": partial(run, "implicit", batch) for batch in BATCHES}
        rounds = in_turn({"ours": partial(run, "ours")} | theirs, arguments.rounds)
        different = differing(folder)
    fastest = min(theirs, key=lambda name: median(rounds[name], "seconds"))
    comparison = Comparison(
        "top 100 of all Gowalla users, 64 factors",
        "s",
        median(rounds["ours"], "seconds"),
        median(rounds[fastest], "seconds"),
        0.7,
    )
    floor = ranking_floor(limit, len(histories), histories.n_items, FACTORS)
    found = {
        "reference": fastest,
        "seed": SEED,
        "users": len(histories),
        "items": histories.n_items,
        "rows_that_differ": different,
        "ceiling": limit.as_json(),
        "floor": floor.reached(comparison.ours),
        "rounds": rounds,
    }
    report("top_k", arguments.threads, [comparison], found, keep=arguments.users is None)


if __name__ == "__main__":
    if not answer(SIDES):
        main()
