"""Registry: versions of artefacts on disk, the `current` pointer, rollback. Each version is one folder that bears its name.

registry/
  current.json                      {"version": ..., "previous": [...]}
  pins.json                         {"pins": {version: note}}: never pruned
  traffic.json                      {"shares": {version: share}, "salt": ...} while an A/B test is in progress
  20261124T031500.123456-mult_vae-1a2b3c4d/
    manifest.json model.safetensors items.json    the artefact
    twin/                                         the same model without the held-out users: what the next gate asks
    histories.safetensors                         users' histories, what the API starts from
    index.faiss                                   an approximate index of a large catalogue, where the job made one
    version.json                                  version, model, created, metrics, digests; written last
"""

import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from recsys_ae.artifact import MANIFEST, TENSORS, Artifact
from recsys_ae.errors import ArtifactError, ConfigError, DataError, RegistryError
from recsys_ae.histories import Histories
from recsys_ae.ids import IdMap
from recsys_ae.index import Index
from recsys_ae.scratch import alone, sync, writing
from recsys_ae.sealed import check_digest, file_digest, read_sealed, write_sealed
from recsys_ae.traffic import Traffic

STAMP, STAMP_LENGTH = "%Y%m%dT%H%M%S.%f", 22
VERSION, HISTORIES, CURRENT, TWIN = "version.json", "histories.safetensors", "current.json", "twin"
PINS, TRAFFIC, INDEX = "pins.json", "traffic.json", "index.faiss"


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
        self,
        artifact: Artifact,
        model_id: str,
        stored: StoredUsers,
        metrics: dict[str, Any],
        twin: Artifact | None = None,
        index: Index | None = None,
    ) -> str:
        """Write a version; it appears whole or not at all, and does not become current. Returns its name: time, model, digest.

        twin: the same model fitted without the users held out for the gate. index: of the model's items, for the service.

        Raises DataError where the stored histories are over another catalogue than the model.
        """
        if stored.histories.n_items != len(artifact.items):
            raise DataError(f"histories over {stored.histories.n_items} items; the model has {len(artifact.items)}")
        self.path.mkdir(parents=True, exist_ok=True)
        with self._locked():
            self._clear_left()
            created = self._next_moment()
            work = Path(tempfile.mkdtemp(prefix=".writing-", dir=self.path))
            try:
                folder = work / "version"
                artifact.save(folder)
                with writing(folder / HISTORIES):
                    save_file(_arrays(stored), folder / HISTORIES)
                    sync(folder / HISTORIES)
                own = [MANIFEST, HISTORIES]
                if twin is not None:
                    twin.save(folder / TWIN)
                    own.append(f"{TWIN}/{MANIFEST}")
                if index is not None:
                    with writing(folder / INDEX):
                        index.save(folder / INDEX)
                        sync(folder / INDEX)
                    own.append(INDEX)
                digest = file_digest(folder / TENSORS)["sha256"]
                name = f"{created:{STAMP}}-{re.sub(r'[^A-Za-z0-9_.-]', '_', model_id)}-{digest[:8]}"
                about = {
                    "version": name,
                    "model": model_id,
                    "created": created.isoformat(timespec="seconds"),
                    "metrics": metrics,
                    "items": len(artifact.items),
                    "users": len(stored.users),
                    "index": None if index is None else index.facts,
                    "files": {n: file_digest(folder / n) for n in own},
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
        """Make the version that was current before current again; returns it. Raises RegistryError without one.

        What is served of it is checked; its twin is not, which only the next gate needs.
        """
        with self._locked():
            pointer = self._pointer()
            previous = self._previous(pointer)
            if not previous:
                raise RegistryError(f"{self.path}: no earlier version to go back to; current is {pointer['version']}")
            _raise_first(self._faults(previous[-1], twin=False))
            self._point(previous[-1], previous[:-1])
            return str(previous[-1])

    def load(self, version: str | None = None, device: str = "cpu") -> tuple[Artifact, StoredUsers]:
        """A version's artefact and stored users; those of `current` without one. Raises RegistryError, ArtifactError."""
        folder = self.path / self._resolve(version)
        for name, digest in self._files(folder).items():
            if not name.startswith(TWIN) and name != INDEX:  # which `index` checks
                check_digest(folder / name, digest)
        artifact = Artifact.load(folder, device)  # which checks the files of the manifest
        try:
            stored = _stored(load_file(folder / HISTORIES), len(artifact.items))
        except (SafetensorError, KeyError, DataError) as error:
            raise ArtifactError(f"{folder / HISTORIES}: cannot be read back ({error})") from None
        return artifact, stored

    def index(self, version: str | None = None) -> Index | None:
        """The approximate index that a version was published with. Raises what `load` does, and ConfigError without faiss."""
        folder = self.path / self._resolve(version)
        about = read_sealed(folder / VERSION)
        if about.get("index") is None:
            return None
        check_digest(folder / INDEX, about["files"].get(INDEX))
        return Index.load(folder / INDEX, about["index"])

    def manifest(self, version: str | None = None) -> dict[str, Any]:
        """What is known of a version's making."""
        return read_sealed(self.path / self._resolve(version) / "manifest.json")

    def twin(self, version: str | None = None) -> Artifact | None:
        """The model of a version as fitted without the held-out users; None where it was published without."""
        folder = self.path / self._resolve(version)
        name = f"{TWIN}/{MANIFEST}"
        files = self._files(folder)
        if name in files:  # versions of before do not list it
            check_digest(folder / name, files[name])
        return Artifact.load(folder / TWIN) if (folder / TWIN).is_dir() else None

    def twin_manifest(self, version: str | None = None) -> dict[str, Any] | None:
        """What is known of the making of a version's twin; None where it was published without."""
        folder = self.path / self._resolve(version) / TWIN
        return read_sealed(folder / "manifest.json") if folder.is_dir() else None

    def prune(self, keep: int) -> list[str]:
        """Remove all but the newest `keep` versions; never the current one, what a rollback would go back to, one that is
        pinned or one with a share of the traffic. Raises ArtifactError, and removes nothing, where one cannot be told.
        """
        with self._locked():
            self._clear_left()
            pointer, traffic, versions = self._pointer(), self.traffic(), self.versions()
            held = {pointer["version"], *self._previous(pointer)[-1:], *self.pins(), *(traffic.shares if traffic else ())}
            gone = [version for version in versions[: max(0, len(versions) - keep)] if version not in held]
            for version in gone:
                work = Path(tempfile.mkdtemp(prefix=".removing-", dir=self.path))
                os.rename(self.path / version, work / version)  # at once: a reader sees all of it or none
                shutil.rmtree(work)
        return gone

    def pins(self) -> dict[str, str]:
        """Version -> note of all that are never pruned. Raises ArtifactError where pins.json is damaged."""
        path = self.path / PINS
        return dict(read_sealed(path)["pins"]) if path.is_file() else {}

    def pin(self, version: str, note: str = "") -> str:
        """Never prune a version; one that is pinned takes the new note. Returns its name. Raises RegistryError."""
        with self._locked():
            version = self._resolve(version)
            self._write(PINS, {"pins": self.pins() | {version: note}})
        return version

    def unpin(self, version: str) -> str:
        """Prune it as any other. Returns its name. Raises RegistryError where it is not pinned."""
        with self._locked():
            pins = self.pins()
            version = version if version in pins else self._resolve(version)
            if version not in pins:
                raise RegistryError(f"{self.path}: {version} is not pinned; pinned are {', '.join(pins) or 'none'}")
            self._write(PINS, {"pins": {name: note for name, note in pins.items() if name != version}})
        return version

    def traffic(self) -> Traffic | None:
        """The A/B test in progress, if any. Raises ArtifactError, which names traffic.json, where that is damaged."""
        path = self.path / TRAFFIC
        if not path.is_file():
            return None
        found = read_sealed(path)
        try:
            return Traffic(found["shares"], found["salt"])
        except (KeyError, ConfigError) as error:
            raise ArtifactError(f"{path}: is damaged ({error})") from None

    def set_traffic(self, shares: Mapping[str, float] | None, salt: str | None = None) -> Traffic | None:
        """Share traffic among versions, checked first; None ends the A/B test. It stays whatever becomes current meanwhile.

        shares: above 0, in sum 1 or, in percent, 100. salt: that of the test in progress, or else a new one, where None.

        Raises ConfigError for other shares, RegistryError or ArtifactError for a version that is not there or is damaged.
        """
        with self._locked():
            if shares is None:
                (self.path / TRAFFIC).unlink(missing_ok=True)
                sync(self.path)
                return None
            named = {self._resolve(version): share for version, share in shares.items()}
            if len(named) < len(shares):
                raise ConfigError(f"one version has two shares; found {', '.join(shares)}")
            made = Traffic.of(named, "")
            for version in named:
                _raise_first(self._faults(version, twin=False))
            made = replace(made, salt=self._salt() if salt is None else salt)
            self._write(TRAFFIC, made.as_json())
            return made

    def served(self) -> tuple[Traffic | None, str | None]:
        """What to serve: the A/B test, or else `current`, if any; and why it is not the A/B test where there is to be one.

        That is so where traffic.json is damaged or a version of it is gone. Raises ArtifactError for a damaged pointer alone.
        """
        wrong = None
        try:
            traffic = self.traffic()
            if traffic is not None:
                for version in traffic.shares:
                    self._resolve(version)
                return traffic, None
        except (ArtifactError, RegistryError) as error:
            wrong = str(error)
        current = self.current()
        return (Traffic({current: 1.0}) if current else None), wrong

    def check(self, version: str) -> Path:
        """The folder of a version, every digest verified, those of its twin too. Raises RegistryError or ArtifactError."""
        folder = self.path / self._resolve(version)
        _raise_first(self._faults(folder.name))
        return folder

    def faults(self, version: str | None = None) -> list[str]:
        """What is wrong with the files of a version, a line each; nothing where every byte is as it was written."""
        return list(self._faults(self._resolve(version)))

    def _faults(self, version: str, twin: bool = True) -> Iterator[str]:
        """By what version.json lists, then by each manifest; what version.json does not prove, its manifest's own seal does."""
        folder = self.path / version
        try:
            listed = {name: digest for name, digest in self._files(folder).items() if twin or not name.startswith(TWIN)}
        except ArtifactError as error:
            yield str(error)
            listed = {}
        damaged = set()
        for name, digest in listed.items():
            for fault in _fault(folder / name, digest):
                damaged.add(name)
                yield fault
        for part in (folder, folder / TWIN) if twin and (folder / TWIN).is_dir() else (folder,):
            manifest = part / MANIFEST
            try:
                files = read_sealed(manifest)["files"]
            except ArtifactError as error:
                if str(manifest.relative_to(folder)) not in damaged:
                    yield str(error)
                continue
            for name, digest in files.items():
                yield from _fault(part / name, digest)

    @staticmethod
    def _files(folder: Path) -> dict[str, Any]:
        """The digests that version.json has: of the manifest, the histories, and the twin's manifest where there is one."""
        return dict(read_sealed(folder / VERSION)["files"])

    def _clear_left(self) -> None:
        """What a process that was killed has left behind; under the lock it is nobody's."""
        for left in (*self.path.glob(".writing-*"), *self.path.glob(".removing-*")):
            shutil.rmtree(left)

    def _next_moment(self) -> datetime:
        """Now, but after the newest version: names sort in the order of their making, whatever the clock does."""
        now = datetime.now(UTC)
        for version in reversed(self.versions()):
            try:
                newest = datetime.strptime(version[:STAMP_LENGTH], STAMP).replace(tzinfo=UTC)
            except ValueError:  # a folder that somebody named
                continue
            return max(now, newest + timedelta(microseconds=1))
        return now

    def _salt(self) -> str:
        try:
            traffic = self.traffic()
        except ArtifactError:  # about to be written anew
            traffic = None
        return traffic.salt if traffic else secrets.token_hex(8)

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

    def _previous(self, pointer: Mapping[str, Any]) -> list[str]:
        """What rollbacks can go back to, the last of them first."""
        there = set(self.versions())
        return [version for version in pointer["previous"] if version in there]

    def _point(self, version: str, previous: list[str]) -> None:
        there = set(self.versions())
        self._write(CURRENT, {"version": version, "previous": [each for each in previous if each in there]})

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        write_sealed(self.path / name, content)
        sync(self.path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time; the lock goes with the process that holds it."""
        if not self.path.is_dir():
            raise RegistryError(f"{self.path}: no such registry; the first `train` makes it")
        with alone(self.path / ".lock"):
            yield


def _fault(path: Path, digest: Mapping[str, Any]) -> Iterator[str]:
    try:
        check_digest(path, digest)
    except ArtifactError as error:
        yield str(error)


def _raise_first(faults: Iterator[str]) -> None:
    for fault in faults:
        raise ArtifactError(fault)


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
