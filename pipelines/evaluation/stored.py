"""evaluation.json as a file: written whole or not at all, and refused where it is none."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.files import write_text
from recsys_ae.errors import ConfigError

SCHEMA, NAME = 1, "evaluation.json"


def write_document(content: Mapping[str, Any], folder: Path) -> Path:
    """`evaluation.json` in the folder, written atomically."""
    make_folder(folder)
    return write_text(folder / NAME, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def make_folder(folder: Path) -> None:
    """Before the work, not after it. Raises ConfigError where nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written to ({error.strerror}); expected a folder, or room for one") from None


def read_document(path: Path) -> dict[str, Any]:
    """An evaluation.json, or the one in a folder. Raises ConfigError, which names the file, for what is none."""
    path = path / NAME if path.is_dir() else path
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
        if not isinstance(metrics, dict) or not all(_has_mean(score) for score in metrics.values()):
            raise ConfigError(f"{path}: model {key[:80]!r} has no metrics with a mean each; {expected}")
    for part in ("data", "split"):
        if not isinstance(found.get(part), dict):
            raise ConfigError(f"{path}: found no object {part!r}; {expected}")
    for name, value in (("environment", found.get("environment")), ("data.profile", found["data"].get("profile"))):
        if not isinstance(value, dict | None):
            raise ConfigError(f"{path}: found a JSON {_kind(value)} as {name!r}; {expected}")
    return found


def _has_mean(score: object) -> bool:
    return isinstance(score, dict) and "mean" in score and isinstance(score["mean"], int | float | None)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _kind(found: object) -> str:
    return {list: "list", str: "string", type(None): "null", bool: "boolean"}.get(type(found), "number")
