"""Does the order of a history count? conv_vae on the next event of amazon-beauty, with histories as they are and shuffled.

    OMP_NUM_THREADS=1 python -m benchmarks.order --data FOLDER [--seed S] [--epochs N]

Shuffled: the events of every history before the last two, which are for validation and test, change places at random, in
training and in what a model is asked with. What is to be found stays. The fit is that of `benchmarks.quality`.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality import BENCHMARKS, as_json
from benchmarks.record import fit_and_judge, write
from recsys_ae.histories import Histories, Holdout
from recsys_ae.split import Split

BENCHMARK = BENCHMARKS["amazon-beauty-next"]


def shuffled(histories: Histories, rng: np.random.Generator) -> Histories:
    """The events of every row in another order, at the times that there were."""
    order: NDArray[np.int64] = np.lexsort((rng.random(histories.n_interactions), histories.rows))
    return Histories(
        histories.indptr, histories.items[order], histories.weights[order], histories.n_items, times=histories.times
    )


def without_order(split: Split, seed: int) -> Split:
    """The split whose histories are shuffled."""
    rng = np.random.default_rng(seed)

    def asked(holdout: Holdout) -> Holdout:
        return replace(holdout, fold_in=shuffled(holdout.fold_in, rng))

    train = replace(split.train, histories=shuffled(split.train.histories, rng))
    return replace(split, train=train, validation=asked(split.validation), test=asked(split.test))


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="at most")
    asked = parser.parse_args()
    _, split_of = BENCHMARK.read(asked.data)
    split = split_of(asked.seed)
    settings = {} if asked.epochs is None else {"epochs": asked.epochs}
    found = {}
    for name, each in (("shuffled", without_order(split, asked.seed)), ("as they are", split)):
        judged = fit_and_judge("conv_vae", settings, each, asked.seed)
        found[name] = as_json(judged, BENCHMARK.metrics)
        print(name, found[name], flush=True)
    write("order", {"set": "amazon-beauty-next", "model": "conv_vae", "seed": asked.seed, "histories": found})


if __name__ == "__main__":
    main()
