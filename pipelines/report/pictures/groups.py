"""The models by groups of users and of held-out items."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.collections import LineCollection

from pipelines.report.drawing import GRID, label, legend_room, room, sheet, svg, ticks
from pipelines.report.findings import FOUND, Document, mean, split_name
from pipelines.report.pictures.base import Picture, Series, interval_ends, names_of, only_some, rows
from pipelines.report.words import count, listed, plain, plural


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
        note += only_some(document, models)
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
        note = f"Share of the held-out items that stands in the list; their number is in brackets.{only_some(document, models)}"
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
        ends = [interval_ends(score) for _, score in found]
        lines = LineCollection([((low, y), (high, y)) for (low, high), y in zip(ends, ys, strict=True)], colors=m.colour)
        axes.add_collection(lines)
        axes.plot([score["mean"] for _, score in found], ys, m.marker, color=m.colour, markersize=4.5)
    rows(axes, names, title)
    for y in range(1, len(points)):
        axes.axhline(y - 0.5, color=GRID, linewidth=0.8)
    axes.set_ylim(len(points) - 0.5, -0.5)
    ticks(axes.xaxis, 4)
    names_of(picture, drawn, line=False)
    return svg(picture, said)
