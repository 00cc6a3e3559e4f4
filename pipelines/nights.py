"""Accepted nights: what the data of each were like, so that those of tonight can be compared with them.

runs/nightly/
  accepted.json                        the nights, latest last, and the digest of:
  accepted-1a2b3c4d5e6f.safetensors    ids and popularity of the latest: users (U,), items (I,) uint64, popularity (I,) int64
"""

import os
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from recsys_ae.dataset import Dataset
from recsys_ae.errors import ArtifactError
from recsys_ae.ids import IdMap
from recsys_ae.scratch import scratch_folder, sync
from recsys_ae.sealed import check_digest, file_digest, read_sealed, write_sealed

STATE, SCHEMA = "accepted.json", 1
Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class Night:
    """What the data of one night were like; JSON. `columns`: kind by canonical column; `newest`: seconds since 1970."""

    data: str
    columns: dict[str, str]
    read: int
    kept: int
    dropped: dict[str, int]
    users: int
    items: int
    newest: int | None

    @property
    def share_dropped(self) -> float:
        """Rows that cleaning left out, of those read."""
        return 1 - self.kept / self.read if self.read else 0.0


@dataclass(frozen=True, eq=False)
class Marks:
    """Who and what was met, by hash, ascending: users (U,) and items (I,), with the interactions (I,) int64 of each item."""

    users: Hashes
    items: Hashes
    popularity: NDArray[np.int64]

    @classmethod
    def of(cls, data: Dataset) -> "Marks":
        """Counted from a data set."""
        items = hashes(data.items)
        order = np.argsort(items)
        popularity = np.bincount(data.histories.items, minlength=len(items))
        return cls(np.sort(hashes(data.users)), items[order], popularity[order])


@dataclass(frozen=True, eq=False)
class Earlier:
    """The accepted nights, latest last; the marks of the latest, where they are whole; what is damaged of all that."""

    nights: tuple[Night, ...] = ()
    marks: Marks | None = None
    damage: str | None = None


def hashes(ids: IdMap) -> Hashes:
    """64 bits (n,) of each id as text, the same everywhere; among a million, two share them with a chance of 3 in 10^8."""
    return np.frombuffer(b"".join(blake2b(str(i).encode(), digest_size=8).digest() for i in ids.ids), "<u8")


def earlier(folder: Path) -> Earlier:
    """What is known of earlier nights. A damaged file is not an error: it is told, and the night goes on without it."""
    path = folder / STATE
    if not path.exists():
        return Earlier()
    try:
        content = read_sealed(path)
        if content["schema"] != SCHEMA:
            return Earlier(damage=f"{path}: has schema {content['schema']}, expected {SCHEMA}")
        nights = tuple(Night(**each) for each in content["nights"])
        name, digest = content["marks"]["name"], content["marks"]["digest"]
    except (ArtifactError, OSError, KeyError, TypeError) as error:
        return Earlier(damage=str(error) if isinstance(error, ArtifactError) else f"{path}: is damaged ({error!r})")
    try:
        check_digest(folder / name, digest)
        return Earlier(nights, Marks(**load_file(folder / name)))
    except (ArtifactError, OSError, SafetensorError, TypeError) as error:
        return Earlier(nights, None, str(error))


def accept(folder: Path, night: Night, marks: Marks, before: tuple[Night, ...], keep: int) -> None:
    """Add a night to those `before` it; only the last `keep` stay. The same data again take the place of the first time."""
    nights = [*(each for each in before if each.data != night.data), night][-keep:]
    with scratch_folder("accepted", folder) as work:
        save_file({name: np.ascontiguousarray(array) for name, array in vars(marks).items()}, work / "marks")
        sync(work / "marks")
        digest = file_digest(work / "marks")
        name = f"accepted-{digest['sha256'][:12]}.safetensors"  # of its own: a kill leaves accepted.json with what it names
        os.replace(work / "marks", folder / name)
    content: dict[str, Any] = {"schema": SCHEMA, "nights": [asdict(each) for each in nights]}
    write_sealed(folder / STATE, content | {"marks": {"name": name, "digest": digest}})
    sync(folder)
    for left in folder.glob("accepted-*.safetensors"):
        if left.name != name:
            left.unlink()
