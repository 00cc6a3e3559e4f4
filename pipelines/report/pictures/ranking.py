"""The models compared: scores, differences, curves by k, shared items."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from pipelines.report import words
from pipelines.report.drawing import (
    INK,
    REST,
    SERIES,
    SOFT,
    label,
    labels,
    legend_room,
    number,
    panels,
    room,
    sheet,
    svg,
    ticks,
)
from pipelines.report.findings import ACCURACY, Document, name_of, split_name
from pipelines.report.pictures.base import Picture, Series, interval_ends, names_of, only_some, rows
from pipelines.report.words import figure, listed, plain


def scores(document: Document, metric: str, order: Sequence[str], models: Sequence[Series]) -> Picture | None:
    """The decision's metric of every model with its interval."""
    found = [(key, document["models"][key]["metrics"].get(metric) or {}) for key in order]
    found = [(key, score) for key, score in found if score.get("mean") is not None]
    if len(found) < 2:
        return None
    drawn = {m.key: m for m in models}
    all_names = labels(list(document["models"]))
    names = [all_names[key] for key, _ in found]
    picture, axes = sheet(0.32 * len(found), left=room(names), right=0.7, bottom=0.35)
    for y, (key, score) in enumerate(found):
        colour, marker = (drawn[key].colour, drawn[key].marker) if key in drawn else (REST, "o")
        axes.plot(interval_ends(score), (y, y), color=colour, solid_capstyle="butt")
        axes.plot(score["mean"], y, color=colour, marker=marker)
        axes.text(1.02, y, figure(score["mean"]), transform=axes.get_yaxis_transform(), va="center")
    rows(axes, names, plain(metric, 50))
    ticks(axes.xaxis, 4)
    (first, high), (last, low) = found[0], found[-1]
    said = (
        f"{metric}: {plain(first, 40)} leads with {figure(high['mean'])}, {plain(last, 40)} is last with {figure(low['mean'])}"
    )
    note = "Dots are means over test users, lines their 95 % intervals."
    if document.get("comparison"):
        note += " All models have the same users, so the differences say more."
    return Picture("scores", said, note, svg(picture, said))


def differences(document: Document, metric: str, order: Sequence[str]) -> Picture | None:
    """Forest plot of the best less each other model."""
    comparison = document.get("comparison") or {}
    pairs = {pair["model"]: pair for pair in comparison.get("pairs", []) if pair["metric"] == metric}
    found = [pairs[key] for key in order if key in pairs and pairs[key]["difference"].get("mean") is not None]
    if not found:
        return None
    best, level = comparison.get("best") or order[0], comparison.get("level") or 0.05
    all_names = labels(list(document["models"]))
    names = [all_names[pair["model"]] for pair in found]
    picture, axes = sheet(0.32 * len(found), left=room(names), right=0.95, bottom=0.35)
    axes.axvline(0, color=SOFT, linewidth=1)
    open_ones = []
    for y, pair in enumerate(found):
        p = pair["p_holm"] if pair.get("p_holm") is not None else pair.get("p")
        certain = p is not None and p <= level
        colour = SERIES[0] if certain else SOFT
        axes.plot(interval_ends(pair["difference"]), (y, y), color=colour, solid_capstyle="butt")
        axes.plot(pair["difference"]["mean"], y, "o", color=colour, markerfacecolor=colour if certain else "#ffffff")
        told = words.p_value(p)
        axes.text(1.02, y, f"p {told}" if told else "", transform=axes.get_yaxis_transform(), va="center")
        open_ones += [] if certain else [plain(pair["model"], 40)]
    rows(axes, names, f"{label(metric)} of {all_names[best]} less that of")
    ticks(axes.xaxis, 4)
    leads = f"{plain(best, 40)} leads every other model beyond chance"
    said = leads if not open_ones else f"The lead of {plain(best, 40)} over {listed(open_ones)} may be chance"
    note = (
        "Differences by user, with 95 % bootstrap intervals; to the right of 0 the best model is better. "
        f"Filled: beyond chance at level {level:g} (randomisation test, Holm-corrected)."
    )
    return Picture("differences", said, note, svg(picture, said))


def curves(document: Document, metric: str, models: Sequence[Series]) -> Picture | None:
    """Accuracy over the length of the list."""
    of = {m.key: document["models"][m.key].get("curves") or {} for m in models}
    drawn = [m for m in models if len(of[m.key].get("k") or []) > 1]
    names = list(dict.fromkeys(name for m in drawn for name in of[m.key] if name != "k"))
    lead = split_name(metric)[0]
    rank = {name: place for place, name in enumerate(ACCURACY)}
    names = sorted(names, key=lambda name: (name != lead, rank.get(name, len(rank))))[:4]
    if not names:
        return None
    picture, all_axes = panels(len(names), 1.55, legend_room([m.name for m in drawn], 0.6))
    for name, axes in zip(names, all_axes, strict=True):
        for m in drawn:
            if name not in of[m.key]:
                continue
            k, curve = of[m.key]["k"], of[m.key][name]
            axes.plot(k, curve["mean"], color=m.colour, marker=m.marker, markersize=3.5, linewidth=1.5)
            if curve.get("low") and curve.get("high"):
                axes.fill_between(k, curve["low"], curve["high"], color=m.colour, alpha=0.15, linewidth=0)
        _log_ticks(axes, max(max(of[m.key]["k"]) for m in drawn))
        ticks(axes.yaxis, 4)
        axes.grid(axis="y")
        axes.set_title(name_of(name))
    for axes in all_axes[-2:]:
        axes.set_xlabel("k", labelpad=3)
    names_of(picture, drawn)
    said = f"{listed([name_of(name) for name in names])} over the length of the list"
    firsts = [_leader(of, drawn, names[0], place) for place in (0, -1)]
    if firsts[0] and firsts[1]:
        k = of[drawn[0].key]["k"]
        same = f"{firsts[0]} leads in {name_of(names[0])} both at k = {k[0]} and at k = {k[-1]}"
        other = f"{firsts[0]} leads in {name_of(names[0])} at k = {k[0]}, {firsts[1]} at k = {k[-1]}"
        said = same if firsts[0] == firsts[1] else other
    note = (
        f"Lines are means over test users, bands their 95 % intervals; k has a logarithmic scale.{only_some(document, models)}"
    )
    return Picture("curves", said, note, svg(picture, said))


def _leader(of: Mapping[str, Any], drawn: Sequence[Series], name: str, place: int) -> str:
    """Who has the highest value at that place of the curve."""
    ends = {m.name: of[m.key][name]["mean"][place] for m in drawn if name in of[m.key]}
    return max(ends, key=lambda key: ends[key]) if ends and all(value is not None for value in ends.values()) else ""


def _log_ticks(axes: Axes, most: float) -> None:
    axes.set_xscale("log")
    at = [tick for tick in (1, 10, 100, 1_000, 10_000, 100_000) if tick <= max(most, 10)]
    axes.set_xticks(at, [number(tick) for tick in at])
    axes.set_xticks([], minor=True)


def overlap(document: Document) -> Picture | None:
    """How alike the lists of two models are: a heat map."""
    found = document.get("overlap") or {}
    keys, jaccard = found.get("models") or [], found.get("jaccard") or []
    if len(keys) < 2:
        return None
    names = [f"{name}  {place}" for place, name in enumerate(labels(keys).values(), 1)]
    left = room(names)
    cell = min((5.1 - left) / len(keys), 0.55)
    picture, axes = sheet(cell * len(keys), left=left, right=5.2 - left - cell * len(keys), top=0.35, bottom=0.1)
    for row, values in enumerate(jaccard):
        for column, value in enumerate(values):
            if row == column or value is None:
                continue
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color=SERIES[0], alpha=0.04 + 0.5 * value, linewidth=0))
            if len(keys) <= 10:
                axes.text(column, row, f"{value:.2f}", ha="center", va="center")
    axes.set_xlim(-0.5, len(keys) - 0.5)
    axes.set_xticks(range(len(keys)), [str(place) for place in range(1, len(keys) + 1)])
    axes.xaxis.tick_top()
    rows(axes, names)
    axes.set_ylim(len(keys) - 0.5, -0.5)
    axes.grid(visible=False)
    axes.tick_params(axis="x", length=0, labelcolor=INK)
    axes.spines["bottom"].set_visible(False)
    off = [(jaccard[a][b], a, b) for a in range(len(keys)) for b in range(a) if jaccard[a][b] is not None]
    said = f"Overlap of the lists at {found.get('k', 'k')}"
    if off:
        value, a, b = max(off)
        said = f"The lists of {plain(keys[b], 40)} and {plain(keys[a], 40)} are most alike (Jaccard similarity {value:.2f})"
    note = (
        f"Jaccard similarity of the first {found.get('k', '')} items, mean over users: 1 is the same list, 0 nothing in common."
    )
    return Picture("overlap", said, note, svg(picture, said))
