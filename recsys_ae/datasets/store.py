"""Public sets on disk: fetched or taken from a file, checked, prepared once into canonical Parquet, and read from there.

A set's folder holds `source/` (what was downloaded, with `NAME.sha256` where nobody publishes a digest), `events.parquet` or
`train.parquet` and `test.parquet`, `items.parquet` where items are known, and `set.json`, sealed, written last.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from recsys_ae.datasets.bundle import Bundle, open_bundle
from recsys_ae.datasets.catalogue import Counts, File, PublicSet
from recsys_ae.datasets.download import Downloader, Progress, silent
from recsys_ae.datasets.formats import FORMATS, originals
from recsys_ae.datasets.raw import RawData
from recsys_ae.errors import ConfigError, DataError, FetchError, StorageError
from recsys_ae.ids import Id
from recsys_ae.sealed import check_digest, file_digest, read_sealed, write_sealed
from recsys_ae.sources import connection, literal, one_row

PREPARATION = 1  # of the canonical files; a set prepared by another one is prepared again
SEAL = "set.json"
MEMORY = 10**9  # bytes of DuckDB, while it counts
FIRST = "nobody publishes a digest: the first to come, later ones must equal it"
MAGIC = b"PK\x03\x04"


@dataclass(frozen=True)
class Checked:
    """A source file and how it was checked: by its published digest, against the first one, or by its counts alone."""

    name: str
    sha256: str
    how: str


def data_folder(given: Path | None = None) -> Path:
    """Where sets are kept: as given, else RECSYS_AE_DATA, else recsys-ae in the cache folder (XDG_CACHE_HOME, ~/.cache)."""
    if given is not None:
        return given.expanduser()
    if os.environ.get("RECSYS_AE_DATA"):
        return Path(os.environ["RECSYS_AE_DATA"]).expanduser()
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (cache if cache.is_absolute() else Path.home() / ".cache") / "recsys-ae"


def fetch(
    which: PublicSet,
    folder: Path | None = None,
    *,
    given: Path | None = None,
    downloader: Downloader | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Fetch (or take from the file `given`), check and prepare a set; what is here already stays. Returns what the seal says.

    Raises FetchError where the download fails or is not what was published, DataError where `given` is not, StorageError where
    the folder cannot be used.
    """
    home = data_folder(folder) / which.name
    try:
        with _alone(home):
            if (here := _usable(home)) is not None:
                return here
            if given is not None:
                return _prepare(which, home, *_taken(which, home, given))
            checked = _downloaded(which, home / "source", downloader or Downloader(), progress)
            place = home / "source" / which.files[0].name if which.files[0].archive else home / "source"
            try:
                return _prepare(which, home, open_bundle(place, FORMATS[which.family].names, which.largest), checked)
            except DataError as error:
                for file in which.files:
                    if not file.digests:  # nobody vouches for it, so that another one may be the right one
                        (home / "source" / file.name).replace(_aside(home / "source" / file.name))
                raise FetchError(str(error)) from None
    except OSError as error:
        raise StorageError(f"{error.filename or home}: {error.strerror or error}") from None


def prepared(which: PublicSet, folder: Path | None = None) -> bool:
    """Whether a set is here and whole."""
    return _usable(data_folder(folder) / which.name) is not None


def load(which: PublicSet, folder: Path | None = None) -> RawData:
    """A set that was fetched. Raises ConfigError where it was not, with the command; StorageError where it is damaged."""
    home = data_folder(folder) / which.name
    option = f" --folder {folder}" if folder is not None else ""
    command = f"recsys-ae datasets fetch {which.name}{option}"
    try:
        seal = _seal(home)
    except StorageError as error:
        raise StorageError(f"{error}; `{command}` makes the set again") from None
    if seal is None:
        raise ConfigError(f"data set {which.name} is not in {home.parent}; fetch it first: {command}")
    parts = tuple(home / f"{name}.parquet" for name in FORMATS[which.family].interactions)
    titles: dict[Id, str] = {}
    categories: dict[Id, tuple[str, ...]] = {}
    if "items.parquet" in seal["files"]:
        items = pq.read_table(home / "items.parquet").to_pydict()
        titles = {item: title for item, title in zip(items["id"], items.get("title", ()), strict=False) if title}
        named = zip(items["id"], items.get("category", ()), strict=False)
        categories = {item: tuple(names.split("|")) for item, names in named if names}
    return RawData(parts, titles, categories, (parts[0], parts[1]) if which.split else None)


def _seal(home: Path) -> dict[str, Any] | None:
    """What a prepared set says of itself, its files checked; None where there is none. Raises StorageError."""
    if not (home / SEAL).exists():
        return None
    seal = read_sealed(home / SEAL)
    if seal.get("preparation") != PREPARATION:
        raise StorageError(f"{home / SEAL}: of preparation {seal.get('preparation')}; expected {PREPARATION}")
    for name, digest in seal["files"].items():
        check_digest(home / name, digest)
    return seal


def _usable(home: Path) -> dict[str, Any] | None:
    """The same; None too where the set is damaged or of another preparation, and is to be made again."""
    try:
        return _seal(home)
    except StorageError:
        return None


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """One process at a time in a set's folder; the lock goes with the process that holds it."""
    (home / "source").mkdir(parents=True, exist_ok=True)
    with (home / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StorageError(f"{home}: another process is fetching this set; expected to be alone") from None
        yield


def _downloaded(which: PublicSet, source: Path, downloader: Downloader, progress: Progress) -> list[Checked]:
    """The set's files in `source`, each fetched unless it is there and right."""
    checked = []
    for file in which.files:
        path = source / file.name
        if path.exists():
            try:
                checked.append(_check(file, path, source))
                continue
            except DataError:
                path.replace(_aside(path))
        arrived = downloader.download(file, source, which.largest, progress)
        try:
            checked.append(_check(file, arrived, source))
        except DataError as error:
            arrived.replace(_aside(path))
            raise FetchError(f"{file.url}: {error}; what came is kept as {_aside(path)} and not used") from None
        arrived.replace(path)
    return checked


def _taken(which: PublicSet, home: Path, given: Path) -> tuple[Bundle, list[Checked]]:
    """The set's files in what the user has, by their digests wherever it is the published file itself."""
    bundle = open_bundle(given.expanduser(), FORMATS[which.family].names, which.largest)
    if which.files[0].archive:
        if bundle.zipped:
            return bundle, [_check(which.files[0], bundle.place, home / "source")]
        return bundle, [Checked(str(given), "", "counts alone")]
    checked = []
    for file in which.files:
        if file.name in bundle:
            with bundle.open(file.name) as stream:
                checked.append(_check_stream(file, stream, f"{given}, {file.name}", home / "source"))
    return bundle, checked


def _aside(path: Path) -> Path:
    return path.with_name(f"{path.name}.refused")


def _check(file: File, path: Path, source: Path) -> Checked:
    """A file against what was published. Raises DataError: a web page, another size, another digest."""
    with path.open("rb") as stream:
        begin = stream.read(64)
        if file.archive and not begin.startswith(MAGIC):
            raise DataError(f"{path}: begins with {begin[:24]!r}; expected a zip")
        size = path.stat().st_size
        if file.size is not None and size != file.size:
            raise DataError(f"{path}: has {size:,} bytes; expected {file.size:,}")
        stream.seek(0)
        return _check_stream(file, stream, str(path), source)


def _check_stream(file: File, stream: BinaryIO, place: str, source: Path) -> Checked:
    """Against the published digests; where there are none, against the sha256 of the first file that came, kept in `source`."""
    sums = {"sha256": hashlib.sha256(), "md5": hashlib.md5(usedforsecurity=False)}
    while block := stream.read(2**20):
        for each in sums.values():
            each.update(block)
    found = {name: each.hexdigest() for name, each in sums.items()}
    for digest in file.digests:
        kind, _, expected = digest.partition(":")
        if found[kind] != expected:
            raise DataError(f"{place}: {kind} {found[kind]}; expected {expected} ({file.vouched})")
    if file.digests:
        return Checked(file.name, found["sha256"], "published digest")
    record = source / f"{file.name}.sha256"
    if not record.exists():
        return Checked(file.name, found["sha256"], FIRST)
    first = record.read_text("utf-8").split()[:1]
    if first != [found["sha256"]]:
        raise DataError(
            f"{place}: sha256 {found['sha256']}; expected {' '.join(first)}, that of the first one that came. No digest of "
            f"{file.name} is published; if you know that its home has replaced it, delete {record}"
        )
    return Checked(file.name, found["sha256"], "equal to the first to come")


def _prepare(which: PublicSet, home: Path, bundle: Bundle, checked: list[Checked]) -> dict[str, Any]:
    """Canonical files from the set's own. Raises DataError where they are not of its format, or of other counts."""
    layout = FORMATS[which.family]
    (home / SEAL).unlink(missing_ok=True)
    written = []
    for name, interactions in layout.interactions.items():
        written.append(_write(home / f"{name}.parquet", interactions.tables(bundle), f"{bundle.place}, {interactions.name}"))
    counts = _counts(written)
    if not which.changing and counts != which.counts:
        raise DataError(f"{bundle.place}: {counts}; expected {which.counts}")
    if layout.items is not None and layout.beside[0] in bundle:
        written.append(_write(home / "items.parquet", iter([layout.items(bundle)]), str(bundle.place)))
    if which.split and "user_list.txt" in bundle:
        written.append(_write(home / "users.parquet", iter([originals(bundle, "user_list.txt")]), str(bundle.place)))
    seal = {
        "preparation": PREPARATION,
        "name": which.name,
        "counts": vars(counts),
        "source": [vars(each) for each in checked],
        "files": {path.name: file_digest(path) for path in written},
    }
    for each in checked:
        if each.how == FIRST:
            (home / "source" / f"{each.name}.sha256").write_text(f"{each.sha256}  {each.name}\n", "utf-8")
    write_sealed(home / SEAL, seal)
    return seal


def _write(path: Path, tables: Iterator[pa.Table], place: str) -> Path:
    """Tables of one schema as one Parquet file, one at a time."""
    partial = path.with_name(f"{path.name}.partial")
    first = next(tables, None)
    if first is None:
        raise DataError(f"{place}: has no rows; expected interactions")
    with pq.ParquetWriter(partial, first.schema, compression="zstd") as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)
    partial.replace(path)
    return path


def _counts(files: list[Path]) -> Counts:
    names = ", ".join(literal(file) for file in files)
    with connection(MEMORY) as con:
        query = f"select count(distinct user_id), count(distinct item_id), count(*) from read_parquet([{names}])"
        return Counts(*one_row(con, query))
