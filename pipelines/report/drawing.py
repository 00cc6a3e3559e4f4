"""What all pictures share: size, colours, and the way from a matplotlib figure to SVG that follows the page's theme."""

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pipelines.report.words import plain

WIDTH = 5.2
"""Inches. On a phone of 375 px a picture is shown at 0.92 px a point, so that text of 10 points stays above 9 px."""
TEXT = 10.5
CHARACTER = 0.086
"""Inches that a character takes, about: the browser's font is not ours."""

INK, SOFT, GRID, PAPER, REST = "#1c2024", "#5b6471", "#dfe3e8", "#ffffff", "#a3abb5"
SERIES = ("#0b63a5", "#c2510c", "#0a7d5a", "#9c3d86", "#8a6d00", "#4a4f57", "#16839a", "#b0304f")
"""Eight colours that colour-blind eyes tell apart in lightness or hue; each has a marker of its own beside."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
RAMP = ("#bcd7ee", "#86b6dd", "#4f8fc4", "#27659b", "#123f6b")
NAMES = {
    INK: "ink",
    SOFT: "soft",
    GRID: "grid",
    PAPER: "paper",
    REST: "rest",
    **{colour: f"s{place}" for place, colour in enumerate(SERIES)},
    **{colour: f"q{place}" for place, colour in enumerate(RAMP)},
}
"""The CSS variable of each colour; the light theme has the values above, `page.css` those of the dark one."""

STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],  # for measuring; the page's own font is shown
    "font.size": TEXT,
    "axes.titlesize": TEXT,
    "axes.titlelocation": "left",
    "axes.titlecolor": SOFT,
    "axes.titlepad": 6,
    "axes.labelsize": TEXT,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": REST,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": REST,
    "ytick.color": REST,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "xtick.labelsize": TEXT,
    "ytick.labelsize": TEXT,
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in a title is a dollar sign
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
    "legend.fontsize": TEXT,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "recsys-ae",
    "svg.image_inline": True,
}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
MARK = "recsys-ae report"
TAG = re.compile(r"<[^<>]*>")
"""Only tags are rewritten, never the text between them: matplotlib escapes both."""
LONG = re.compile(r"(?<![\w.#])\d+\.\d{3,}(?![\w.])")
COLOUR = re.compile(r"#[0-9a-f]{6}\b")
ROOT = re.compile(r'<svg [^>]*viewBox="0 0 ([\d.]+) ([\d.]+)"[^>]*>')


@contextmanager
def style() -> Iterator[None]:
    """All pictures are drawn within."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the browser has fonts for what ours lacks
        yield


def sheet(height: float, left: float = 0.6, right: float = 0.15, top: float = 0.35, bottom: float = 0.5) -> tuple[Figure, Axes]:
    """A figure with one pair of axes; `height` is that of the axes, all in inches."""
    figure = Figure(figsize=(WIDTH, height + top + bottom), facecolor=PAPER)
    total = height + top + bottom
    return figure, figure.add_axes((left / WIDTH, bottom / total, (WIDTH - left - right) / WIDTH, height / total))


def panels(number: int, height: float, bottom: float, left: float = 0.6, gap: float = 0.65) -> tuple[Figure, list[Axes]]:
    """Small multiples, two a row."""
    columns = min(number, 2)
    rows = -(-number // columns)
    top, between = 0.35, 0.75
    total = top + rows * height + (rows - 1) * between + bottom
    figure = Figure(figsize=(WIDTH, total), facecolor=PAPER)
    width = (WIDTH - left - 0.15 - (columns - 1) * gap) / columns
    found = []
    for place in range(number):
        row, column = divmod(place, columns)
        under = bottom + (rows - 1 - row) * (height + between)
        found.append(figure.add_axes(((left + column * (width + gap)) / WIDTH, under / total, width / WIDTH, height / total)))
    return figure, found


def label(text: object, limit: int = 22) -> str:
    """A name as it stands in a picture."""
    return plain(text, limit)


def labels(keys: Sequence[str], limit: int = 22) -> dict[str, str]:
    """A name for each model: cut in the middle, since versions and variants differ at the end; numbered where still alike."""
    found: dict[str, str] = {}
    for key in keys:
        text = plain(key, 200)
        if len(text) > limit:
            text = f"{text[: limit // 2 - 1]}…{text[-(limit - limit // 2) :]}"
        place, name = 1, text
        while name in found.values():
            place += 1
            name = f"{text} ({place})"
        found[key] = name
    return found


def room(names: Sequence[str], least: float = 0.5) -> float:
    """Inches at the left for the longest of these names."""
    return max(least, 0.15 + CHARACTER * max(map(len, names), default=0))


def legend_rows(names: Sequence[str]) -> tuple[int, int]:
    """Columns and rows of a legend beneath."""
    columns = max(1, min(len(names), int((WIDTH - 0.1) / (0.55 + CHARACTER * max(map(len, names))))))
    return columns, -(-len(names) // columns)


def legend_room(names: Sequence[str], axis: float = 0.5) -> float:
    """Inches at the bottom for ticks, their title, and a legend."""
    return axis + 0.21 * legend_rows(names)[1] + 0.08


def legend(figure: Figure, names: Sequence[str], colours: Sequence[str], markers: Sequence[str], line: bool = True) -> None:
    """Beneath the axes, in as many columns as there is room for."""
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="-" if line else "none", label=name)
        for name, colour, marker in zip(names, colours, markers, strict=True)
    ]
    figure.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0.0, 0.0),
        ncols=legend_rows(names)[0],
        labelspacing=0.3,
        handlelength=1.6,
        columnspacing=1.0,
        borderpad=0.2,
    )


def number(value: float, _: object = None) -> str:
    """A tick's label."""
    return f"{value:,.6g}".replace("-", "\N{MINUS SIGN}")


def ticks(axis: Any, most: int = 5, whole: bool = False) -> None:
    """Few ticks, written out: no powers, no offsets."""
    axis.set_major_locator(MaxNLocator(most, integer=whole, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(number))


def svg(figure: Figure, message: str) -> str:
    """A standalone picture in the light theme; `message` is what it says, for those who do not see it."""
    FigureCanvasSVG(figure)
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    text = written.getvalue()
    text = text[text.index("<svg ") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<style type="text/css">\*\{[^}]*\}</style>', "", text)  # would style the whole page; the root has it
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", text))
    text = TAG.sub(lambda found: _leaner(found[0], used), text)
    said = escape(message)
    root = ROOT.search(text)
    assert root is not None
    width, height = root.groups()
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 {width} {height}" '
        f'width="{width}pt" height="{height}pt" role="img" aria-label="{said}" font-family="{FONT}" '
        f'style="stroke-linejoin: round; stroke-linecap: butt"><title>{said}</title><desc>{MARK}</desc>'
    )
    return head + re.sub(r"\n\s*", "\n", text[root.end() :]).strip() + "\n"


def _leaner(tag: str, used: set[str]) -> str:
    """A tag with short numbers, any font, and an id only where something refers to it."""
    tag = LONG.sub(lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), tag)
    tag = re.sub(r"font: (?:(\d+|bold) )?([\d.]+px) [^;\"]*", lambda found: _font(found[1], found[2]), tag)
    tag = re.sub(r' transform="rotate\(-?0 [^)]*\)"', "", tag)
    return re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", tag)


def _font(weight: str | None, points: str) -> str:
    return f"font-size: {points}" + (f"; font-weight: {weight}" if weight else "")


def inline(picture: str, name: str) -> str:
    """The same within a page: ids of its own, the page's size, font and colours."""
    head, title, body = picture.partition("<title>")
    head = re.sub(r' (?:width|height)="[\d.]+pt"| xmlns(?::xlink)?="[^"]*"| font-family="[^"]*"', "", head)
    body = TAG.sub(lambda found: _themed(found[0], name), body.replace(f"<desc>{MARK}</desc>", ""))
    return head + title + body


def _themed(tag: str, name: str) -> str:
    tag = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{name}-", tag).replace("xlink:href=", "href=")
    return COLOUR.sub(lambda found: f"var(--{NAMES[found[0]]})" if found[0] in NAMES else found[0], tag)
