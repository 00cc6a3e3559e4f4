"""The picture of a map: users, items, or both side by side, coloured by category."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from pipelines.report.drawing import SERIES, legend_room, panels, style, svg
from pipelines.report.scatter import Layer, category_layers, colours, largest, points, scatter
from pipelines.report.words import count

Panel: TypeAlias = tuple[str, Any, Sequence[str]]
"""What is drawn, its places (N, 2), and each one's category or ""."""


def map_picture(parts: Sequence[Panel]) -> str:
    """SVG of one panel or two, with one legend: a category has the same colour in both."""
    coloured = largest([name for _, _, categories in parts for name in categories])
    said = " and ".join(f"{count(len(places))} {title}" for title, places, _ in parts)
    said = f"Map of {said}" + (f", coloured by category; the largest are {', '.join(coloured[:3])}" if coloured else "")
    with style():
        if len(parts) == 1:
            ((_, places, categories),) = parts
            return scatter(places[:, 0], places[:, 1], _layers(categories, coloured), said)
        names = [*(["other"] if coloured else []), *coloured]
        figure, axes = panels(len(parts), 2.45, legend_room(names or ["all"], 0.1), left=0.1, gap=0.15)
        all_layers: dict[str, Layer] = {}
        for (title, places, categories), own in zip(parts, axes, strict=True):
            layers = _layers(categories, coloured)
            points(own, places[:, 0], places[:, 1], layers, width=2.4)
            own.set_title(title)
            all_layers |= {layer[0]: layer for layer in layers}
        colours(figure, list(all_layers.values()))
        return svg(figure, said)


def _layers(categories: Sequence[str], coloured: Sequence[str]) -> list[Layer]:
    layers = category_layers(categories, coloured)
    return layers if coloured else [("all", SERIES[0], layers[0][2])]
