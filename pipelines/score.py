"""score: the k best items of every stored user, by a saved model -> Parquet in parts. Goes on where it broke off."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.columns import id_array
from pipelines.config import RunConfig, ScoreSection
from pipelines.paths import local_paths, naming_objects
from recsys_ae import log
from recsys_ae.artifact import Artifact
from recsys_ae.errors import ArtifactError, TableError
from recsys_ae.ids import Id, IdMap, parse_id
from recsys_ae.ranking import rank_top_k
from recsys_ae.registry import Registry, StoredUsers
from recsys_ae.scratch import clear, held, remove_unless_held, sync, whole_file
from recsys_ae.sealed import check_digest, content_digest, file_digest, read_sealed, write_sealed

if TYPE_CHECKING:
    from pipelines.score_table import Loaded

POINTER, DONE = "scores.json", "_scores.json"
"""Beside the folders, for the last that was finished; in a folder, once all its parts are there (_: no part to a reader)."""
OURS = re.compile(r"^\d{8}T\d{6}\.\d{6}-.+-[0-9a-f]{8}$")
Told = Callable[[int, int], None]


@dataclass(frozen=True)
class Scored:
    """Where the lists of a version are, how many, how many of their parts were there already, and their table."""

    version: str
    folder: Path
    users: int
    rows: int
    parts: int
    resumed: int
    table: "Loaded | None" = None

    def as_json(self) -> dict[str, Any]:
        """As the command prints it."""
        return {
            "version": self.version,
            "folder": str(self.folder),
            "users": self.users,
            "rows": self.rows,
            "parts": self.parts,
            "resumed": self.resumed,
            "table": self.table and self.table.as_json(),
        }


@dataclass(frozen=True)
class Part:
    """A file of lists, and whose: the stored users from `start` up to, not including, `stop`."""

    path: Path
    start: int
    stop: int


def score(config: RunConfig, version: str | None = None, told: Told | None = None) -> Scored:
    """`PATH/VERSION-DIGEST/part-00000.parquet`, ...: user_id, rank, item_id, score; seen and excluded items left out.

    A part is written whole or not at all, and not again where it is there undamaged: the digest is that of k, parts and
    exclusions. At the end `PATH/scores.json` names the folder, so that a reader that starts there never sees half of the
    lists; the folder that it named before stays, older ones go, and those that were never finished. Then they are loaded into
    `[score] table`, where one is named. `told` is called with parts done and parts in all.
    """
    registry, section = Registry(config.registry.path), config.score
    artifact, stored = registry.load(version)
    name = registry.show(version)["version"]
    excluded = excluded_items(config, artifact.items)
    facts = {
        "version": name,
        "k": section.k,
        "users_per_file": section.users_per_file,
        "excluded": artifact.items.at(excluded),
    }
    folder = section.path / f"{name}-{content_digest(facts).partition(':')[2][:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    allow = np.ones(len(artifact.items), np.bool_)
    allow[excluded] = False
    parts = [
        Part(folder / f"part-{place:05}.parquet", start, start + section.users_per_file)
        for place, start in enumerate(range(0, len(stored.users), section.users_per_file))
    ]
    with held(folder):
        clear(folder)
        known = _digests(folder)
        there = {part: _rows_of(part.path, known.get(part.path.name)) for part in parts}
        missing = [part for part, rows in there.items() if rows is None]
        resumed = len(parts) - len(missing)
        if told and resumed:
            told(resumed, len(parts))
        for n, (part, written) in enumerate(_written(config, name, artifact, stored, missing, allow), resumed + 1):
            there[part] = written
            if told:
                told(n, len(parts))
        rows, files = sum(n or 0 for n in there.values()), {part.path.name: file_digest(part.path) for part in parts}
        done = Scored(name, folder, len(stored.users), rows, len(parts), resumed)
        counts = {"users": done.users, "rows": rows, "parts": done.parts}
        write_sealed(folder / DONE, facts | counts | {"files": files})
        _point(section.path, folder, facts | counts)
        return replace(done, table=_load(section, done)) if section.url else done


def _written(
    config: RunConfig, version: str, artifact: Artifact, stored: StoredUsers, parts: Sequence[Part], allow: NDArray[np.bool_]
) -> Iterator[tuple[Part, int]]:
    """Each part as it is done, with its rows; by a Ray cluster in any order."""
    k = config.score.k
    if config.cluster.engine == "ray" and parts:
        from pipelines.score_on_ray import written

        yield from written(config, version, parts, allow)
        return
    for part in parts:
        yield part, write_part(part, artifact, stored, k, allow)


def _load(section: ScoreSection, done: Scored) -> "Loaded":
    from pipelines.score_table import load  # its drivers are needed by few

    assert section.url and section.table
    parts = sorted(done.folder.glob("part-*.parquet"))
    return load(section.url.get_secret_value(), section.table, parts, done.version, done.folder.name)


def delivered(section: ScoreSection, folder: Path) -> bool:
    """Whether all the lists are in the folder, and in the table where one is named. Not where the database says nothing."""
    if not is_whole(folder):
        return False
    if section.url is None:
        return True
    from pipelines.score_table import holds

    assert section.table
    try:
        return holds(section.url.get_secret_value(), section.table, folder.name, read_sealed(folder / DONE)["rows"])
    except TableError:
        return False


def is_whole(folder: Path) -> bool:
    """Whether lists were finished, `scores.json` names them, and every byte of them is as written."""
    if _pointed(folder.parent) != folder.name:
        return False
    found = _digests(folder)
    try:
        for name, digest in found.items():
            check_digest(folder / name, digest)
    except ArtifactError:
        return False
    return bool(found)


def _digests(folder: Path) -> dict[str, Any]:
    """Of the parts of finished lists, by name; none where they are not finished, or what says so is damaged."""
    try:
        return dict(read_sealed(folder / DONE).get("files", {}))
    except ArtifactError:
        return {}


def _pointed(path: Path) -> str | None:
    """The folder that `scores.json` names; None where there is none yet, or it is damaged."""
    try:
        return str(read_sealed(path / POINTER)["folder"])
    except ArtifactError:
        return None


def _point(path: Path, folder: Path, facts: dict[str, Any]) -> None:
    """Name the folder in `scores.json`; folders other than this one and the one named before are removed, unless at work."""
    before = _pointed(path)
    write_sealed(path / POINTER, facts | {"folder": folder.name})
    sync(path)
    for old in path.iterdir():
        if OURS.match(old.name) and old.name not in (folder.name, before):
            remove_unless_held(old)


def rehearse(config: RunConfig) -> None:
    """What `score` would only find wrong at the end of the night: the file of excluded items, the driver of the database.

    Raises ConfigError or LogError. A database that is away now may be there then.
    """
    if config.score.exclude is not None:
        _excluded(config)
    if config.score.url is not None and config.score.table is not None:
        from pipelines.score_table import reach

        with suppress(TableError):
            reach(config.score.url.get_secret_value(), config.score.table)


def excluded_items(config: RunConfig, items: IdMap) -> NDArray[np.int64]:
    """Columns of the items that nobody is to be shown; ids that the model does not have cannot be shown anyway."""
    if config.score.exclude is None:
        return np.empty(0, np.int64)
    found: list[Id] = [parse_id(text, items.kind) for text in _excluded(config)]
    columns = np.unique(items.positions(found))
    return columns[columns >= 0]


def _excluded(config: RunConfig) -> list[str]:
    """Ids as the file has them."""
    assert config.score.exclude is not None
    paths = local_paths(config, config.score.exclude)
    with naming_objects(config):
        return [row["id"] for row in log.read_columns(paths, {"id": "item_id"}) if row["id"] is not None]


def _rows_of(path: Path, digest: Mapping[str, Any] | None) -> int | None:
    """Rows of an undamaged part; None where there is none. Without a digest its pages' checksums are what is looked at."""
    try:
        if digest is not None:
            check_digest(path, digest)
            return int(pq.read_metadata(path).num_rows)
        return int(pq.read_table(path, page_checksum_verification=True).num_rows)
    except (ArtifactError, OSError, pa.ArrowException):
        return None


def write_part(part: Part, artifact: Artifact, stored: StoredUsers, k: int, allow: NDArray[np.bool_]) -> int:
    """One block of users; how many rows."""
    block = slice(part.start, part.stop)
    ranking = rank_top_k(artifact.model, stored.histories.take(block), k, allow=allow)
    filled = ranking.items >= 0
    users = stored.users.ids[block]
    own = np.repeat(np.arange(len(users)), filled.sum(1))
    table = pa.table(
        {
            "user_id": id_array(users).take(pa.array(own)),
            "rank": pa.array(np.broadcast_to(np.arange(1, k + 1, dtype=np.int32), filled.shape)[filled]),
            "item_id": id_array(artifact.items.ids).take(pa.array(ranking.items[filled].astype(np.int64))),
            "score": pa.array(ranking.scores[filled]),
        }
    )
    with whole_file(part.path) as partial:
        pq.write_table(table, partial, compression="zstd", write_page_checksum=True)
    return table.num_rows
