"""Objects of a store (s3:// and whatever else fsspec has a driver for) as files: fetched whole, and only if changed."""

import glob
import os
import re
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from recsys_ae.errors import ArtifactError, ConfigError, InputError, LogError, RecsysError
from recsys_ae.scratch import alone, sync, writing
from recsys_ae.sealed import content_digest, read_sealed, write_sealed
from recsys_ae.urls import without_passwords

URL = re.compile(r"(?P<protocol>[A-Za-z][A-Za-z0-9+.-]+)://(?P<rest>.*)", re.DOTALL)
PASSWORD = re.compile(r"(?!arn:)[^:/@]*:(?!\d+(/|$))[^@]*@")  # as in key:secret@bucket; no host:port, no access point
SECRET = re.compile(
    r"secret|passw|(^|_)(access_key(_id)?|(account_)?key|\w*token|credentials?|connection_string)$", re.IGNORECASE
)
MODIFIED = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")
"""What drivers call the time of the last change."""
EXTRAS = {"s3": "s3", "s3a": "s3"}
"""The extra of this package that brings a protocol's driver."""
INDEX, LOCK, PARTIAL = "objects.json", "lock", ".partial-"
BLOCK = 8 * 2**20  # bytes of an object that are held at once, by each of the
WORKERS = 4  # downloads at a time
LONGEST_NAME = 60  # characters of a key that are kept in the file's name
SHORTEST_SECRET = 8

Options: TypeAlias = Mapping[str, Any]
"""A driver's own settings, as fsspec takes them."""


@dataclass(frozen=True)
class Object:
    """An object as its store lists it. `mark` holds what changes with its content: size, and ETag or else time of change."""

    path: str
    url: str
    mark: dict[str, Any]

    @property
    def tells_of_change(self) -> bool:
        """Whether the mark of another content is another: some stores tell the size alone."""
        return bool(self.mark.keys() & {"etag", "modified"})


def is_url(path: str) -> bool:
    """Whether a path names objects of a store; a file:// is a file of this machine."""
    found = URL.fullmatch(path)
    return found is not None and found["protocol"].lower() not in ("file", "local")


def plain(path: str) -> str:
    """A file:// as a path of this machine; all else as it stands."""
    return re.sub(r"^(file|local)://", "", path, flags=re.IGNORECASE)


def options_of(storage: Mapping[str, Options], url: str) -> Options:
    """What the driver of a URL is given, of settings by protocol."""
    return storage.get(url.partition("://")[0].lower(), {})


def check_url(url: str) -> None:
    """Raises ConfigError where a URL holds a secret, without telling it."""
    found = URL.fullmatch(url)
    if found is None:
        return
    if PASSWORD.match(found["rest"]):
        raise ConfigError(
            f"{redacted(url)}: has a key or password in it; expected it in the environment "
            "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for s3)"
        )
    if found["protocol"].lower() in ("http", "https") and "?" in found["rest"]:
        bare = url.partition("?")[0]
        raise ConfigError(f"{bare}: has a query, as signed addresses do; expected an address without, which holds no secret")


def check_options(protocol: str, options: Options) -> None:
    """Raises ConfigError for a protocol that fsspec does not know, and where a setting is a secret, without telling it."""
    import fsspec

    if protocol not in fsspec.available_protocols():
        raise ConfigError(f"no kind of store is called {protocol!r}; expected the protocol of a URL, such as s3, gs or abfs")
    for name, value in options.items():
        if SECRET.search(name) or (isinstance(value, str) and "@" in value and redacted(value) != value):
            raise ConfigError(
                f"{protocol}.{name} is or has a secret; expected it in the environment, where the driver looks for it"
            )
        if isinstance(value, Mapping):
            check_options(protocol, value)


def redacted(text: str) -> str:
    """A text without passwords in addresses and without what the environment holds as a secret."""
    text = without_passwords(text)
    for name, value in os.environ.items():
        if SECRET.search(name) and len(value) >= SHORTEST_SECRET:
            text = text.replace(value, "***")
    return text


def fetch(url: str, folder: Path, options: Options | None = None) -> dict[str, Path]:
    """The objects of a URL or a glob (that of local files: `*`, `?`, `[...]` within one level) as files of the folder.

    By URL, in the order of their names. A file has the object's suffixes and is whole or not there; it is fetched again only
    where the store says that the object changed. Files of objects that this URL named earlier and does not any more go.
    Memory: WORKERS blocks of BLOCK bytes, whatever the objects' size.

    Raises ConfigError where there is no driver or the URL holds a secret; LogError where the store cannot be reached, denies
    access, has no such object, or the object changes whenever it is read.
    """
    check_url(url)
    options = options or {}
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder / LOCK):
        objects, patterns = _known(folder)
        store, found = _listed(url, options)
        named = {_file_name(each.url, options): each for each in found}
        stale = {name: each for name, each in named.items() if not _there(folder / name, objects.get(name), each)}
        patterns[url] = list(named)
        kept = {name for names in patterns.values() for name in names}
        objects = {name: entry for name, entry in objects.items() if name in kept}
        objects |= {name: {"url": each.url, **each.mark} for name, each in named.items()}
        # First what is stale goes, then its new mark is written, then it is fetched: a file that is there has its mark.
        for path in list(folder.iterdir()):
            if path.name not in (INDEX, LOCK) and (path.name in stale or path.name not in kept):
                path.unlink()
        sync(folder)
        _save(folder, objects, patterns)
        _download_all(store, {folder / name: each for name, each in stale.items()})
    return {each.url: folder / name for name, each in named.items()}


def listed(url: str, options: Options | None = None) -> list[Object]:
    """The objects of a URL or a glob, in the order of their names; nothing is fetched. Raises as `fetch` does."""
    check_url(url)
    return _listed(url, options or {})[1]


def download(wanted: Object, folder: Path, options: Options | None = None) -> Path:
    """One object that was listed, here or elsewhere, as a whole file of the folder. Raises as `fetch` does."""
    options = options or {}
    path = folder / _file_name(wanted.url, options)
    _download(_driver(wanted.url, options), wanted, path, threading.Event())
    return path


def fetched(url: str, folder: Path) -> dict[str, Path]:
    """What `fetch` gave last; nothing is asked of the store."""
    objects, patterns = _known(folder)
    return {objects[name]["url"]: folder / name for name in patterns.get(url, ())}


@contextmanager
def naming(folder: Path) -> Iterator[None]:
    """Errors of reading the folder's files say the object's URL instead of the file."""
    try:
        yield
    except InputError as error:
        text = str(error)
        for name, entry in _known(folder)[0].items():
            text = text.replace(str(folder / name), entry["url"])
        raise type(error)(text) from None


# --- the store ------------------------------------------------------------------------------------------------------------


def _listed(url: str, options: Options) -> tuple[Any, list[Object]]:
    """The driver and the objects that a URL names, in the order of their names. Raises ConfigError or LogError."""
    protocol, store = url.partition("://")[0].lower(), _driver(url, options)
    path = store._strip_protocol(url)
    base, head = _told_apart(url.rstrip("/"), path)
    with _told(url):
        found = {each["name"]: each for each in _matches(store, path)}
        if not found and glob.has_magic(path):  # a name with a bracket in it is also a name
            found = {each["name"]: each for each in _one(store, path)}
        if not found:
            top = path.lstrip("/").partition("/")[0]
            if "://" not in path and not glob.has_magic(top) and not store.exists(top):
                raise LogError(f"{url}: {top!r} does not exist, or is closed to these credentials; expected a bucket or folder")
            raise LogError(f"{url}: matches no object; expected a URL or a glob that matches at least one")
    urls = {name: base + name.removeprefix(head) if name.startswith(head) else f"{protocol}://{name}" for name in found}
    return store, [Object(name, urls[name], _mark(found[name])) for name in sorted(found)]


def _driver(url: str, options: Options) -> Any:
    """The file system of a URL; no instance or listing is kept from before: the environment or the store may have changed."""
    import fsspec

    protocol = url.partition("://")[0].lower()
    try:
        driver = fsspec.get_filesystem_class(protocol)
        settings = {**driver._get_kwargs_from_urls(url), **options}
        return driver(**settings, skip_instance_cache=True, use_listings_cache=False)
    except ImportError as error:
        extra = EXTRAS.get(protocol)
        how = f"pip install 'recsys-ae[{extra}]'" if extra else str(error)
        raise ConfigError(f"{url}: no driver for {protocol}:// is installed; expected one: {how}") from None
    except Exception as error:  # drivers raise what they like
        raise ConfigError(f"{url}: {_said(error)}; expected a URL that an installed driver of fsspec reads") from None


def _told_apart(url: str, path: str) -> tuple[str, str]:
    """What each has before the end that they share: a URL may have a protocol and a host that the driver's path has not."""
    pairs = zip(reversed(url), reversed(path), strict=False)
    shared = next((place for place, (one, other) in enumerate(pairs) if one != other), min(len(url), len(path)))
    return url[: len(url) - shared], path[: len(path) - shared]


def _matches(store: Any, path: str) -> Iterator[dict[str, Any]]:
    """Level by level and not by the driver's own glob, which leaves out what it fails to list."""
    if not glob.has_magic(path):
        yield from _one(store, path)
        return
    parts = path.split("/")
    first = next(place for place, part in enumerate(parts) if glob.has_magic(part))
    yield from _below(store, "/".join(parts[:first]), parts[first:])


def _below(store: Any, folder: str, parts: list[str]) -> Iterator[dict[str, Any]]:
    part, rest = parts[0], parts[1:]
    if not glob.has_magic(part):
        path = f"{folder}/{part}"
        yield from _below(store, path, rest) if rest else _one(store, path)
        return
    try:
        entries = store.ls(folder, detail=True)
    except FileNotFoundError:
        return
    for entry in entries:
        name = entry["name"].rstrip("/").rpartition("/")[2]
        hidden = name.startswith(".") and not part.startswith(".")
        if hidden or not fnmatchcase(name, part):
            continue
        if rest and entry["type"] == "directory":
            yield from _below(store, entry["name"].rstrip("/"), rest)
        elif not rest and _is_object(entry):
            yield entry


def _one(store: Any, path: str) -> Iterator[dict[str, Any]]:
    try:
        entry = store.info(path)
    except FileNotFoundError:
        return
    if _is_object(entry):
        yield {**entry, "name": path}


def _is_object(entry: Mapping[str, Any]) -> bool:
    """Not a folder, nor the empty object that stands for one."""
    return entry["type"] != "directory" and not entry["name"].endswith("/")


def _mark(entry: Mapping[str, Any]) -> dict[str, Any]:
    etag = entry.get("ETag") or entry.get("etag")
    if etag:
        return {"size": entry.get("size"), "etag": str(etag).removeprefix("W/").strip('"')}
    modified = next((entry[name] for name in MODIFIED if entry.get(name)), None)
    if isinstance(modified, datetime):
        modified = modified.timestamp()
    return {"size": entry.get("size")} | ({"modified": str(modified)} if modified else {})


def _download_all(store: Any, wanted: Mapping[Path, Object]) -> None:
    """A few at a time; the first that fails, in the order of names, ends all."""
    stop = threading.Event()
    with ThreadPoolExecutor(WORKERS, "objects") as pool:
        begun = [pool.submit(_download, store, each, path, stop) for path, each in wanted.items()]
        try:
            for download in begun:
                download.result()
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise


def _download(store: Any, wanted: Object, path: Path, stop: threading.Event) -> None:
    """One object into one file, all of one version: it is afterwards what it was before. Raises LogError, WriteError."""
    partial = path.with_name(PARTIAL + path.name)
    with _told(wanted.url):
        before = _mark(store.info(wanted.path))
        for _ in range(2):
            failed: Exception | None = None
            try:
                size = _stream(store, wanted.path, partial, stop)
            except Exception as error:  # a driver may have seen the change itself
                failed = error
            if stop.is_set():
                return
            after = _mark(store.info(wanted.path))
            if after == before and failed is not None:
                raise failed
            if after == before and before["size"] in (None, size):
                sync(partial)
                partial.replace(path)
                sync(path.parent)
                return
            before = after
        raise LogError(f"{wanted.url}: changed while it was read, or was cut, twice; expected an object that stands still")


def _stream(store: Any, path: str, into: Path, stop: threading.Event) -> int:
    """Bytes copied. s3fs asks for each block on condition of the ETag that it met first."""
    size = 0
    with store.open(path, "rb", block_size=BLOCK, cache_type="none") as source, into.open("wb", buffering=0) as file:
        while not stop.is_set() and (block := source.read(BLOCK)):
            size += len(block)
            with writing(into):  # it is this machine's disk that is full, not the store's
                while block:
                    block = block[file.write(block) :]
    return size


@contextmanager
def _told(url: str) -> Iterator[None]:
    """A driver's error as ours: one line, no secret."""
    try:
        yield
    except RecsysError:
        raise
    except FileNotFoundError:
        raise LogError(f"{url}: does not exist, or not any more; expected an object that stays while it is read") from None
    except Exception as error:  # drivers raise what they like
        if isinstance(error, PermissionError) or "Credentials" in type(error).__name__:
            raise LogError(f"{url}: access denied ({_said(error)}); expected credentials that may list and read it") from None
        raise LogError(f"{url}: cannot be read ({_said(error)}); expected a store that answers") from None


def _said(error: Exception) -> str:
    lines = redacted(str(error)).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


# --- the folder -----------------------------------------------------------------------------------------------------------


def _file_name(url: str, options: Options) -> str:
    """One name for one object of one store, safe whatever its key holds, with the suffixes that tell the format."""
    key = PurePosixPath(url).name
    suffix = re.search(r"(\.[A-Za-z0-9]{1,16}){0,2}$", key)
    assert suffix is not None
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", key[: suffix.start()])[:LONGEST_NAME]
    digest = content_digest({"url": url, "options": repr(options) if options else ""}).partition(":")[2][:24]
    return f"{stem or 'object'}-{digest}{suffix[0]}"


def _there(path: Path, known: Mapping[str, Any] | None, found: Object) -> bool:
    """Whether the file is what the object is now. A store that tells neither ETag nor time cannot say so."""
    if known is None or not path.is_file() or not found.tells_of_change:
        return False
    mark = {name: value for name, value in known.items() if name != "url"}
    return mark == found.mark and path.stat().st_size == found.mark["size"]


def _known(folder: Path) -> tuple[dict[str, dict[str, Any]], dict[str, list[str]]]:
    """Objects by file name, file names by the URL that named them; nothing where the record is missing or damaged."""
    try:
        content = read_sealed(folder / INDEX)
    except ArtifactError:
        return {}, {}
    return content["objects"], content["patterns"]


def _save(folder: Path, objects: Mapping[str, Any], patterns: Mapping[str, Any]) -> None:
    write_sealed(folder / INDEX, {"objects": objects, "patterns": patterns})
    sync(folder)
