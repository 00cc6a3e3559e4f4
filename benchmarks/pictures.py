"""Draws the pictures of anomalies, generation, losses, pre-training and next events in docs/pictures/ from the newest results.

python -m benchmarks.pictures
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

BEGINNINGS = {"none": ("#5b6470", "D"), "layerwise": ("#9c3d86", "s"), "als": ("#0b63a5", "o"), "ease": ("#c2510c", "^")}
MODELS = {"deep": "mult_dae, hidden = [128], latent = 64", "linear": "mult_dae, latent = 128"}


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


def losses() -> Figure:
    """ndcg@100 of each loss under the same budget: every split a point, their mean a bar."""
    found = newest("losses-movielens-small-*.json")["found"]
    models = list(dict.fromkeys(name.split()[0] for name in found))
    figure = Figure(figsize=(9, 2.8), facecolor="white", layout="constrained")
    for axes, model in zip(figure.subplots(1, len(models), sharey=True, squeeze=False)[0], models, strict=True):
        runs = {name.split()[1]: by_seed for name, by_seed in found.items() if name.startswith(f"{model} ")}
        for place, by_seed in enumerate(runs.values()):
            values = [run["ndcg@100"] for run in by_seed.values()]
            axes.barh(place, np.mean(values), color="#b9d3e8")
            axes.plot(values, [place] * len(values), "o", color="#0b63a5", markersize=5, alpha=0.85)
        axes.set_yticks(range(len(runs)), list(runs))
        axes.set_title(model, fontsize=10)
        axes.set_xlabel("ndcg@100")
        plain(axes)
    figure.axes[0].invert_yaxis()
    return figure


def pretraining() -> Figure:
    """Test ndcg@100 by the share of training users and by what a fit begins with: the mean, and the range over seeds."""
    found = newest("pretraining-movielens-small-*.json")["found"]
    by_model: dict[str, dict[str, dict[float, list[float]]]] = {}
    for case, by_seed in found.items():
        model, share, how = case.split()
        by_model.setdefault(model, {}).setdefault(how, {})[float(share)] = [run["test"] for run in by_seed.values()]
    figure = Figure(figsize=(9, 3.4), facecolor="white", layout="constrained")
    for axes, (model, by_how) in zip(figure.subplots(1, len(by_model), sharey=True), by_model.items(), strict=True):
        for how, by_share in by_how.items():
            colour, marker = BEGINNINGS[how]
            shares = [100 * share for share in by_share]
            axes.plot(shares, [np.mean(v) for v in by_share.values()], marker + "-", color=colour, label=how, markersize=5)
            axes.fill_between(
                shares, *zip(*((min(v), max(v)) for v in by_share.values()), strict=True), color=colour, alpha=0.12
            )
        axes.set_xscale("log")
        axes.set_xticks(shares, [f"{share:g} %" for share in shares])
        axes.minorticks_off()
        axes.set_title(MODELS[model], fontsize=10)
        axes.set_xlabel("training users")
        plain(axes)
        axes.grid(axis="y", color="#dfe3e8")
    figure.axes[0].set_ylabel("ndcg@100")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def next_events() -> Figure:
    """hit_rate@10 and ndcg@10 of the next event by each model, best first, with 95 % of a normal; what the order is worth."""
    entries = newest("quality_amazon-beauty-next.json")["entries"]
    runs = {name: next(iter(entry["seeds"].values())) for name, entry in entries.items() if name == entry["model"]}
    runs["conv_vae, order shuffled"] = newest("order-*.json")["histories"]["shuffled"]
    names = sorted(runs, key=lambda name: -float(runs[name]["metrics"]["hit_rate@10"]))
    figure = Figure(figsize=(9, 4.6), facecolor="white", layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2, sharey=True), ("hit_rate@10", "ndcg@10"), strict=True):
        values, spread = ([runs[name][kind][metric] for name in names] for kind in ("metrics", "se"))
        colours = ["#c2510c" if name.startswith("conv_vae") else "#b9d3e8" for name in names]
        axes.barh(range(len(names)), values, xerr=1.96 * np.array(spread), color=colours, ecolor="#5b6470")
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel(metric)
        plain(axes)
    figure.axes[0].invert_yaxis()
    return figure


def main() -> None:
    """Draw all."""
    drawn = {
        "latent_anomalies": anomalies,
        "latent_generation": generation,
        "losses": losses,
        "pretraining": pretraining,
        "next_events": next_events,
    }
    for name, draw in drawn.items():
        figure = draw()
        path = PICTURES / f"{name}.svg"
        figure.savefig(path, metadata={"Date": None})
        print(f"written to {path}")


if __name__ == "__main__":
    main()
