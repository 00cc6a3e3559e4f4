"""movielens-small (ratings of 4 and more, users of 5 films and more), strong generalisation: every model with its defaults.

66 test users say little, so the mean is over five splits.
"""

from typing import Any

from benchmarks.record import fit_and_judge, paired, table, write
from recsys_ae import datasets
from recsys_ae.dataset import Dataset
from recsys_ae.evaluation import Evaluation
from recsys_ae.log import Cleaning, InteractionLog
from recsys_ae.preprocessing import Preprocessing
from recsys_ae.split import strong_generalization

SEEDS = tuple(range(5))
MODELS = ("popularity", "als", "ease", "mult_dae", "mult_vae")
METRICS = ("ndcg@100", "capped_recall@20", "coverage@10")


def main() -> None:
    """Run all, print, write the result."""
    preprocessing = Preprocessing(min_weight=4.0)
    raw = datasets.load("movielens-small")
    data = Dataset.from_log(InteractionLog.from_table(raw.events, cleaning=Cleaning(preprocessing, 5)), preprocessing)
    rows: dict[str, dict[int, Evaluation]] = {name: {} for name in MODELS}
    costs: dict[str, dict[int, Any]] = {name: {} for name in MODELS}
    for seed in SEEDS:
        split = strong_generalization(data, seed=seed)
        for name in MODELS:
            rows[name][seed], costs[name][seed] = fit_and_judge(name, {}, split, seed)
            print(seed, name, round(rows[name][seed].scores["ndcg@100"].mean, 4), costs[name][seed], flush=True)
    result = {
        "data": {"name": "movielens-small", "digest": data.digest},
        "protocol": "strong_generalization, 66 + 66 of 659 users, 0.2 held out",
        "models": table(rows, METRICS),
        "costs": costs,
        "paired_to_ease": {n: {s: paired(e, rows["ease"][s], "ndcg@100") for s, e in r.items()} for n, r in rows.items()},
    }
    for name, found in table(rows, METRICS).items():
        print(f"{name:12}", *(f"{m} {found[m]['mean']:.4f}" for m in METRICS))
    write("quality_small", result)


if __name__ == "__main__":
    main()
