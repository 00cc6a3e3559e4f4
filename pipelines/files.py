"""Text files that are written whole or not at all."""

import os
import time
from pathlib import Path


def write_text(path: Path, text: str, mode: int | None = None) -> Path:
    """In UTF-8, under another name first; gives the path. `mode`: who may read it, whatever the umask."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    partial.write_bytes(text.encode("utf-8"))
    if mode is not None:
        partial.chmod(mode)
    partial.replace(path)
    return path
