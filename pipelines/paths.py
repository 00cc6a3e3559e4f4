"""The paths of a configuration as files of this machine: objects of URLs are fetched into the run folder first."""

import glob
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from pipelines.config import RunConfig
from recsys_ae import objects
from recsys_ae.sealed import file_digest
from recsys_ae.sources import matched


def local_paths(config: RunConfig, path: str | Sequence[str]) -> list[str]:
    """Names and globs of files; those of a URL are fetched, in the order of its names. Raises ConfigError, LogError."""
    found: list[str] = []
    for pattern in _patterns(path):
        if objects.is_url(pattern):
            files = objects.fetch(pattern, cache_of(config), objects.options_of(config.storage, pattern)).values()
            found += [glob.escape(str(file)) for file in files]
        else:
            found.append(objects.plain(pattern))
    return found


def cluster_paths(path: str | Sequence[str]) -> list[str]:
    """Names, globs and URLs, for nodes that fetch objects by themselves."""
    return [objects.plain(pattern) for pattern in _patterns(path)]


def naming_objects(config: RunConfig) -> AbstractContextManager[None]:
    """What is wrong with a file that `local_paths` fetched is said of its URL."""
    return objects.naming(cache_of(config))


def digests(config: RunConfig, path: str | Sequence[str]) -> dict[str, Any]:
    """Size and sha256 of the files that `local_paths` found last, by path or URL."""
    found: dict[str, Path] = {}
    for pattern in _patterns(path):
        if objects.is_url(pattern):
            found |= objects.fetched(pattern, cache_of(config))
        else:
            found |= {str(file): file for file in matched(objects.plain(pattern)) if file.exists()}
    return {name: file_digest(file) for name, file in found.items()}


def source_digests(config: RunConfig, paths: Sequence[str]) -> dict[str, Any]:
    """Size and sha256 of files, by path; of objects that others fetch what their store says of them, by URL."""
    found = digests(config, [path for path in paths if not objects.is_url(path)])
    for url in filter(objects.is_url, paths):
        for each in objects.listed(url, objects.options_of(config.storage, url)):
            found[each.url] = each.mark if each.tells_of_change else each.mark | {"listed": time.time()}
    return found


def cache_of(config: RunConfig) -> Path:
    """Where objects are kept from one run to the next."""
    return config.run.folder / "objects"


def _patterns(path: str | Sequence[str]) -> Sequence[str]:
    return [path] if isinstance(path, str) else path
