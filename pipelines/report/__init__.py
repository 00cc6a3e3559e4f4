"""report: evaluation.json -> report.html and pictures/NAME.svg. Nothing but the document is looked at."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.evaluation.stored import make_folder, read_document
from pipelines.files import write_text
from pipelines.report.drawing import MARK, style
from pipelines.report.findings import decision_metric
from pipelines.report.page import page
from pipelines.report.pictures import draw


def render(document: Mapping[str, Any], folder: Path) -> Path:
    """`report.html` and `pictures/NAME.svg` in the folder, each written atomically; the same bytes for the same document."""
    metric = decision_metric(document)
    with style():
        sections = draw(document, metric)
    html = page(document, metric, sections)
    names = {f"{picture.name}.svg": picture.svg for pictures in sections.values() for picture in pictures}
    aside = folder / "pictures"
    make_folder(aside)
    for name, svg in names.items():
        write_text(aside / name, svg)
    for old in aside.glob("*.svg"):  # of an earlier report; only our own
        if old.name not in names and MARK in old.read_text("utf-8", "replace")[:2_000]:
            old.unlink()
    return write_text(folder / "report.html", html)


def render_file(path: Path, folder: Path | None = None) -> Path:
    """The report of an evaluation.json, or of the folder that holds one; beside it where no other folder is given."""
    return render(read_document(path), folder or (path if path.is_dir() else path.parent))
