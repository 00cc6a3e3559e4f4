"""Windows of a backtest, and the nights before."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from matplotlib.collections import LineCollection

from pipelines.report import words
from pipelines.report.drawing import label, legend_room, sheet, svg, ticks
from pipelines.report.findings import Document, mean
from pipelines.report.pictures.base import Picture, Series, interval_ends, names_of, only_some
from pipelines.report.pictures.data import few
from pipelines.report.words import figure, interval, listed, moment, plain


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
        ends = [interval_ends(score) for _, score in found]
        axes.add_collection(
            LineCollection(
                [((x, low), (x, high)) for x, (low, high) in zip(xs, ends, strict=True)], colors=m.colour, linewidths=1
            )
        )
    shown = few(len(points))
    axes.set_xticks(shown, [names[place] for place in shown])
    axes.set_xlim(-0.35, len(points) - 0.65)
    ticks(axes.yaxis)
    axes.grid(axis="y")
    axes.set_title(title)
    names_of(picture, drawn)
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
        f"Users with a target in the window are asked; lines up and down are 95 % intervals.{far}{only_some(document, models)}"
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
    note = f"Lines up and down are 95 % intervals{'' if between else ', where known'}.{far}{only_some(document, models)}"
    return Picture("trend", said, note, _lines_by_place(points, names, near, label(metric), said))


def _short_date(night: Mapping[str, Any]) -> str:
    """`18 Nov`, or the name where there is no date."""
    try:
        made = datetime.fromisoformat(str(night.get("created")))
    except ValueError:
        return label(night.get("name", ""), 9)
    return f"{made.day} {made:%b}"
