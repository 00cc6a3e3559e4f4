"""Registry: versions of artefacts on disk, the `current` pointer, rollback. Each version is one folder that bears its name.

registry/
  current.json                      {"version": ..., "previous": [...]}
  20261124T031500.123456-mult_vae-1a2b3c4d/
    manifest.json model.safetensors items.json    the artefact
    twin/                                         the same model without the held-out users: what the next gate asks
    histories.safetensors                         users' histories, what the API starts from
    version.json                                  version, model, created, metrics, digests; written last
"""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from recsys_ae.artifact import Artifact
from recsys_ae.errors import ArtifactError, DataError, RegistryError
from recsys_ae.histories import Histories
from recsys_ae.ids import IdMap
from recsys_ae.scratch import sync, writing
from recsys_ae.sealed import check_digest, file_digest, read_sealed, write_sealed

STAMP = "%Y%m%dT%H%M%S.%f"
VERSION, HISTORIES, CURRENT, TWIN = "version.json", "histories.safetensors", "current.json", "twin"


@dataclass(frozen=True)
class StoredUsers:
    """Users and their histories over the items of one version."""

    users: IdMap
    histories: Histories

    def __post_init__(self) -> None:
        if len(self.users) != len(self.histories):
            raise DataError(f"{len(self.users)} users and {len(self.histories)} histories; expected as many of each")


class Registry:
    """Opens a folder, which need not exist yet. Every change is one atomic rename."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def versions(self) -> list[str]:
        """Names of all whole versions, oldest first."""
        if not self.path.is_dir():
            return []
        return sorted(entry.name for entry in self.path.iterdir() if (entry / VERSION).is_file() and entry.name[0] != ".")

    def current(self) -> str | None:
        """The version that is served, or None."""
        return self._pointer()["version"]

    def show(self, version: str | None = None) -> dict[str, Any]:
        """version, model, created, metrics and more of a version; of `current` without one. Raises RegistryError."""
        version = self._resolve(version)
        return {**read_sealed(self.path / version / VERSION), "current": version == self.current()}

    def publish(
        self, artifact: Artifact, model_id: str, stored: StoredUsers, metrics: dict[str, Any], twin: Artifact | None = None
    ) -> str:
        """Write a version; it appears whole or not at all, and does not become current. Returns its name: time, model, digest.

        twin: the same model fitted without the users held out for the gate.

        Raises DataError where the stored histories are over another catalogue than the model.
        """
        if stored.histories.n_items != len(artifact.items):
            raise DataError(f"histories over {stored.histories.n_items} items; the model has {len(artifact.items)}")
        self.path.mkdir(parents=True, exist_ok=True)
        with self._locked():
            self._clear()
            created = datetime.now(UTC)
            while any(v.startswith(f"{created:{STAMP}}") for v in self.versions()):
                created += timedelta(microseconds=1)  # names sort in the order of their making, whatever the clock does
            work = Path(tempfile.mkdtemp(prefix=".writing-", dir=self.path))
            try:
                folder = work / "version"
                artifact.save(folder)
                with writing(folder / HISTORIES):
                    save_file(_arrays(stored), folder / HISTORIES)
                    sync(folder / HISTORIES)
                if twin is not None:
                    twin.save(folder / TWIN)
                digest = file_digest(folder / "model.safetensors")["sha256"]
                name = f"{created:{STAMP}}-{re.sub(r'[^A-Za-z0-9_.-]', '_', model_id)}-{digest[:8]}"
                about = {
                    "version": name,
                    "model": model_id,
                    "created": created.isoformat(timespec="seconds"),
                    "metrics": metrics,
                    "items": len(artifact.items),
                    "users": len(stored.users),
                    "files": {n: file_digest(folder / n) for n in ("manifest.json", HISTORIES)},
                }
                write_sealed(folder / VERSION, about)
                sync(folder)
                os.rename(folder, self.path / name)
                sync(self.path)
            finally:
                shutil.rmtree(work, ignore_errors=True)
        return name

    def promote(self, version: str) -> None:
        """Make a version current, after checking every digest of it. Raises RegistryError or ArtifactError."""
        version = self.check(version).name
        with self._locked():
            try:
                pointer = self._pointer()
            except ArtifactError:  # this is how a damaged one is mended
                pointer = {"version": None, "previous": []}
            if pointer["version"] == version:
                return
            previous = pointer["previous"] + ([pointer["version"]] if pointer["version"] else [])
            self._point(version, previous)

    def rollback(self) -> str:
        """Make the version that was current before current again; returns it. Raises RegistryError without one."""
        with self._locked():
            pointer = self._pointer()
            previous = [v for v in pointer["previous"] if v in self.versions()]
            if not previous:
                raise RegistryError(f"{self.path}: no earlier version to go back to; current is {pointer['version']}")
            self.check(previous[-1])
            self._point(previous[-1], previous[:-1])
            return str(previous[-1])

    def load(self, version: str | None = None, device: str = "cpu") -> tuple[Artifact, StoredUsers]:
        """A version's artefact and stored users; those of `current` without one. Raises RegistryError, ArtifactError."""
        folder = self._check_own(self._resolve(version))
        artifact = Artifact.load(folder, device)  # which checks the files of the manifest
        try:
            stored = _stored(load_file(folder / HISTORIES), len(artifact.items))
        except (SafetensorError, KeyError, DataError) as error:
            raise ArtifactError(f"{folder / HISTORIES}: cannot be read back ({error})") from None
        return artifact, stored

    def manifest(self, version: str | None = None) -> dict[str, Any]:
        """What is known of a version's making."""
        return read_sealed(self.path / self._resolve(version) / "manifest.json")

    def twin(self, version: str | None = None) -> Artifact | None:
        """The model of a version as fitted without the held-out users; None where it was published without."""
        folder = self.path / self._resolve(version) / TWIN
        return Artifact.load(folder) if folder.is_dir() else None

    def prune(self, keep: int) -> list[str]:
        """Remove all but the newest `keep` versions; never the current one, nor what a rollback would go back to."""
        with self._locked():
            self._clear()
            pointer = self._pointer()
            held = {pointer["version"], *pointer["previous"][-1:], *self.versions()[-keep:]}
            gone = [version for version in self.versions() if version not in held]
            for version in gone:
                work = Path(tempfile.mkdtemp(prefix=".removing-", dir=self.path))
                os.rename(self.path / version, work / version)  # at once: a reader sees all of it or none
                shutil.rmtree(work)
        return gone

    def check(self, version: str) -> Path:
        """The folder of a version, its digests verified."""
        folder = self._check_own(self._resolve(version))
        manifest = read_sealed(folder / "manifest.json")
        for name, digest in manifest["files"].items():
            check_digest(folder / name, digest)
        return folder

    def _check_own(self, version: str) -> Path:
        """The folder of a version, the files verified that version.json names: the manifest and the histories."""
        folder = self.path / version
        for name, digest in read_sealed(folder / VERSION)["files"].items():
            check_digest(folder / name, digest)
        return folder

    def _resolve(self, version: str | None) -> str:
        if version is None or version == "current":
            version = self.current()
            if version is None:
                raise RegistryError(f"{self.path}: no current version; train one, or promote one of {self.versions()}")
        if version not in self.versions():
            known = ", ".join(self.versions()[-5:]) or "none"
            raise RegistryError(f"{self.path}: no version {version!r}; the latest are {known}")
        return version

    def _pointer(self) -> dict[str, Any]:
        path = self.path / CURRENT
        return read_sealed(path) if path.is_file() else {"version": None, "previous": []}

    def _point(self, version: str, previous: list[str]) -> None:
        write_sealed(self.path / CURRENT, {"version": version, "previous": previous})
        sync(self.path)

    def _clear(self) -> None:
        """Remove what a killed process left; the lock is held, so nobody else writes."""
        for left in (*self.path.glob(".writing-*"), *self.path.glob(".removing-*")):
            shutil.rmtree(left)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time; the lock goes with the process that holds it."""
        if not self.path.is_dir():
            raise RegistryError(f"{self.path}: no such registry; the first `train` makes it")
        with (self.path / ".lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def _arrays(stored: StoredUsers) -> dict[str, np.ndarray]:
    histories = stored.histories
    arrays = {f"users.{name}": array for name, array in stored.users.arrays().items()}
    arrays |= {"indptr": histories.indptr, "items": histories.items, "weights": histories.weights}
    if histories.times is not None:
        arrays["times"] = histories.times
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def _stored(arrays: dict[str, np.ndarray], n_items: int) -> StoredUsers:
    users = IdMap.from_arrays({n.removeprefix("users."): a for n, a in arrays.items() if n.startswith("users.")})
    histories = Histories(arrays["indptr"], arrays["items"], arrays["weights"], n_items, arrays.get("times"))
    return StoredUsers(users, histories)
