"""Files that appear whole or not at all, and folders to work in: what a killed process left is removed by the next one.

A scratch file or folder is held by a lock that goes with its process, however that ends; one that nobody holds is a leftover.
"""

import fcntl
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from recsys_ae.errors import WriteError

LEFTOVER = re.compile(r"^\..+\.[0-9a-f]{8}\.partial$")


@contextmanager
def whole_file(path: Path, durable: bool = True) -> Iterator[Path]:
    """A name to write under, in the same folder, that becomes `path` when the block ends; where it raises, nothing is left.

    durable: onto the disk first, so that a power cut cannot leave a name without its bytes.

    Raises WriteError where there is no room, which names the path.
    """
    clear(path.parent, path.name)
    with writing(path):
        partial, handle = _held(path)
        try:
            yield partial
            if durable:
                sync(partial)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
            os.close(handle)


@contextmanager
def scratch_folder(name: str, parent: Path | None = None) -> Iterator[Path]:
    """A folder to work in, in the temporary folder unless another is given; gone with the block, or by the next of its name."""
    parent = parent or Path(tempfile.gettempdir())
    clear(parent, name)
    folder, handle = _held(parent / name, folder=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """As `whole_file`, a folder: what was there before goes once the new one is whole. Between the two nothing is there."""
    clear(path.parent, path.name)
    with writing(path):
        partial, handle = _held(path, folder=True)
        try:
            yield partial
            partial.chmod(0o755)
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            os.replace(partial, path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            os.close(handle)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """An error of the system that names no file, as a full disk gives, as WriteError for the path."""
    try:
        yield
    except SafetensorError as error:
        raise WriteError(f"{path}: cannot be written ({error})") from error
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise WriteError(f"{path}: cannot be written ({os.strerror(error.errno)}, errno {error.errno})") from error


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """One process at a time, others wait; the lock goes with the process that holds it, the file stays."""
    with lock.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """While the block runs, nobody takes the folder for a leftover."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks has no leftovers either: nothing is removed there
            fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def clear(folder: Path, name: str = "") -> None:
    """Remove the scratch files of killed processes from a folder, of one file or of all."""
    for path in folder.glob(".*.partial"):
        if LEFTOVER.match(path.name) and path.name.startswith(f".{name}"):
            remove_unless_held(path)


def remove_unless_held(path: Path) -> bool:
    """Remove a file or a folder unless a living process holds it; whether it is gone."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:  # gone already, or another user's
        return not path.exists()
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError:
        return not path.exists()
    finally:
        os.close(handle)
    return True


def sync(path: Path) -> None:
    """Onto the disk, so that a power cut cannot leave a name without its bytes."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _held(path: Path, folder: bool = False) -> tuple[Path, int]:
    """A new empty file or folder beside `path`, and the handle that holds it."""
    while True:
        partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
        try:
            if folder:
                partial.mkdir(0o700)
                handle = os.open(partial, os.O_RDONLY)
            else:
                handle = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileNotFoundError:
            if not path.parent.is_dir():
                raise
            continue  # made, and taken for a leftover by another process before it was opened
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_SH)
        if partial.exists():
            return partial, handle
        os.close(handle)  # the same between its making and its lock
