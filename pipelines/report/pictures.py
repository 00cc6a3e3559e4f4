"""The pictures of the report: each function draws one, or nothing where the document lacks what it shows."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as Outline

from pipelines.report import words
from pipelines.report.drawing import (
    GRID,
    INK,
    MARKERS,
    RAMP,
    REST,
    SERIES,
    SOFT,
    label,
    labels,
    legend,
    legend_room,
    number,
    panels,
    room,
    sheet,
    svg,
    ticks,
)
from pipelines.report.findings import ACCURACY, FOUND, Document, mean, name_of, split_name, standing
from pipelines.report.scatter import category_layers, largest, scatter
from pipelines.report.words import count, figure, interval, listed, moment, plain, plural, share

ACTIVE = 0.01
"""Nats of KL from which a latent dimension counts as active."""
MOST = len(SERIES)
"""Models in one picture with a colour each; tables have all."""


class Picture(NamedTuple):
    """`message` is what it shows in one sentence, `note` how to read it."""

    name: str
    message: str
    note: str
    svg: str


class Series(NamedTuple):
    """A model in the pictures."""

    key: str
    name: str
    colour: str
    marker: str


def series(document: Document, order: Sequence[str]) -> list[Series]:
    """The models that have a colour, best first. Colours go by the order of the document: that of the configuration."""
    keys = list(document["models"]) if len(document["models"]) <= MOST else list(order[:MOST])
    place = {key: keys.index(key) for key in order if key in keys}
    names = labels(list(document["models"]))
    return [Series(key, names[key], SERIES[at], MARKERS[at]) for key, at in place.items()]


def draw(document: Document, metric: str) -> dict[str, list[Picture]]:
    """All pictures, by section of the page."""
    order = standing(document, metric)
    models = series(document, order)
    sections: dict[str, list[Picture | None]] = {
        "accuracy": [
            scores(document, metric, order, models),
            differences(document, metric, order),
            curves(document, metric, models),
        ],
        "beyond": [overlap(document)],
        "groups": list(groups(document, metric, models)),
        "targets": list(targets(document, metric, models)),
        "learnt": [validation(document, models), losses(document, models), latent(document, models)],
        "map": list(item_map(document)),
        "data": [popularity(document), lengths(document), times(document), windows(document, metric, models)],
        "time": [trend(document, metric, models)],
    }
    return {section: [picture for picture in found if picture is not None] for section, found in sections.items()}


def _only_some(document: Document, models: Sequence[Series]) -> str:
    hidden = len(document["models"]) - len(models)
    return f" The first {len(models)} models are shown." if hidden > 0 else ""


def _interval_ends(score: Mapping[str, Any]) -> tuple[float, float]:
    low, high = score.get("ci95") or (score["mean"], score["mean"])
    return low, high


def _names(picture: Figure, models: Sequence[Series], line: bool = True) -> None:
    legend(picture, [m.name for m in models], [m.colour for m in models], [m.marker for m in models], line)


def _rows(axes: Axes, names: Sequence[str], title: str = "") -> None:
    """Names down the side, first on top; the title begins above the names, where there is most room."""
    axes.annotate(title, (0, 1), (4, 6), xycoords=("figure fraction", "axes fraction"), textcoords="offset points", color=SOFT)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")


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
        axes.plot(_interval_ends(score), (y, y), color=colour, solid_capstyle="butt")
        axes.plot(score["mean"], y, color=colour, marker=marker)
        axes.text(1.02, y, figure(score["mean"]), transform=axes.get_yaxis_transform(), va="center")
    _rows(axes, names, plain(metric, 50))
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
        axes.plot(_interval_ends(pair["difference"]), (y, y), color=colour, solid_capstyle="butt")
        axes.plot(pair["difference"]["mean"], y, "o", color=colour, markerfacecolor=colour if certain else "#ffffff")
        told = words.p_value(p)
        axes.text(1.02, y, f"p {told}" if told else "", transform=axes.get_yaxis_transform(), va="center")
        open_ones += [] if certain else [plain(pair["model"], 40)]
    _rows(axes, names, f"{label(metric)} of {all_names[best]} less that of")
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
    _names(picture, drawn)
    said = f"{listed([name_of(name) for name in names])} over the length of the list"
    firsts = [_leader(of, drawn, names[0], place) for place in (0, -1)]
    if firsts[0] and firsts[1]:
        k = of[drawn[0].key]["k"]
        same = f"{firsts[0]} leads in {name_of(names[0])} both at k = {k[0]} and at k = {k[-1]}"
        other = f"{firsts[0]} leads in {name_of(names[0])} at k = {k[0]}, {firsts[1]} at k = {k[-1]}"
        said = same if firsts[0] == firsts[1] else other
    note = (
        f"Lines are means over test users, bands their 95 % intervals; k has a logarithmic scale.{_only_some(document, models)}"
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
    _rows(axes, names)
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


def groups(document: Document, metric: str, models: Sequence[Series]) -> Iterator[Picture]:
    """The decision's metric by group of users, a picture for each way to group."""
    used: set[str] = set()
    for by in _ways(document, models, "groups"):
        rows = _by_group(document, models, "groups", by)
        names = [name for entry in document["models"].values() for row in entry.get("groups") or [] for name in row["metrics"]]
        name = metric if metric in names else names[0] if names else ""
        points = {group: {key: row["metrics"].get(name) for key, row in row_of.items()} for group, row_of in rows.items()}
        sizes = {group: next(iter(row_of.values())).get("users") for group, row_of in rows.items()}
        said = _who_leads(points, models, name, by)
        note = "Means over the users of each group with 95 % intervals; the number of users is in brackets."
        note += _only_some(document, models)
        yield Picture(
            _file("groups", by, used), said, note, _dots(points, sizes, models, f"{label(name)} by {label(by, 30)}", said)
        )


def targets(document: Document, metric: str, models: Sequence[Series]) -> Iterator[Picture]:
    """The share of held-out items that is found, at the k of the decision, by group of items."""
    used: set[str] = set()
    asked = f"{FOUND}@{split_name(metric)[1]}"
    for by in _ways(document, models, "targets"):
        rows = _by_group(document, models, "targets", by)
        first = next(row for row_of in rows.values() for row in row_of.values())
        name = asked if asked in first else next((key for key in first if split_name(key)[0] == FOUND), "")
        points = {group: {key: row.get(name) for key, row in row_of.items()} for group, row_of in rows.items()}
        sizes = {group: next(iter(row_of.values())).get("targets") for group, row_of in rows.items()}
        title = f"found among the first {split_name(name)[1]}, by {label(by)}"
        said = _who_leads(points, models, f"share found@{split_name(name)[1]}", by)
        note = (
            f"Share of the held-out items that stands in the list; their number is in brackets.{_only_some(document, models)}"
        )
        yield Picture(_file("targets", by, used), said, note, _dots(points, sizes, models, title, said))


def _ways(document: Document, models: Sequence[Series], part: str) -> list[str]:
    return list(dict.fromkeys(row["by"] for m in models for row in document["models"][m.key].get(part) or []))


def _by_group(document: Document, models: Sequence[Series], part: str, by: str) -> dict[str, dict[str, Any]]:
    """Group -> model -> row."""
    found: dict[str, dict[str, Any]] = {}
    for m in models:
        for row in document["models"][m.key].get(part) or []:
            if row["by"] == by:
                found.setdefault(str(row["group"]), {})[m.key] = row
    return found


def _file(kind: str, by: str, used: set[str]) -> str:
    """A file name of its own for each way to group."""
    base = f"{kind}-{re.sub('[^a-z0-9]+', '-', by.lower())[:40].strip('-') or 'other'}"
    name = next(name for place in range(1, 1_000) if (name := base if place == 1 else f"{base}-{place}") not in used)
    used.add(name)
    return name


def _who_leads(points: Mapping[str, Mapping[str, Any]], models: Sequence[Series], name: str, by: str) -> str:
    """In how many groups which model has the highest value."""
    wins: dict[str, list[str]] = {}
    for group, of in points.items():
        measured = {m.key: value for m in models if (value := mean(of.get(m.key))) is not None}
        if measured:
            wins.setdefault(max(measured, key=lambda key: measured[key]), []).append(group)
    if not wins:
        return f"{plain(name, 40)} by {plain(by, 40)}"
    first = max(wins, key=lambda key: len(wins[key]))
    total = sum(map(len, wins.values()))
    head = f"By {plain(by, 40)}, {plain(first, 40)} has the highest {plain(name, 40)}"
    head += f" in {len(wins[first])} of {plural(total, 'group')}"
    others = [f"{plain(key, 40)} in {listed([plain(g, 30) for g in won], most=3)}" for key, won in wins.items() if key != first]
    return f"{head}; {listed(others, most=4)}" if others else head


def _dots(
    points: Mapping[str, Mapping[str, Any]], sizes: Mapping[str, Any], models: Sequence[Series], title: str, said: str
) -> str:
    """Groups down the side, a dot with its interval for each model."""
    drawn = [m for m in models if any(mean(of.get(m.key)) is not None for of in points.values())]
    names = [label(group) + (f" ({count(sizes[group])})" if sizes[group] is not None else "") for group in points]
    step = 0.8 / max(len(drawn), 1)
    tall = max(0.34, 0.135 * len(drawn) + 0.12)
    picture, axes = sheet(tall * len(points), left=room(names), bottom=legend_room([m.name for m in drawn] or [""], 0.35))
    for m_place, m in enumerate(drawn):
        found = [(y, of[m.key]) for y, of in enumerate(points.values()) if mean(of.get(m.key)) is not None]
        ys = np.array([y for y, _ in found]) + (m_place - (len(drawn) - 1) / 2) * step
        ends = [_interval_ends(score) for _, score in found]
        lines = LineCollection([((low, y), (high, y)) for (low, high), y in zip(ends, ys, strict=True)], colors=m.colour)
        axes.add_collection(lines)
        axes.plot([score["mean"] for _, score in found], ys, m.marker, color=m.colour, markersize=4.5)
    _rows(axes, names, title)
    for y in range(1, len(points)):
        axes.axhline(y - 0.5, color=GRID, linewidth=0.8)
    axes.set_ylim(len(points) - 0.5, -0.5)
    ticks(axes.xaxis, 4)
    _names(picture, drawn, line=False)
    return svg(picture, said)


def _fits(document: Document, models: Sequence[Series], part: str, least: int = 2) -> list[tuple[Series, list[float], int]]:
    """Models with such a curve, the curve, and the best epoch."""
    found = []
    for m in models:
        fit = document["models"][m.key].get("fit") or {}
        if len(fit.get(part) or []) >= least:
            found.append((m, fit[part], fit.get("best_epoch") or 0))
    return found


def validation(document: Document, models: Sequence[Series]) -> Picture | None:
    """The validation metric over epochs of all models that are trained by epochs."""
    found = _fits(document, models, "validation")
    if not found:
        return None
    drawn = [m for m, _, _ in found]
    picture, axes = sheet(2.1, bottom=legend_room([m.name for m in drawn], 0.6))
    for m, curve, best in found:
        axes.plot(range(1, len(curve) + 1), curve, color=m.colour)
        if 0 < best <= len(curve):
            axes.plot(best, curve[best - 1], m.marker, color=m.colour, markersize=7)
    ticks(axes.xaxis, 5, whole=True)
    ticks(axes.yaxis)
    axes.grid(axis="y")
    axes.set_xlabel("epoch", labelpad=3)
    axes.set_title("validation metric")
    _names(picture, drawn)
    late = [plain(m.key, 40) for m, curve, best in found if best >= len(curve)]
    stops = [f"{plain(m.key, 40)} at epoch {best} of {len(curve)}" for m, curve, best in found if 0 < best < len(curve)]
    said = f"Best on validation: {listed(stops)}" if stops else "The validation metric over epochs"
    said += f"; {listed(late)} still rose at the last epoch, so more epochs may help" if late else ""
    note = f"The marker is the epoch whose weights are kept.{_only_some(document, models)}"
    return Picture("validation", said, note, svg(picture, said))


def losses(document: Document, models: Sequence[Series]) -> Picture | None:
    """The training loss of each model over epochs, each on its own scale."""
    found = _fits(document, models, "losses")
    if not found:
        return None
    picture, all_axes = panels(len(found), 1.1, 0.55)
    for (m, curve, best), axes in zip(found, all_axes, strict=True):
        axes.plot(range(1, len(curve) + 1), curve, color=m.colour)
        if 0 < best <= len(curve):
            axes.plot(best, curve[best - 1], m.marker, color=m.colour)
        ticks(axes.xaxis, 4, whole=True)
        ticks(axes.yaxis, 3)
        axes.grid(axis="y")
        axes.set_title(m.name)
    for axes in all_axes[-2:]:
        axes.set_xlabel("epoch", labelpad=3)
    fell = [f"{plain(m.key, 40)} from {figure(curve[0])} to {figure(curve[-1])}" for m, curve, _ in found]
    said = f"Training loss by epoch: {listed(fell)}"
    note = "Each model has a loss of its own, so the scales cannot be compared; the marker is the epoch that is kept."
    return Picture("losses", said, note, svg(picture, said))


def latent(document: Document, models: Sequence[Series]) -> Picture | None:
    """KL of each latent dimension, sorted: how many carry anything."""
    found = _fits(document, models, "kl_by_dimension", least=1)
    if not found:
        return None
    drawn = [m for m, _, _ in found]
    picture, axes = sheet(2.0, bottom=legend_room([m.name for m in drawn], 0.6))
    told = []
    for m, kl, _ in found:
        values = np.sort(np.maximum(np.asarray(kl, float), 1e-5))[::-1]
        told.append(f"{plain(m.key, 40)} uses {int((values > ACTIVE).sum())} of {len(values)} latent dimensions")
        axes.plot(range(1, len(values) + 1), values, color=m.colour)
    axes.axhline(ACTIVE, color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    at = [tick for tick in (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, 10, 100) if low <= tick <= high]
    axes.set_yticks(at, [number(tick) for tick in at])
    axes.set_yticks([], minor=True)
    ticks(axes.xaxis, 5, whole=True)
    axes.grid(axis="y")
    axes.set_xlabel("latent dimension, largest first", labelpad=3)
    axes.set_title("KL from the prior, nats")
    legend(picture, [m.name for m in drawn], [m.colour for m in drawn], [""] * len(drawn))
    note = f"A dimension with more than {ACTIVE:g} nats (dashed) is active; the others say nothing of a user."
    return Picture("latent", listed(told), note, svg(picture, listed(told)))


def item_map(document: Document) -> Iterator[Picture]:
    """The items in the model's latent space, coloured by category and by popularity."""
    found = document.get("map") or {}
    items = found.get("items") or []
    if not items:
        return
    x, y = (np.array([item[axis] for item in items], float) for axis in "xy")
    method = {"tsne": "t-SNE", "pca": "principal components"}.get(found.get("method", ""), plain(found.get("method", ""), 40))
    explained = found.get("explained")
    kept = f" The two axes hold {share(sum(explained))} of the variance." if explained else ""
    near = "Items near each other are used by like users" + ("; far distances mean little." if method == "t-SNE" else ".")
    note = f"{plural(len(items), 'item')} as {plain(found.get('model', 'the model'), 40)} sees them ({method}). {near}{kept}"
    categories = [_category(item) for item in items]
    named = [name for name in categories if name]
    if named:
        top = ", ".join(f"{plain(name, 30)} {count(named.count(name))}" for name in largest(named)[:3])
        said = f"Items by category; the largest are {top}"
        yield Picture("map-category", said, note, scatter(x, y, category_layers(categories, largest(named)), said))
    users = np.array([item.get("users") or 0 for item in items], float)
    if users.max() > users.min():
        edges = np.unique(np.quantile(users, (0.2, 0.4, 0.6, 0.8)))
        place = np.searchsorted(edges, users, side="left")
        bins = [place == at for at in range(len(edges) + 1)]
        layers = [
            (_from_to(users[held].min(), users[held].max()), RAMP[at], held) for at, held in enumerate(bins) if held.any()
        ]
        said = f"Items by popularity, from {count(users.min())} to {count(users.max())} users"
        popular = [(label(items[at].get("title") or items[at]["item_id"]), at) for at in np.argsort(-users, kind="stable")[:60]]
        yield Picture(
            "map-popularity", said, f"{note} Some of the most popular are named.", scatter(x, y, layers, said, popular)
        )


def _from_to(low: float, high: float) -> str:
    return plural(low, "user") if low == high else f"{count(low)} to {count(high)} users"


def _category(item: Mapping[str, Any]) -> str:
    """The first category of an item, empty where none is known."""
    found = item.get("category")
    first = (found[0] if found else "") if isinstance(found, list | tuple) else str(found or "").partition("|")[0]
    return plain(first, 60)


def _profile(document: Document) -> Mapping[str, Any]:
    return document["data"].get("profile") or {}


def popularity(document: Document) -> Picture | None:
    """Lorenz curve: which share of the interactions the most popular items have."""
    curve = _profile(document).get("popularity_curve") or {}
    items, held = curve.get("items") or [], curve.get("interactions") or []
    if len(items) < 2:
        return None
    picture, axes = sheet(2.3, bottom=0.6)
    x, y = [100 * value for value in items], [100 * value for value in held]
    axes.plot((0, 100), (0, 100), color=REST, linewidth=1)
    axes.plot(x, y, color=SERIES[0])
    axes.fill_between(x, y, x, color=SERIES[0], alpha=0.1, linewidth=0)
    at_fifth = float(np.interp(20, x, y))
    axes.plot((20, 20), (0, at_fifth), color=SOFT, linewidth=1, linestyle=(0, (4, 3)))
    axes.plot(20, at_fifth, "o", color=SERIES[0])
    axes.text(23, at_fifth - 3, f"{at_fifth:.0f} %", va="top")
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 102)
    ticks(axes.xaxis)
    ticks(axes.yaxis)
    axes.grid(axis="y")
    axes.set_title("% of the interactions")
    axes.set_xlabel("% of the items, most popular first", labelpad=3)
    said = f"The most popular 20 % of the items have {at_fifth:.0f} % of the interactions"
    return Picture("popularity", said, "The straight line is what items of equal popularity would give.", svg(picture, said))


def lengths(document: Document) -> Picture | None:
    """Histogram of the lengths of histories."""
    found = _profile(document).get("history_lengths") or {}
    edges, users = found.get("edges") or [], found.get("users") or []
    if len(edges) < 2 or len(edges) != len(users):
        return None
    names = [str(low) if high == low + 1 else f"{low}\N{EN DASH}{high - 1}" for low, high in pairwise(edges)] + [
        f"{edges[-1]}+"
    ]
    picture, axes = sheet(1.9, left=0.75, bottom=0.6)
    _bars(axes, users)
    every = -(-len(names) * (max(map(len, names)) + 1) // 44)
    shown = range(0, len(names), max(every, 1))
    axes.set_xticks(list(shown), [names[place] for place in shown])
    axes.tick_params(axis="x", length=0)
    axes.set_title("users")
    axes.set_xlabel("interactions of a user", labelpad=3)
    half = int(np.searchsorted(np.cumsum(users), sum(users) / 2))
    said = (
        f"Half of the users have at most {edges[half + 1] - 1} interactions" if half + 1 < len(edges) else "Histories are long"
    )
    return Picture("lengths", said, "Users by the length of their history, after cleaning.", svg(picture, said))


def _bars(axes: Axes, heights: Sequence[float], width: float = 0.86) -> None:
    """Bars from 0, as one path."""
    corners = [
        ((at - width / 2, 0), (at - width / 2, h), (at + width / 2, h), (at + width / 2, 0)) for at, h in enumerate(heights)
    ]
    vertices = np.array([corner for bar in corners for corner in (*bar, bar[0])], float)
    codes = [Outline.MOVETO, Outline.LINETO, Outline.LINETO, Outline.LINETO, Outline.CLOSEPOLY] * len(corners)
    axes.add_patch(PathPatch(Outline(vertices, codes), facecolor=SERIES[0], linewidth=0))
    axes.set_xlim(-0.6, len(heights) - 0.4)
    axes.set_ylim(0, 1.05 * max([*heights, 1e-9]))
    ticks(axes.yaxis, 4)
    axes.grid(axis="y")


def times(document: Document) -> Picture | None:
    """Interactions over time."""
    bins = _profile(document).get("interactions_by_time") or []
    starts = [moment(one["from"]) for one in bins]
    if len(bins) < 2 or None in starts:
        return None
    picture, axes = sheet(1.9, left=0.75, right=0.4, bottom=0.35)
    held = [one["interactions"] for one in bins]
    _bars(axes, held, width=0.9)
    days = (bins[-1]["from"] - bins[0]["from"]) / 86_400
    form = "%Y" if days > 2_500 else "%Y-%m" if days > 90 else "%m-%d"
    shown = _few(len(bins))
    axes.set_xticks(shown, [at.strftime(form) for place in shown if (at := starts[place]) is not None])
    axes.set_title("interactions")
    busiest = bins[int(np.argmax(held))]
    said = f"Interactions from {words.day(bins[0]['from'])} on; the busiest stretch begins on {words.day(busiest['from'])}"
    return Picture("times", said, "Equal stretches of time, in UTC.", svg(picture, said))


def _few(number: int, most: int = 5) -> list[int]:
    """At most so many evenly spaced places, the last among them."""
    return list(range(number - 1, -1, -max(-(-(number - 1) // (most - 1)), 1)))[::-1]


def _near(points: Sequence[Mapping[str, Any]], models: Sequence[Series], metric: str) -> tuple[list[Series], str]:
    """The models that a picture of small changes can show: those far below the best would flatten it. And who is left out."""
    lows = {m.key: value for m in models if (value := mean(points[-1].get(m.key))) is not None}
    least = 0.7 * max(lows.values(), default=0)
    near = [m for m in models if lows.get(m.key, least) >= least]
    far = [f"{plain(m.key, 40)} ({figure(lows[m.key])})" for m in models if m not in near]
    if len(near) < 2 or not far:
        return list(models), ""
    return near, f" Far below and not shown: {listed(far)}."


def _lines_by_place(
    points: Sequence[Mapping[str, Any]], names: Sequence[str], models: Sequence[Series], title: str, said: str
) -> str:
    """Places from left to right, a line with intervals for each model; `points` are scores by model."""
    drawn = [m for m in models if any(mean(of.get(m.key)) is not None for of in points)]
    picture, axes = sheet(2.1, bottom=legend_room([m.name for m in drawn], 0.4))
    spread = 0.3 / max(len(drawn), 1)
    for m_place, m in enumerate(drawn):
        found = [(x, of[m.key]) for x, of in enumerate(points) if mean(of.get(m.key)) is not None]
        xs = np.array([x for x, _ in found]) + (m_place - (len(drawn) - 1) / 2) * spread
        axes.plot(xs, [score["mean"] for _, score in found], color=m.colour, marker=m.marker, linewidth=1.4)
        ends = [_interval_ends(score) for _, score in found]
        axes.add_collection(
            LineCollection(
                [((x, low), (x, high)) for x, (low, high) in zip(xs, ends, strict=True)], colors=m.colour, linewidths=1
            )
        )
    shown = _few(len(points))
    axes.set_xticks(shown, [names[place] for place in shown])
    axes.set_xlim(-0.35, len(points) - 0.65)
    ticks(axes.yaxis)
    axes.grid(axis="y")
    axes.set_title(title)
    _names(picture, drawn)
    return svg(picture, said)


def windows(document: Document, metric: str, models: Sequence[Series]) -> Picture | None:
    """The decision's metric in each window of a backtest."""
    of = {m.key: document["models"][m.key].get("windows") or [] for m in models}
    most = max(map(len, of.values()), default=0)
    if most < 2:
        return None
    longest = next(rows for rows in of.values() if len(rows) == most)
    starts = [moment(row.get("test_from")) for row in longest]
    names = [at.strftime("%Y-%m-%d") if at else f"window {place}" for place, at in enumerate(starts, 1)]
    points = [
        {key: rows[place]["metrics"].get(metric) for key, rows in of.items() if place < len(rows)} for place in range(most)
    ]
    near, far = _near(points, models, metric)
    firsts = [max(have, key=lambda key: have[key]) for have in map(_measured, points) if have]
    best = max(dict.fromkeys(firsts), key=firsts.count) if firsts else ""
    said = f"{plain(best, 40)} has the highest {plain(metric, 40)} in {firsts.count(best)} of {most} windows"
    note = (
        f"Users with a target in the window are asked; lines up and down are 95 % intervals.{far}{_only_some(document, models)}"
    )
    return Picture("windows", said, note, _lines_by_place(points, names, near, f"{label(metric)}, by start of the test", said))


def _measured(point: Mapping[str, Any]) -> dict[str, float]:
    return {key: value for key, score in point.items() if (value := mean(score)) is not None}


def trend(document: Document, metric: str, models: Sequence[Series]) -> Picture | None:
    """The decision's metric over earlier evaluations, this one last."""
    earlier = document.get("earlier") or []
    points = [{m.key: (night["models"].get(m.key) or {}).get(metric) for m in models} for night in earlier]
    points.append({m.key: document["models"][m.key]["metrics"].get(metric) for m in models})
    if len(points) < 2 or not any(map(_measured, points[:-1])):
        return None
    names = [_short_date(night) for night in earlier] + ["now"]
    near, far = _near(points, models, metric)
    moved = []
    for m in models:
        had = [mean(point.get(m.key)) for point in points]
        if had[-2] is not None and had[-1] is not None:
            moved.append(f"{plain(m.key, 40)} {words.signed(had[-1] - had[-2])}")
    said = f"{plain(metric, 40)} since the last evaluation: {listed(moved)}" if moved else f"{plain(metric, 40)} over time"
    between = [interval(score["ci95"]) for score in points[-1].values() if score and score.get("ci95")]
    note = f"Lines up and down are 95 % intervals{'' if between else ', where known'}.{far}{_only_some(document, models)}"
    return Picture("trend", said, note, _lines_by_place(points, names, near, label(metric), said))


def _short_date(night: Mapping[str, Any]) -> str:
    """`18 Nov`, or the name where there is no date."""
    try:
        made = datetime.fromisoformat(str(night.get("created")))
    except ValueError:
        return label(night.get("name", ""), 9)
    return f"{made.day} {made:%b}"
