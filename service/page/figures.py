"""Numbers as people read them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

FLOOR = 6
"""Per cent of the shortest bar, which is to be seen."""


def influence(value: float) -> str:
    """With its sign, two decimals or as many as its first digit needs: +0.21, −0.004."""
    said = f"{value:+.2f}" if abs(value) >= 0.01 or value == 0 else f"{value:+.1g}"
    return said.replace("-", "−", 1) if said.startswith("-") else said


def score(value: float) -> str:
    """Three figures that matter."""
    said = f"{value:#.3g}".rstrip(".") if abs(value) < 1_000 else f"{value:,.0f}"
    return said.replace("-", "−", 1) if value < 0 else said


def users(count: float) -> str:
    """A number of users."""
    return f"{count:,.0f} user{'' if count == 1 else 's'}"


def bars(scores: Sequence[float]) -> list[int]:
    """Per cent of the highest score; where one is below zero, of the way up from the lowest."""
    if not scores:
        return []
    low, high = min(scores), max(scores)
    low = low if low < 0 else 0.0
    return [round(FLOOR + (100 - FLOOR) * (value - low) / (high - low)) if high > low else 100 for value in scores]


def metric(metrics: Mapping[str, Any]) -> tuple[str, str] | None:
    """Name and value of the metric that tells most, with its interval where known; None where there is none."""
    names = [name for name in metrics if isinstance(metrics[name], Mapping) and "mean" in metrics[name]]
    if not names:
        return None
    name = next((n for n in ("ndcg@100", *names) if n in names and n.startswith("ndcg")), names[0])
    found = metrics[name]
    half = f" ± {1.96 * found['se']:.3f}" if found.get("se") is not None else ""
    return name, f"{found['mean']:.3f}{half}"


def moment(text: str) -> str:
    """An ISO 8601 time to the minute, in UTC."""
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%-d %b %Y, %H:%M UTC")
