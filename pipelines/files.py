"""Text files that are written whole or not at all."""

from pathlib import Path

from recsys_ae.scratch import whole_file


def write_text(path: Path, text: str, mode: int | None = None) -> Path:
    """In UTF-8, under another name first; gives the path. `mode`: who may read it, whatever the umask."""
    with whole_file(path) as partial:
        partial.write_bytes(text.encode("utf-8"))
        if mode is not None:
            partial.chmod(mode)
    return path
