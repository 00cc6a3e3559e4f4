"""Files that prove to be what was written: digests, and JSON that carries the digest of its own content."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recsys_ae.errors import ArtifactError
from recsys_ae.scratch import whole_file


def file_digest(path: Path) -> dict[str, Any]:
    """Size and sha256 of a file."""
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def check_digest(path: Path, expected: Mapping[str, Any] | None) -> None:
    """Raises ArtifactError where the file is not the one that was written."""
    if expected is None:
        raise ArtifactError(f"{path}: the manifest has no digest of it")
    if not path.is_file():
        raise ArtifactError(f"{path}: is missing; expected {expected['bytes']} bytes")
    found = file_digest(path)
    if found != dict(expected):
        raise ArtifactError(
            f"{path}: is damaged: {found['bytes']} bytes with sha256 {found['sha256'][:12]}...; "
            f"expected {expected['bytes']} bytes with {expected['sha256'][:12]}..."
        )


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """JSON that carries the digest of its own content; written atomically."""
    body = {name: value for name, value in content.items() if name != "digest"}
    text = json.dumps({**body, "digest": content_digest(body)}, indent=2, ensure_ascii=False, allow_nan=False)
    with whole_file(path) as partial:
        partial.write_text(text + "\n", "utf-8")


def read_sealed(path: Path) -> dict[str, Any]:
    """The inverse. Raises ArtifactError where the file is missing, no JSON, or not what was written."""
    if not path.is_file():
        raise ArtifactError(f"{path}: is missing; expected a saved model's file")
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
        digest = content.pop("digest")
    except (ValueError, KeyError, AttributeError) as error:
        raise ArtifactError(f"{path}: is damaged ({error!r})") from None
    if digest != content_digest(content):
        raise ArtifactError(f"{path}: is damaged: its content does not have the digest that it states")
    return content


def content_digest(content: Mapping[str, Any]) -> str:
    """sha256 of what would be the same JSON in any order of keys."""
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
