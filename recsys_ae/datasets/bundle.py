"""Bundle: the data files of a set by base name, in a zip, in a folder, or one file alone. Nothing is ever unpacked to disk."""

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from recsys_ae.errors import DataError


@dataclass(frozen=True)
class Bundle:
    """Data files by base name: `entries` names each within the zip, or is its path."""

    place: Path
    entries: dict[str, str]
    zipped: bool = False

    def __contains__(self, name: object) -> bool:
        return name in self.entries

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """One file to read. Raises DataError where the bundle lacks it or it is damaged."""
        if name not in self.entries:
            found = ", ".join(sorted(self.entries)) or "none of the set's files"
            raise DataError(f"{self.place}: no {name}; found {found}")
        if not self.zipped:
            with Path(self.entries[name]).open("rb") as file:
                yield file
            return
        try:
            with zipfile.ZipFile(self.place) as archive, archive.open(self.entries[name]) as member:
                yield cast(BinaryIO, member)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise DataError(f"{self.place}, {name}: the zip is damaged or of a kind that cannot be read ({error})") from None


def open_bundle(place: Path, names: Sequence[str], largest: int) -> Bundle:
    """The files called `names` in a zip, in a folder or one folder below it, or the one file `place`.

    Raises DataError: nothing there, a name that stands twice, a zip whose paths lead outside, or one that unpacks to more than
    `largest` bytes.
    """
    if place.is_dir():
        found = {name: [str(p) for p in (place / name, *sorted(place.glob(f"*/{name}"))) if p.is_file()] for name in names}
        return Bundle(place, _one_each(place, found))
    if not place.is_file():
        raise DataError(f"{place}: does not exist; expected a zip, a folder or a data file of the set")
    if zipfile.is_zipfile(place):
        return Bundle(place, _members(place, names, largest), zipped=True)
    if place.name in names:
        return Bundle(place, {place.name: str(place)})
    raise DataError(f"{place}: is neither a zip nor one of the set's files; expected a zip, a folder, or {' or '.join(names)}")


def _members(place: Path, names: Sequence[str], largest: int) -> dict[str, str]:
    try:
        with zipfile.ZipFile(place) as archive:
            listed = archive.infolist()
    except zipfile.BadZipFile as error:
        raise DataError(f"{place}: is no whole zip ({error})") from None
    found: dict[str, list[str]] = {name: [] for name in names}
    size = 0
    for entry in listed:
        path = PurePosixPath(entry.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in entry.filename or ":" in entry.filename.partition("/")[0]:
            raise DataError(f"{place}: holds the path {entry.filename!r}, which leads outside; the zip is not used")
        if path.name in found and not entry.is_dir():
            found[path.name].append(entry.filename)
            size += entry.file_size  # no more than this is ever read of an entry, whatever its stream holds
    if size > largest:
        raise DataError(f"{place}: unpacks to {size:,} bytes; expected at most {largest:,}; the zip is not used")
    return _one_each(place, found)


def _one_each(place: Path, found: dict[str, list[str]]) -> dict[str, str]:
    for name, paths in found.items():
        if len(paths) > 1:
            raise DataError(f"{place}: {name} is there {len(paths)} times ({', '.join(paths)}); expected once")
    return {name: paths[0] for name, paths in found.items() if paths}
