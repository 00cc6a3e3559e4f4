"""What the report costs beside the scoring of the models: Gowalla's 29,858 users, five fitted models, all metrics.

    python -m benchmarks.report --data FOLDER [--threads N] [--users N]

Scoring is what `evaluate` spends in `rank_top_k`; the report is all that comes after the lists: every metric at every k,
per-user files, groups, comparisons, the items' map, evaluation.json, report.html and its pictures. Models are fitted before,
and not timed.
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.compare import Comparison, report
from benchmarks.quality import BENCHMARKS
from pipelines.config import make_config
from pipelines.evaluate import judge_all
from pipelines.evaluation.document import document
from pipelines.evaluation.judged import Bench, judge_model, peak_rss_bytes
from pipelines.evaluation.stored import write_document
from pipelines.report import render
from recsys_ae.histories import Holdout
from recsys_ae.models import MODELS, Recommender
from recsys_ae.products import limit_threads
from recsys_ae.training import RunContext
from recsys_ae.training.run import FitRecord

JUDGED: dict[str, dict[str, Any]] = {
    "popularity": {},
    "als": {},
    "user_knn": {},
    "sparse_ease": {},
    "mult_dae": {"latent": 512, "epochs": 3},
}
KS = (10, 20, 50, 100)
SEED = 0


def main() -> None:
    """Fit, then judge and report with a clock at every part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with Gowalla's train.parquet and test.parquet")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--users", type=int, help="the first ones alone: a trial, not written")
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    split = BENCHMARKS["gowalla"].read(arguments.data)[1](SEED)
    fitted: dict[str, tuple[Recommender, FitRecord]] = {}
    for name, settings in JUDGED.items():
        model = MODELS[name](MODELS[name].Config(**settings), split.test.n_items)
        record = model.fit(split.refit.histories, validation=None, run=RunContext(seed=SEED, device="cpu"))
        fitted[name] = model, record
    if arguments.users:
        test, some = split.test, slice(arguments.users)
        users = type(test.users)(test.users.ids[some])
        object.__setattr__(split, "test", Holdout(users, test.fold_in.take(some), test.held_out.take(some)))
    sections = [{"name": name, **settings} for name, settings in JUDGED.items()]
    files = {"train": "train.parquet", "test": "test.parquet"}
    config = make_config({"split": {"kind": "given", **files}, "models": sections, "publish": {"metric": "ndcg@20"}})
    with tempfile.TemporaryDirectory() as name:
        found = parts(config, Bench(split), fitted, Path(name))
    scoring, rest = found["seconds"]["scoring"], sum(found["seconds"].values()) - found["seconds"]["scoring"]
    comparison = Comparison("the report of five models on all Gowalla users, beside their scoring", "s", rest, scoring, 1.0)
    found = {"reference": "scoring", "seed": SEED, "users": len(split.test), "items": split.test.n_items, **found}
    report("report", arguments.threads, [comparison], found, keep=arguments.users is None)


def parts(config: Any, bench: Bench, fitted: dict[str, tuple[Recommender, FitRecord]], folder: Path) -> dict[str, Any]:
    """Seconds of each part, and what was written."""
    begin = time.perf_counter()
    judges = {s.key: partial(judge_model, config, s, *fitted[s.key], 0.0) for s in config.models}
    judged, evaluations = judge_all(judges, [bench], folder)
    done = time.perf_counter()
    scoring = sum(one.evaluation.score_seconds for windows in judged.values() for one in windows)
    seconds = {"scoring": scoring, "judging": done - begin - scoring}
    content = document(config, [bench], {"read": 0, "kept": 0, "dropped": {}}, judged, evaluations)
    path = write_document(content, folder)
    seconds["document"] = time.perf_counter() - done
    done = time.perf_counter()
    page = render(content, folder)
    seconds["page"] = time.perf_counter() - done
    sizes = {"evaluation.json": path.stat().st_size, "report.html": page.stat().st_size}
    sizes["per_user"] = sum(file.stat().st_size for file in (folder / "per_user").iterdir())
    return {"seconds": {part: round(value, 3) for part, value in seconds.items()}, "bytes": sizes, "peak": peak_rss_bytes()}


if __name__ == "__main__":
    main()
