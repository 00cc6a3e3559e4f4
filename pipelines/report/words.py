"""Numbers and sentences of the report, as plain text."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

CONTROLS = dict.fromkeys((*range(9), 11, 12, *range(14, 32), *range(127, 160), *range(8234, 8239), *range(8294, 8298)))
"""Characters that no title needs: they would break the XML of a picture, or turn the text around them."""


def plain(text: object, limit: int = 160) -> str:
    """One line of at most `limit` characters, without control characters."""
    words = " ".join(str(text).translate(CONTROLS).split()).encode("utf-8", "replace").decode("utf-8")
    return words if len(words) <= limit else words[: limit - 1].rstrip() + "…"


def figure(value: float | None) -> str:
    """A metric: four digits after the point, fewer for large numbers."""
    if value is None:
        return ""
    digits = 4 if abs(value) < 10 else 1 if abs(value) < 10_000 else 0
    return f"{value:,.{digits}f}".replace("-", "\N{MINUS SIGN}")


def signed(value: float | None) -> str:
    """The same with its sign."""
    return "" if value is None else ("+" if value > 0 else "") + figure(value)


def interval(pair: Sequence[float] | None) -> str:
    """`0.3561 to 0.4089`."""
    return "" if pair is None else f"{figure(pair[0])} to {figure(pair[1])}"


def count(value: float | None) -> str:
    """A whole number with thousands separators."""
    return "" if value is None else f"{round(value):,}"


def share(value: float | None) -> str:
    """A share in per cent."""
    if value is None:
        return ""
    percent = 100 * value
    digits = 0 if abs(percent) >= 99.95 else 1 if abs(percent) >= 1 or percent == 0 else 2
    return f"{percent:.{digits}f} %".replace("-", "\N{MINUS SIGN}")


def size(value: float | None) -> str:
    """Bytes for people: 636 MiB."""
    if value is None:
        return ""
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    place = min((int(abs(value)).bit_length() - 1) // 10 if abs(value) >= 1 else 0, len(units) - 1)
    value /= 1024**place
    return f"{value:,.0f} {units[place]}" if place == 0 or value >= 100 else f"{value:.1f} {units[place]}"


def duration(seconds: float | None) -> str:
    """Seconds for people: 47 s, 3 min 20 s, 2 h 5 min."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, left = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {left} s" if left else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min" if minutes else f"{hours:,} h"


def moment(seconds: float | None) -> datetime | None:
    """Epoch seconds as a time, None where they are beyond what a calendar holds."""
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def day(seconds: float | None) -> str:
    """Epoch seconds as a date in UTC: 24 November 2026."""
    at = moment(seconds)
    return (count(seconds) + " s") if at is None and seconds is not None else f"{at.day} {at:%B %Y}" if at else ""


def at(iso: str | None) -> str:
    """An ISO time in UTC: 24 November 2026, 03:12 UTC. What is no such time stays as it is."""
    try:
        found = datetime.fromisoformat(str(iso))
    except ValueError:
        return plain(iso)
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    return f"{found.day} {found:%B %Y, %H:%M} UTC"


def p_value(p: float | None) -> str:
    """A p value: two digits that count, never 0."""
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def listed(names: Sequence[str], last: str = "and", most: int = 6) -> str:
    """`a, b and c`; of many, the first and how many more."""
    shown = list(islice(names, most if len(names) > most + 1 else len(names)))
    if len(shown) < len(names):
        shown.append(f"{len(names) - len(shown)} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} {last} {shown[-1]}" if shown else ""


def plural(number: float, one: str, many: str = "") -> str:
    """`1 user`, `1,204 users`."""
    return f"{count(number)} {one if number == 1 else many or one + 's'}"


def cause(name: str) -> str:
    """A cause of dropping rows as words."""
    return plain(name).replace("_", " ")


def begun(warm: dict[str, Any]) -> str:
    """Where a fit began: `warm from VERSION, 2 in a row`, or `cold: why`; nothing where no warm start was asked for."""
    if not warm:
        return ""
    if warm.get("version") is None:
        return f"cold: {plain(warm.get('reason'))}"
    return f"warm from {plain(warm['version'])}, {count(warm.get('generation'))} in a row"


def settings(config: dict[str, Any]) -> str:
    """A model's settings as `key=value`."""
    said = (
        f"{key}={format(each, '.4g') if isinstance(each, float) else each}" for key, each in config.items() if key != "name"
    )
    return plain(", ".join(said), 2_000)
