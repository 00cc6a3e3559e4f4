"""report: evaluation.json -> report.html and pictures/NAME.svg. Nothing but the document is looked at."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.report.drawing import MARK, style
from pipelines.report.findings import decision_metric
from pipelines.report.page import page
from pipelines.report.pictures import draw
from recsys_ae.errors import ConfigError

SCHEMA = 1


def render(document: Mapping[str, Any], folder: Path) -> Path:
    """`report.html` and `pictures/NAME.svg` in the folder, each written atomically; the same bytes for the same document."""
    metric = decision_metric(document)
    with style():
        sections = draw(document, metric)
    html = page(document, metric, sections)
    names = {f"{picture.name}.svg": picture.svg for pictures in sections.values() for picture in pictures}
    aside = folder / "pictures"
    aside.mkdir(parents=True, exist_ok=True)
    for name, svg in names.items():
        _write(aside / name, svg)
    for old in aside.glob("*.svg"):  # of an earlier report; only our own
        if old.name not in names and MARK in old.read_text("utf-8", "replace")[:2_000]:
            old.unlink()
    return _write(folder / "report.html", html)


def render_file(path: Path, folder: Path | None = None) -> Path:
    """The report of an evaluation.json, or of the folder that holds one; beside it where no other folder is given."""
    path = path / "evaluation.json" if path.is_dir() else path
    return render(read_document(path), folder or path.parent)


def read_document(path: Path) -> dict[str, Any]:
    """An evaluation.json that can be drawn. Raises ConfigError for what is none."""
    expected = f"expected an evaluation.json of schema {SCHEMA}, as `recsys-ae evaluate` writes it"
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; {expected}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}); {expected}") from None
    try:
        found = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid JSON ({error}); {expected}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: found a JSON {_kind(found)}; {expected}")
    if found.get("schema") != SCHEMA:
        raise ConfigError(f"{path}: found schema {json.dumps(found.get('schema'))[:80]}; {expected}")
    models = found.get("models")
    if not isinstance(models, dict) or not models:
        raise ConfigError(f"{path}: found no models; {expected}")
    for key, entry in models.items():
        metrics = entry.get("metrics") if isinstance(entry, dict) else None
        if not isinstance(metrics, dict) or not all(isinstance(score, dict) and "mean" in score for score in metrics.values()):
            raise ConfigError(f"{path}: model {key[:80]!r} has no metrics with a mean each; {expected}")
    for part in ("data", "split"):
        if not isinstance(found.get(part), dict):
            raise ConfigError(f"{path}: found no object {part!r}; {expected}")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _kind(found: object) -> str:
    return {list: "list", str: "string", type(None): "null", bool: "boolean"}.get(type(found), "number")


def _write(path: Path, text: str) -> Path:
    partial = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    partial.write_bytes(text.encode("utf-8"))
    partial.replace(path)
    return path
