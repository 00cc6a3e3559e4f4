"""Peak memory of fitting EASE, over the size of its float32 item-item matrix."""

import argparse
import resource
import time

import numpy as np
from scipy.sparse import random_array

from benchmarks.record import write
from recsys_ae.histories import Histories
from recsys_ae.models.ease import item_weights


def peak() -> int:
    """Bytes: the most this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Fit once on random pairs; the peak before is subtracted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=12_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--density", type=float, default=0.003)
    arguments = parser.parse_args()
    shape = (arguments.users, arguments.items)
    matrix = random_array(shape, density=arguments.density, format="csr", rng=np.random.default_rng(0), dtype=np.float32)
    matrix.data[:] = 1
    histories = Histories.from_matrix(matrix)
    _ = histories.matrix
    before, begin = peak(), time.perf_counter()
    item_weights(histories, 500.0)
    seconds, extra = time.perf_counter() - begin, peak() - before
    size = 4 * arguments.items**2
    result = {
        "items": arguments.items,
        "users": arguments.users,
        "interactions": histories.n_interactions,
        "seed": 0,
        "matrix_bytes": size,
        "extra_peak_bytes": extra,
        "ratio": round(extra / size, 3),
        "seconds": round(seconds, 1),
    }
    print(result)
    write("ease_memory", result)


if __name__ == "__main__":
    main()
