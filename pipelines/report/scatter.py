"""Maps: thousands of points in a few layers of colour."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline

from pipelines.report.drawing import CHARACTER, GRID, REST, SERIES, label, legend, legend_room, sheet, svg

Layer: TypeAlias = tuple[str, str, Any]
"""A name, a colour, and which of the points (N,) bool."""


def largest(categories: Sequence[str]) -> list[str]:
    """The categories that get a colour each, the most frequent first; no category is none of them."""
    found = Counter(name for name in categories if name)
    return sorted(found, key=lambda name: (-found[name], name))[: len(SERIES)]


def category_layers(categories: Sequence[str], coloured: Sequence[str]) -> list[Layer]:
    """Points by category: first, and grey, those of none of the coloured ones. Layers without points are left out."""
    layers = [("other", REST, np.array([name not in coloured for name in categories]))]
    layers += [(label(name, 18), SERIES[at], np.array([c == name for c in categories])) for at, name in enumerate(coloured)]
    return [layer for layer in layers if layer[2].any()]


def scatter(x: Any, y: Any, layers: Sequence[Layer], said: str, named: Sequence[tuple[str, int]] = ()) -> str:
    """A picture of points (N,); `named` are names and places of points, of which as many are named as there is room for."""
    picture, axes = sheet(4.0, left=0.1, right=0.1, top=0.1, bottom=legend_room([name for name, _, _ in layers], 0.1))
    points(axes, x, y, layers)
    _name_points(axes, x, y, named)
    colours(picture, layers)
    return svg(picture, said)


def points(axes: Axes, x: Any, y: Any, layers: Sequence[Layer], width: float = 3.6) -> None:
    """Points as one path a layer, each a line of almost no length with round ends: a few bytes a point."""
    pad = 0.03 * max(np.ptp(x), np.ptp(y), 1e-9)
    axes.set_xlim(x.min() - pad, x.max() + pad)
    axes.set_ylim(y.min() - pad, y.max() + pad)
    codes = np.array([Outline.MOVETO, Outline.LINETO], np.uint8)
    for _, colour, held in layers:
        ends = np.repeat(np.column_stack([x[held], y[held]]), 2, axis=0)
        ends[1::2, 0] += pad / 200
        outline = Outline(ends, np.tile(codes, len(ends) // 2))
        outline.should_simplify = False
        axes.add_patch(PathPatch(outline, fill=False, edgecolor=colour, linewidth=width, capstyle="round", alpha=0.8))
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[["top", "right"]].set_visible(True)
    axes.spines[:].set_color(GRID)


def colours(picture: Figure, layers: Sequence[Layer]) -> None:
    """The legend of the layers."""
    legend(picture, [name for name, _, _ in layers], [colour for _, colour, _ in layers], ["o"] * len(layers), line=False)


def _name_points(axes: Axes, x: Any, y: Any, named: Sequence[tuple[str, int]], most: int = 9) -> None:
    """Names beneath as many of these points as have room for one: none overlaps another or leaves the picture."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    wide, tall = (right - left) / 5.0, (high - low) / 4.0  # of one inch
    taken: list[tuple[float, float, float]] = []
    for name, at in named:
        half = (0.02 + CHARACTER * len(name) / 2) * wide
        inside = left + half < x[at] < right - half and low + 0.3 * tall < y[at]
        if inside and all(abs(x[at] - a) > half + b or abs(y[at] - c) > 0.3 * tall for a, b, c in taken):
            box = {"facecolor": "#ffffff", "alpha": 0.75, "linewidth": 0, "pad": 1}
            axes.text(x[at], y[at] - 0.06 * tall, name, ha="center", va="top", bbox=box)
            taken.append((x[at], half, y[at]))
        if len(taken) == most:
            return
