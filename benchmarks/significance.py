"""Time and memory of the intervals and tests of one metric: the best of five models against the other four, user by user.

    OMP_NUM_THREADS=1 python -m benchmarks.significance [USERS ...]

All users at once, then ten groups of them, each size in a process of its own. The differences are drawn: mostly 0, both signs.
"""

import argparse
import multiprocessing
import resource
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np

from recsys_ae.significance import paired_bootstrap, paired_by_group, paired_randomisation

MODELS, GROUPS, SEED = 4, 10, 0
RESAMPLES, SIGNS = 2_000, 10_000


def measure(users: int) -> dict[str, Any]:
    """Seconds of each function; the most that a second call of it allocates beside the differences; the process' peak."""
    rng = np.random.default_rng(SEED)
    differences = rng.random((users, MODELS), np.float32)
    differences -= rng.random((users, MODELS), np.float32)
    differences[np.abs(differences) < 0.3] = 0  # half of the users
    labels = rng.integers(0, GROUPS, users)
    parts: dict[str, Callable[[], Any]] = {
        "bootstrap": lambda: paired_bootstrap(differences, RESAMPLES, seed=SEED),
        "randomisation": lambda: paired_randomisation(differences, SIGNS, seed=SEED),
        "both_by_group": lambda: paired_by_group(
            differences, labels, GROUPS, seed=SEED, bootstrap_resamples=RESAMPLES, randomisation_resamples=SIGNS
        ),
    }
    found: dict[str, Any] = {"differences_bytes": differences.nbytes}
    for name, part in parts.items():
        begin = time.perf_counter()
        part()
        seconds = time.perf_counter() - begin
        tracemalloc.start()
        part()
        found[name] = {"seconds": round(seconds, 2), "allocated_bytes": tracemalloc.get_traced_memory()[1]}
        tracemalloc.stop()
    return found | {"peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def main() -> None:
    """Measure, print, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("users", nargs="*", type=int, default=[30_000, 1_000_000], help="numbers of users")
    arguments = parser.parse_args()
    settings = {
        "models": MODELS,
        "groups": GROUPS,
        "bootstrap_resamples": RESAMPLES,
        "randomisation_resamples": SIGNS,
        "seed": SEED,
    }
    result: dict[str, Any] = settings | {"users": {}}
    for users in arguments.users:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            result["users"][users] = pool.apply(measure, (users,))
        print(users, result["users"][users], flush=True)
    from benchmarks.record import write  # here: it imports torch, which would count as memory

    write("significance", result)


if __name__ == "__main__":
    main()
