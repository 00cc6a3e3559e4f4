"""The data: the items' map, popularity, lengths, times."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline

from pipelines.report import words
from pipelines.report.drawing import RAMP, REST, SERIES, SOFT, label, sheet, svg, ticks
from pipelines.report.findings import Document
from pipelines.report.pictures.base import Picture
from pipelines.report.scatter import category_layers, largest, scatter
from pipelines.report.words import count, moment, plain, plural, share


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
    shown = few(len(bins))
    axes.set_xticks(shown, [at.strftime(form) for place in shown if (at := starts[place]) is not None])
    axes.set_title("interactions")
    busiest = bins[int(np.argmax(held))]
    said = f"Interactions from {words.day(bins[0]['from'])} on; the busiest stretch begins on {words.day(busiest['from'])}"
    return Picture("times", said, "Equal stretches of time, in UTC.", svg(picture, said))


def few(number: int, most: int = 5) -> list[int]:
    """At most so many evenly spaced places, the last among them."""
    return list(range(number - 1, -1, -max(-(-(number - 1) // (most - 1)), 1)))[::-1]
