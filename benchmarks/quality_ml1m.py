"""MovieLens 1M, strong generalisation, 500 + 500 users, 0.2 held out: every model with its defaults, three seeds.

EASE is also computed here by the textbook formula in numpy (float64 inverse, dense, own ranking and metrics), sharing nothing
with the library but the split.
"""

import argparse
from typing import Any

import numpy as np

from benchmarks.record import fit_and_judge, paired, table, write
from recsys_ae.dataset import Dataset
from recsys_ae.evaluation import Evaluation
from recsys_ae.log import Cleaning, read_log
from recsys_ae.split import Split, strong_generalization

SEEDS = (98765, 1, 2)
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "popularity": ("popularity", {}),
    "als": ("als", {}),
    "ease": ("ease", {}),
    "ease lambda=1000": ("ease", {"regularisation": 1000.0}),
    "mult_dae": ("mult_dae", {}),
    "mult_vae": ("mult_vae", {}),
}
METRICS = ("ndcg@100", "capped_recall@20", "capped_recall@50", "recall@20", "coverage@10")


def independent_ease(split: Split, regularisation: float) -> dict[str, float]:
    """Mean ndcg@100 and capped_recall@20 of the closed form, written out in numpy."""
    x = split.train.histories.matrix.toarray().astype(np.float64)
    p = np.linalg.inv(x.T @ x + regularisation * np.eye(x.shape[1]))
    b = np.eye(x.shape[1]) - p / np.diag(p)
    seen, wanted = split.test.fold_in.matrix.toarray() > 0, split.test.held_out.matrix.toarray() > 0
    scores = np.where(seen, -np.inf, seen @ b)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :100]
    ndcg, recall = [], []
    for ranked, target in zip(order, wanted, strict=True):
        n = int(target.sum())
        gains = [1 / np.log2(place + 2) for place, item in enumerate(ranked) if target[item]]
        ndcg.append(sum(gains) / sum(1 / np.log2(place + 2) for place in range(min(n, 100))))
        recall.append(target[ranked[:20]].sum() / min(n, 20))
    return {"ndcg@100": float(np.mean(ndcg)), "capped_recall@20": float(np.mean(recall))}


def main() -> None:
    """Run all, print, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pairs", help="Parquet file of user_id, item_id")
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS))
    arguments = parser.parse_args()
    data = Dataset.from_log(read_log(arguments.pairs, cleaning=Cleaning(min_user_interactions=5)))
    print(f"{len(data.users)} users, {len(data.items)} items, {data.histories.n_interactions} interactions")
    rows: dict[str, dict[int, Evaluation]] = {name: {} for name in arguments.models}
    costs: dict[str, dict[int, Any]] = {name: {} for name in arguments.models}
    independent = {}
    for seed in SEEDS:
        split = strong_generalization(data, seed=seed, validation_users=500, test_users=500)
        if "ease lambda=1000" in rows:
            independent[seed] = independent_ease(split, 1000.0)
        for key in arguments.models:
            name, settings = MODELS[key]
            rows[key][seed], costs[key][seed] = fit_and_judge(name, settings, split, seed)
            scores = rows[key][seed].scores
            print(f"{seed} {key:18} ndcg@100 {scores['ndcg@100'].mean:.4f} ±{scores['ndcg@100'].se:.4f}  "
                  f"capped_recall@20 {scores['capped_recall@20'].mean:.4f}  {costs[key][seed]}", flush=True)  # fmt: skip
    result: dict[str, Any] = {
        "data": {"name": "ml-1m", "digest": data.digest},
        "protocol": "strong_generalization, 500 + 500 users, 0.2 held out, users below 5 items dropped",
        "models": table(rows, METRICS),
        "costs": costs,
    }
    if independent:
        ours = rows["ease lambda=1000"]
        gaps = [abs(ours[s].scores[m].mean - v) for s, found in independent.items() for m, v in found.items()]
        result["independent_ease"] = {"by_seed": independent, "largest_difference": max(gaps)}
        print(f"independent EASE: largest difference {max(gaps):.2e}")
        result["paired_to_ease_1000"] = {
            key: {m: {seed: paired(e, ours[seed], m) for seed, e in by_seed.items()} for m in METRICS[:2]}
            for key, by_seed in rows.items()
        }
    for key, found in result["models"].items():
        print(f"{key:18}", *(f"{m} {found[m]['mean']:.4f}" for m in METRICS))
    write("quality_ml1m", result)


if __name__ == "__main__":
    main()
