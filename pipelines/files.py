"""Text files that are written whole or not at all."""

from pathlib import Path

from recsys_ae.scratch import whole_file


def write_text(path: Path, text: str) -> Path:
    """In UTF-8, under another name first; gives the path."""
    with whole_file(path) as partial:
        partial.write_bytes(text.encode("utf-8"))
    return path
