"""What the pictures share: what a picture is, which models have a colour."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipelines.report.drawing import INK, MARKERS, SERIES, SOFT, labels, legend
from pipelines.report.findings import Document

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


def only_some(document: Document, models: Sequence[Series]) -> str:
    hidden = len(document["models"]) - len(models)
    return f" The first {len(models)} models are shown." if hidden > 0 else ""


def interval_ends(score: Mapping[str, Any]) -> tuple[float, float]:
    low, high = score.get("ci95") or (score["mean"], score["mean"])
    return low, high


def names_of(picture: Figure, models: Sequence[Series], line: bool = True) -> None:
    legend(picture, [m.name for m in models], [m.colour for m in models], [m.marker for m in models], line)


def rows(axes: Axes, names: Sequence[str], title: str = "") -> None:
    """Names down the side, first on top; the title begins above the names, where there is most room."""
    axes.annotate(title, (0, 1), (4, 6), xycoords=("figure fraction", "axes fraction"), textcoords="offset points", color=SOFT)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
