"""Memory and time of judging a million users: generated histories and lists, no model.

    python -m benchmarks.report_memory [--users N]

Lists come block by block, as from a model; per-user figures go to Parquet as they come; then everything of evaluation.json is
computed for two such models. The peak above what the process held with its input is what is told, and that of the lists alone.
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.record import write
from pipelines.config import make_config
from pipelines.evaluate import judge_all
from pipelines.evaluation.document import document
from pipelines.evaluation.judged import Bench, Judged, kept_by, peak_rss_bytes
from pipelines.evaluation.per_user import PerUserWriter
from pipelines.evaluation.stored import write_document
from recsys_ae.beyond import Lists
from recsys_ae.dataset import Dataset
from recsys_ae.evaluation import tallied
from recsys_ae.histories import Histories, Holdout
from recsys_ae.ids import IdMap
from recsys_ae.items import ItemMetadata
from recsys_ae.split import Split

ITEMS, HISTORY, TARGETS, KS = 20_000, 20, 5, (10, 20, 50, 100)
TRAIN_USERS = 50_000


def rows(rng: np.random.Generator, n: int, length: int) -> np.ndarray:
    """Distinct items of a long-tailed catalogue, (n, length)."""
    found = np.sort((ITEMS * rng.random((n, length)) ** 3).astype(np.int32), axis=1)
    for column in range(1, length):  # the next free one where two are equal
        found[:, column] = np.maximum(found[:, column], found[:, column - 1] + 1)
    return found % ITEMS


def histories(items: np.ndarray) -> Histories:
    n, length = items.shape
    indptr = np.arange(n + 1, dtype=np.int64) * length
    return Histories(indptr, items.ravel(), np.ones(items.size, np.float32), ITEMS)


def made(users: int) -> Bench:
    """Training users, and test users whose held-out items are others than those of their history."""
    rng = np.random.default_rng(0)
    ids = IdMap.of(range(ITEMS))
    train = histories(rows(rng, TRAIN_USERS, HISTORY))
    both = rows(rng, users, HISTORY + TARGETS)
    held = rng.permutation(HISTORY + TARGETS)
    holdout = Holdout(
        IdMap.of(range(TRAIN_USERS, TRAIN_USERS + users)),
        histories(both[:, held[TARGETS:]]),
        histories(both[:, held[:TARGETS]]),
    )
    categories = tuple((f"kind {i % 20}",) for i in range(ITEMS))
    metadata = ItemMetadata.of(ids, train, {}, dict(zip(ids.ids, categories, strict=True)))
    data = Dataset(IdMap.of(range(TRAIN_USERS)), ids, train, metadata)
    small = holdout.take(slice(10))
    return Bench(Split("strong_generalization", data, small, holdout, data, False, {}))


def judge_generated(key: str, seed: int, bench: Bench, writer: PerUserWriter | None) -> Judged:
    """Lists that a seed makes of each block."""
    test = bench.split.test

    def lists(block: slice) -> Lists:
        n = len(range(len(test))[block])
        return np.random.default_rng([seed, block.start]).permuted(rows(np.random.default_rng(block.start), n, 100), axis=1)

    return Judged(key, tallied(lists, test, KS, catalogue=bench.catalogue, keep=kept_by(writer, bench)))


def main() -> None:
    """Two models on all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=1_000_000)
    users = parser.parse_args().users
    bench = made(users)
    config = make_config({"log": {"dataset": "movielens-small"}, "evaluation": {"map": "none"}})
    before = peak_rss_bytes()
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        judges = {key: partial(judge_generated, key, seed) for seed, key in enumerate(("one", "other"), 1)}
        judged, evaluations = judge_all(judges, [bench], folder)
        judging = time.perf_counter() - begin
        content = document(config, [bench], {"read": 0, "kept": 0, "dropped": {}}, judged, evaluations)
        size = write_document(content, folder).stat().st_size
        files = sum(file.stat().st_size for file in (folder / "per_user").iterdir())
    found = {
        "users": users,
        "models": 2,
        "input_peak_bytes": before,
        "peak_bytes": peak_rss_bytes(),
        "above_input_bytes": peak_rss_bytes() - before,
        "lists_bytes": users * 100 * 4,
        "judging_seconds": round(judging, 1),
        "document_seconds": round(time.perf_counter() - begin - judging, 1),
        "evaluation_json_bytes": size,
        "per_user_bytes": files,
    }
    write("report_memory", found)
    print(found)


if __name__ == "__main__":
    main()
