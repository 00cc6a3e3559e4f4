"""Planted random events found by the support of the rest of the history, and what a log cleaned of them is worth.

    OMP_NUM_THREADS=1 python -m benchmarks.latent_denoise SET [--rates R ...] [--seeds SEED ...] [--law uniform|popular]
        [--judges NAME ...] [--retrained NAME ...] [--data FOLDER] [--users N]

The events are planted in the histories of the training users: of items that they do not have, all alike (`uniform`) or in
proportion to popularity (`popular`). A model judges the log that it was trained on, noise and all. Validation and test users
are clean. The cleaned log lacks as many interactions as were planted. `half`: a model not fitted on the users it judges.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from benchmarks.record import RESULTS, write
from pipelines.report.drawing import MARKERS, SERIES, legend, legend_room, panels, style, svg
from recsys_ae import datasets
from recsys_ae.dataset import Dataset
from recsys_ae.evaluation import evaluate
from recsys_ae.histories import Histories
from recsys_ae.latent.denoise import least_supported, support
from recsys_ae.log import Cleaning, Columns, read_log
from recsys_ae.models import MODELS, Recommender
from recsys_ae.preprocessing import Preprocessing
from recsys_ae.split import Split, strong_generalization
from recsys_ae.training import RunContext

RATES = [0.05, 0.1, 0.2]
HALF = ", half"
JUDGES = ("mult_dae", "ease", "als", "item_knn", "ease" + HALF, "als" + HALF)
METRIC = "ndcg@100"
LEAST_USER, LEAST_ITEM = 5, 8
"""Interactions."""
Flags = NDArray[np.bool_]


def data_of(name: str, folder: Path | None, users: int | None, seed: int) -> Dataset:
    """Users and items of five interactions and more; ratings of 4 and more where there are ratings."""
    if name == "ml-1m":
        assert folder is not None
        data = Dataset.from_log(
            read_log(
                str(folder / "pairs.parquet"), Columns(timestamp="no time"), Cleaning(Preprocessing(), LEAST_USER, LEAST_ITEM)
            )
        )
    else:
        rule = Preprocessing(min_weight=4.0)
        data = Dataset.from_log(datasets.load(name).clean(Cleaning(rule, LEAST_USER, LEAST_ITEM)), rule)
    if users is None or users >= len(data.users):
        return data
    return data.with_rows(np.sort(np.random.default_rng(seed).permutation(len(data.users))[:users]))


def planted(histories: Histories, rate: float, law: str, rng: np.random.Generator) -> tuple[Histories, Flags]:
    """Histories of which `rate` of the interactions are noise, and which, (N,)."""
    odds = np.ones(histories.n_items) if law == "uniform" else np.bincount(histories.items, minlength=histories.n_items) + 0.0
    counts = rng.binomial(histories.lengths, rate / (1 - rate))
    rows: list[list[int]] = []
    flags: list[Flags] = []
    for row, count in enumerate(counts.tolist()):
        own = histories.row(row)
        free = odds.copy()
        free[own] = 0
        new = rng.choice(histories.n_items, min(count, np.count_nonzero(free)), replace=False, p=free / free.sum())
        order = rng.permutation(len(own) + len(new))
        rows.append(np.concatenate([own, new])[order].tolist())
        flags.append(order >= len(own))
    return Histories.from_rows(rows, histories.n_items), np.concatenate(flags)


def fitted(name: str, split: Split, train: Histories, seed: int) -> Recommender:
    """A model with its defaults, stopped by the validation users."""
    model = MODELS[name](MODELS[name].Config(), train.n_items)
    model.fit(train, validation=split.validation, run=RunContext(seed=seed))
    return model


def by_popularity(log: Histories) -> NDArray[np.float32]:
    """Baseline: how many others have the item."""
    return np.bincount(log.items, minlength=log.n_items)[log.items].astype(np.float32)


def by_similarity(log: Histories) -> NDArray[np.float32]:
    """Baseline: the mean cosine of the item's column and those of the other items of the history (item-kNN, all neighbours)."""
    x = (log.matrix > 0).toarray().astype(np.float32)
    x_unit = x / np.maximum(np.linalg.norm(x, axis=0), 1e-12)
    similar = x_unit.T @ x_unit
    np.fill_diagonal(similar, 0)
    means = (x @ similar) / np.maximum(x.sum(1, keepdims=True) - 1, 1)
    return means[log.rows, log.items]


BASELINES: dict[str, Callable[[Histories], NDArray[np.float32]]] = {
    "popularity": by_popularity,
    "item_knn similarity": by_similarity,
}


def by_other_half(name: str, split: Split, log: Histories, seed: int) -> NDArray[np.float32]:
    """Each half of the users judged by a model of the other half."""
    first = np.random.default_rng(seed).permutation(len(log)) < len(log) // 2
    found = np.empty(log.n_interactions, np.float32)
    for side in (first, ~first):
        model = fitted(name, split, log.take(np.flatnonzero(~side)), seed)
        found[side[log.rows]] = support(model, log.take(np.flatnonzero(side)))
    return found


def found_by(supports: NDArray[np.float32], noise: Flags) -> dict[str, float]:
    """ROC-AUC, and the share of noise among as many as were planted (precision, and recall too)."""
    n = int(noise.sum())
    ranks = rankdata(-supports)
    auc = (ranks[noise].sum() - n * (n + 1) / 2) / (n * (len(noise) - n))
    return {
        "roc_auc": round(float(auc), 4),
        "precision": round(float(noise[least_supported(supports, n / len(noise))].mean()), 4),
    }


def judged_by(name: str, split: Split, log: Histories, seed: int) -> NDArray[np.float32]:
    """The supports by a baseline or a model."""
    if name in BASELINES:
        return BASELINES[name](log)
    if name.endswith(HALF):
        return by_other_half(name.removesuffix(HALF), split, log, seed)
    return support(fitted(name, split, log, seed), log)


def measure(data: Dataset, rate: float, seed: int, asked: argparse.Namespace) -> dict[str, Any]:
    """One rate and seed."""
    split = strong_generalization(data, seed=seed)
    clean = split.train.histories
    clean = Histories(clean.indptr, clean.items, np.ones_like(clean.weights), clean.n_items)
    log, noise = planted(clean, rate, asked.law, np.random.default_rng([seed, round(1000 * rate)]))
    found: dict[str, Any] = {"interactions": len(noise), "noise": round(float(noise.mean()), 4), METRIC: {}}
    supports = {name: judged_by(name, split, log, seed) for name in (*BASELINES, *asked.judges)}
    found["judges"] = {name: found_by(values, noise) for name, values in supports.items()}
    print(rate, seed, found["judges"], flush=True)
    logs = {"clean": clean, "noisy": log} | {
        f"cleaned by {name}": log.select(~least_supported(values, float(noise.mean()))) for name, values in supports.items()
    }
    for model in asked.retrained:
        found[METRIC][model] = {}
        for name, train in logs.items():
            score = evaluate(fitted(model, split, train, seed), split.test, (100,)).scores[METRIC]
            found[METRIC][model][name] = round(score.mean, 4)
        print(rate, seed, model, found[METRIC][model], flush=True)
    return found


def draw(name: str, law: str, picture: Path) -> None:
    """ROC-AUC and precision by rate, from the result files of a set, of the judges that stand in all of them."""
    files = sorted(RESULTS.glob(f"latent_denoise-{name}-{law}-*.json"))
    rates = {
        float(rate): by_seed for path in files for rate, by_seed in json.loads(path.read_text())["rates"].items() if by_seed
    }
    at = sorted(rates)
    in_all = set.intersection(*({*one["judges"]} for by_seed in rates.values() for one in by_seed.values()))
    names = [each for each in next(iter(rates[at[0]].values()))["judges"] if each in in_all]
    with style():
        figure, axes = panels(2, 2.0, legend_room(names, 0.6))
        for own, measure_, title in zip(axes, ("roc_auc", "precision"), ("ROC-AUC", "precision among as many"), strict=True):
            for place, each in enumerate(names):
                means = [np.mean([one["judges"][each][measure_] for one in rates[rate].values()]) for rate in at]
                own.plot([100 * rate for rate in at], means, color=SERIES[place], marker=MARKERS[place])
            own.set_title(title)
            own.set_xlabel("% of the log is noise", labelpad=3)
            own.set_xticks([100 * rate for rate in at])
            own.grid(axis="y")
        legend(figure, names, SERIES[: len(names)], MARKERS[: len(names)])
        picture.write_text(svg(figure, f"Planted random events found on {name}, by the share of noise"), "utf-8")
    print(f"written to {picture}")


def main() -> None:
    """Measure, print, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=("movielens-small", "synthetic", "ml-1m"))
    parser.add_argument("--rates", nargs="+", type=float, default=RATES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--judges", nargs="+", default=list(JUDGES), help="models; with ', half' fitted on other users")
    parser.add_argument("--retrained", nargs="+", default=["ease"], help="models judged on the noisy, cleaned and clean logs")
    parser.add_argument("--law", choices=("uniform", "popular"), default="uniform")
    parser.add_argument("--data", type=Path, help="folder of ml-1m's pairs.parquet")
    parser.add_argument("--users", type=int, help="as many users, drawn by chance")
    parser.add_argument("--draw", type=Path, metavar="FILE.svg", help="draw what was measured before, and measure nothing")
    asked = parser.parse_args()
    if asked.draw is not None:
        draw(asked.set, asked.law, asked.draw)
        return
    data = data_of(asked.set, asked.data, asked.users, 0)
    sizes = {"users": len(data.users), "items": len(data.items), "interactions": data.histories.n_interactions}
    variant = "-".join(["", asked.set, asked.law, *([] if asked.rates == RATES else map(str, asked.rates))])
    rates: dict[str, dict[int, Any]] = {str(rate): {} for rate in asked.rates}
    for rate in asked.rates:
        for seed in asked.seeds:
            rates[str(rate)][seed] = measure(data, rate, seed, asked)
            write("latent_denoise", {"set": asked.set, **sizes, "law": asked.law, "rates": rates}, variant)


if __name__ == "__main__":
    main()
