"""Draws docs/pictures/latent_anomalies.svg and latent_generation.svg from the newest results.

python -m benchmarks.latent_pictures
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.record import RESULTS

PICTURES = Path(__file__).parents[1] / "docs/pictures"
ANOMALIES = {
    "ours": ("#0b63a5", "o"),
    "degree of similarity": ("#c2510c", "s"),
    "mean popularity": ("#0a7d5a", "^"),
    "length": ("#9c3d86", "D"),
}
GENERATION = {
    "ease trained on it, real test users, ndcg@100": "use: ndcg@100 of EASE",
    "co-occurrence, correlation": "likeness: co-occurrence",
    "membership inference, AUC": "privacy: attack's AUC",
}


def newest(pattern: str) -> dict[str, Any]:
    """The last result whose name fits."""
    found: dict[str, Any] = json.loads(sorted(RESULTS.glob(pattern))[-1].read_text())
    return found


def plain(axes: Axes) -> None:
    """Less ink."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#dfe3e8")
    axes.set_axisbelow(True)


def anomalies() -> Figure:
    """ROC-AUC by kind of attacker, of a model that met them in its log and of one that did not."""
    runs = newest("latent_anomalies-ml-1m-*.json")["runs"]
    figure = Figure(figsize=(9, 3.6), facecolor="white", layout="constrained")
    for axes, (name, run) in zip(figure.subplots(1, len(runs), sharey=True), runs.items(), strict=True):
        kinds = list(run["kinds"])
        for measure, (colour, marker) in ANOMALIES.items():
            values = [run["kinds"][kind][measure]["roc_auc"] for kind in kinds]
            axes.plot(values, range(len(kinds)), marker, color=colour, label=measure, markersize=7, alpha=0.85)
        axes.set_yticks(range(len(kinds)), kinds)
        axes.set_xlim(0.5, 1.01)
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("ROC-AUC")
        plain(axes)
    figure.axes[0].invert_yaxis()
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def generation() -> Figure:
    """Use, likeness and privacy of each log."""
    logs = newest("latent_generation-movielens-small-*.json")["logs"]
    figure = Figure(figsize=(9, 2.8), facecolor="white", layout="constrained")
    del logs["the strangers"]  # of whom the attack says nothing
    for axes, (key, title) in zip(figure.subplots(1, len(GENERATION), sharey=True), GENERATION.items(), strict=True):
        values = [logs[name][key]["mean"] if isinstance(logs[name][key], dict) else logs[name][key] for name in logs]
        axes.barh(range(len(logs)), values, color="#0b63a5")
        for place, value in enumerate(values):
            axes.text(value, place, f" {value:.2f}", va="center", fontsize=9)
        axes.set_yticks(range(len(logs)), list(logs))
        axes.set_xlim(0, 1.2 * float(np.max(values)))
        axes.set_title(title, fontsize=10)
        plain(axes)
    figure.axes[0].invert_yaxis()
    return figure


def main() -> None:
    """Draw both."""
    for name, figure in (("latent_anomalies", anomalies()), ("latent_generation", generation())):
        path = PICTURES / f"{name}.svg"
        figure.savefig(path, metadata={"Date": None})
        print(f"written to {path}")


if __name__ == "__main__":
    main()
