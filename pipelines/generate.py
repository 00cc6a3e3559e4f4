"""A generated world as files: the log, its items, and the planted truth."""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from recsys_ae.datasets.generator import GeneratorConfig, World, generate, preset
from recsys_ae.errors import ConfigError
from recsys_ae.sources import connection, file_format, literal

COMPRESSION = {".gz": "gzip", ".zst": "zstd"}


def configured(name: str, sizes: Mapping[str, int | None], settings: Iterable[str]) -> GeneratorConfig:
    """A preset with sizes (n_users, n_items, n_interactions, seed; None leaves the preset's) and settings `key=value`.

    Raises ConfigError.
    """
    changes: dict[str, Any] = {key: value for key, value in sizes.items() if value is not None}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set {setting}: expected KEY=VALUE")
        changes[key.strip()] = _value(text.strip())
    if (interactions := changes.pop("n_interactions", None)) is not None:
        changes["mean_length"] = interactions / (changes.get("n_users") or preset(name).n_users)
    return preset(name, **changes)


def _value(text: str) -> Any:
    """A value as TOML has it; `none`; anything else is a text."""
    if text == "none":
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def write_world(config: GeneratorConfig, log: Path, items: Path | None, truth: Path | None) -> dict[str, Any]:
    """Generate and write what is asked for; returns what was written. Raises ConfigError or LogError for an unfit path."""
    paths = [path for path in (log, items, truth) if path is not None]
    if len(set(paths)) < len(paths):
        raise ConfigError(f"{', '.join(map(str, paths))}: the same file twice; expected one for each")
    if truth is not None and file_format(truth) != "parquet":
        raise ConfigError(f"{truth}: the truth has lists; expected a Parquet file")
    for path in paths:  # before anything is generated
        file_format(path)
    for path in paths:
        if path.is_dir():
            raise ConfigError(f"{path}: is a folder; expected a file to write")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written ({error.strerror})") from None
    world = generate(config)
    tables = {log: world.log}
    if items is not None:
        tables[items] = items_table(world)
    if truth is not None:
        tables[truth] = truth_table(config, world)
    for path, table in tables.items():
        write_table(table, path)
    return {
        "users": len(world.truth.attack),
        "items": config.n_items,
        "interactions": world.log.num_rows,
        "noise": int(world.events.is_noise.sum()),
        "attackers": int((world.truth.attack >= 0).sum()),
        "seed": config.seed,
        "written": [str(path) for path in tables],
    }


def items_table(world: World) -> pa.Table:
    """item_id, title, category (separated by |)."""
    titles, categories = world.titles, world.categories
    return pa.table(
        {
            "item_id": list(titles),
            "title": list(titles.values()),
            "category": ["|".join(categories[item]) for item in titles],
        }
    )


def truth_table(config: GeneratorConfig, world: World) -> pa.Table:
    """One row a user: user_id, attack (null: genuine), targets, tastes, their shares, late_tastes, noise (item ids)."""
    events, truth, latent = world.events, world.truth, world.truth.latent
    ids = pa.array(list(world.titles))
    row = np.full(len(truth.attack), -1)  # of `latent`
    row[truth.genuine] = np.arange(len(truth.genuine))
    places: list[int | None] = [place if place >= 0 else None for place in row.tolist()]
    attacks = truth.attack.tolist()
    noise = np.bincount(events.users[events.is_noise], minlength=len(row))
    named = [[f"taste {t + 1}" for t in tastes] for tastes in latent.tastes.tolist()]
    late = [[f"taste {t + 1}" for t in tastes] for tastes in latent.late_tastes.tolist()]
    targets = [ids.take(pa.array(aims)).to_pylist() for aims in truth.targets]
    shares = latent.shares.tolist()
    return pa.table(
        {
            "user_id": world.log["user_id"].take(pa.array(np.flatnonzero(np.diff(events.users, prepend=-1)))),
            "attack": pa.array([None if n < 0 else config.attacks[n].kind for n in attacks], pa.string()),
            "targets": pa.array([[] if n < 0 else targets[n] for n in attacks], pa.list_(ids.type)),
            "tastes": pa.array([[] if p is None else named[p] for p in places], pa.list_(pa.string())),
            "shares": pa.array([[] if p is None else shares[p] for p in places], pa.list_(pa.float64())),
            "late_tastes": pa.array([[] if p is None else late[p] for p in places], pa.list_(pa.string())),
            "noise": pa.ListArray.from_arrays(
                pa.array(np.concatenate([[0], np.cumsum(noise)]).astype(np.int32)),
                ids.take(pa.array(events.items[events.is_noise])),
            ),
        }
    )


def write_table(table: pa.Table, path: Path) -> None:
    """As the suffix says: CSV, TSV, JSON lines or Parquet, plain, gzip or zstd; whole or not at all."""
    kind = file_format(path)
    options = [f"format {kind}", f"compression {COMPRESSION.get(path.suffix, 'zstd' if kind == 'parquet' else 'none')}"]
    if kind == "csv":
        options += ["header true", f"delimiter {literal(chr(9) if '.tsv' in path.suffixes else ',')}"]
    partial = path.with_name(path.name + ".partial")
    with connection() as con:
        con.register("written", table)
        try:
            con.execute(f"copy (select * from written) to {literal(partial)} ({', '.join(options)})")
        except duckdb.IOException as error:
            partial.unlink(missing_ok=True)
            raise ConfigError(f"{path}: cannot be written ({error})") from None
    partial.replace(path)
