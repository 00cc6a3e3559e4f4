"""Source -> clean log -> Dataset -> Split."""

import datetime
import glob
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipelines.config import Paths, RunConfig, SplitSection
from pipelines.items import Categories, Titles, read_items
from pipelines.latent.placing import require_content, with_items_placed
from pipelines.paths import cluster_paths, local_paths, naming_objects
from pipelines.stored import store_events
from recsys_ae import datasets, log, sql
from recsys_ae.batches import parquet_files
from recsys_ae.cleaning import Cleaning
from recsys_ae.dataset import Dataset
from recsys_ae.errors import ConfigError
from recsys_ae.increments import EventSource, refresh
from recsys_ae.log import InteractionLog
from recsys_ae.sealed import file_digest
from recsys_ae.split import Split, by_time_windows, given, item_hold_out, leave_last_out, strong_generalization
from recsys_ae.staging import Columns


@dataclass(frozen=True)
class Source:
    """A clean log with what is known of its items, and what of its database was read for it."""

    log: InteractionLog
    titles: Titles
    categories: Categories
    facts: dict[str, Any] = field(default_factory=dict)


def clean_source(config: RunConfig, anew: bool = False) -> Source:
    """The clean log of `[log]`, kept in the run folder, with titles of `[items]` or of the data set itself.

    anew: of a database all is read, not only what is new.
    """
    section = config.log
    if section.dataset is None:
        files = source_files(config, anew)
        return replace(described(config, clean_files(config, files.paths)), facts=files.facts)
    raw = datasets.load(section.dataset, section.data_folder)
    found = raw.clean(section.cleaning, into=log_of(config), memory_limit=section.memory_limit)
    return described(config, found, raw.titles, raw.categories)


def described(
    config: RunConfig, found: InteractionLog, titles: Titles | None = None, categories: Categories | None = None
) -> Source:
    """A clean log with what `[items]` says, if it is set, else with what is known otherwise."""
    if config.items.path:
        titles, categories = read_items(config, log.id_kind(found, "item_id"))
    return Source(found, titles or {}, categories or {})


@dataclass(frozen=True)
class SourceFiles:
    """What a log is read from: files of this machine, or URLs of objects that the nodes of a cluster fetch; of a database,
    what was read of it for that."""

    paths: list[str]
    facts: dict[str, Any]


def source_files(config: RunConfig, anew: bool = False) -> SourceFiles:
    """The files of `[log]`; of a database those that hold its rows, in the run folder. `anew`: all of its rows are read."""
    section = config.log
    if section.path is not None:
        paths = cluster_paths(section.path) if config.cluster.engine == "ray" else local_paths(config, section.path)
        return SourceFiles(paths, {})
    if section.source == "store":
        stored = store_events(config)
        found = _refreshed(config, stored.source, anew)
        return replace(found, facts=found.facts | ({"foreign_items": stored.foreign} if stored.foreign else {}))
    if section.url is None:
        raise ConfigError('[log] has no source; expected path = "FILE", url = "DATABASE" with a query, or dataset = "NAME"')
    url, folder = section.url.get_secret_value(), config.run.folder
    if section.event_id is None or section.since is None:
        path = folder / "extract.parquet"
        rows = sql.extract(url, path, query=section.query, table=section.table)
        return SourceFiles([glob.escape(str(path))], {"rows": rows, "read": rows})
    query = sql.select(query=section.query, table=section.table)
    source = EventSource(url, query, section.event_id, section.since, section.since_overlap)
    return _refreshed(config, source, anew)


def _refreshed(config: RunConfig, source: EventSource, anew: bool) -> SourceFiles:
    events = refresh(source, config.run.folder / "source", anew=anew, memory_limit=config.log.memory_limit)
    facts = {"rows": events.rows, "read": events.read, "whole": events.whole}
    return SourceFiles([glob.escape(str(events.path))], facts)


def clean_files(config: RunConfig, paths: list[str]) -> InteractionLog:
    """The files as a clean log in the run folder: one file, or of a Ray cluster a folder of parts."""
    section, cluster, into = config.log, config.cluster, log_of(config)
    with naming_objects(config):
        if cluster.engine == "ray":
            from recsys_ae.cluster.ingest import read_log_on_ray

            return read_log_on_ray(
                paths,
                section.columns,
                section.cleaning,
                into=into,
                ids=section.ids,
                address=cluster.address,
                memory_limit=section.memory_limit,
                storage=config.storage,
            )
        return log.read_log(
            paths, section.columns, section.cleaning, ids=section.ids, into=into, memory_limit=section.memory_limit
        )


def log_digest(path: Path) -> dict[str, Any]:
    """Of a clean log as it is kept, by file."""
    return {file.name: file_digest(file) for file in parquet_files(path)} if path.exists() else {}


def log_of(config: RunConfig) -> Path:
    """Where the clean log is kept."""
    return config.run.folder / "log.parquet"


def dataset(config: RunConfig, source: Source) -> Dataset:
    """The indexed data set."""
    return Dataset.from_log(source.log, config.log.preprocessing, source.titles, source.categories)


def split_dataset(config: RunConfig) -> tuple[Split, dict[str, Any]]:
    """The data set split as `[split]` says, the last window where there are several, and what cleaning did."""
    splits, counts = split_windows(config)
    return splits[-1], counts


def split_windows(config: RunConfig) -> tuple[list[Split], dict[str, Any]]:
    """One split, or one for each window of `[split]`, oldest first; and what cleaning did."""
    if config.split.kind == "given":
        split, counts = _given(config)
        require_content(config, split.refit)
        return [split], counts
    source = clean_source(config)
    return windows_of(config, source), source.log.counts


def windows_of(config: RunConfig, source: Source) -> list[Split]:
    """A clean log, split: one split, or one for each window, oldest first."""
    data = dataset(config, source)
    require_content(config, data)
    return [with_items_placed(config, split) for split in _split(data, config.split, config.seed)]


def _split(data: Dataset, section: SplitSection, seed: int) -> list[Split]:
    match section.kind:
        case "by_time":
            return by_time_windows(
                data,
                windows=section.windows,
                validation_from=_seconds(section.validation_from),
                test_from=_seconds(section.test_from),
                validation_fraction=section.validation_fraction,
                test_fraction=section.test_fraction,
            )
        case "leave_last_out":
            split = leave_last_out(data)
        case "item_hold_out":
            split = item_hold_out(
                data,
                seed=seed,
                validation_items=section.validation_items,
                test_items=section.test_items,
                salt=section.salt,
            )
        case _:
            split = strong_generalization(
                data,
                seed=seed,
                validation_users=section.validation_users,
                test_users=section.test_users,
                held_out_fraction=section.held_out_fraction,
                salt=section.salt,
            )
    return [split]


def _given(config: RunConfig) -> tuple[Split, dict[str, Any]]:
    """Two files as they are: no k-core, no repeats beyond folding."""
    section = config.split
    sides = {}
    paths, titles, categories = _given_files(config)
    rules = config.log.preprocessing
    # What a user is asked for is no history: robots and caps concern what a model sees.
    asked = rules.model_copy(update=dict.fromkeys(("max_user_events", "max_user_events_per_day", "max_history")))
    columns = config.log.columns if section.train else Columns()
    for side, path, rule in zip(("train", "test"), paths, (rules, asked), strict=True):
        local = local_paths(config, path)
        with naming_objects(config):
            sides[side] = log.read_log(
                local,
                columns,
                Cleaning(rule.model_copy(update={"max_item_idle_days": None})),
                ids=config.log.ids,
                into=config.run.folder / f"{side}.parquet",
                memory_limit=config.log.memory_limit,
            )
    if config.items.path:
        titles, categories = read_items(config, log.id_kind(sides["train"], "item_id"))
    train = Dataset.from_log(sides["train"], config.log.preprocessing, titles, categories)
    test = Dataset.from_log(sides["test"], train.preprocessing)
    made = given(
        train,
        test,
        seed=config.seed,
        validation_fraction=section.validation_fraction,
        refit=section.refit,
    )
    counts = {
        "read": sum(s.read for s in sides.values()),
        "kept": sum(s.kept for s in sides.values()),
        "dropped": {
            cause: sum(side.dropped.get(cause, 0) for side in sides.values())
            for cause in sides["train"].dropped | sides["test"].dropped
        },
    }
    return made, counts


def _given_files(config: RunConfig) -> tuple[tuple[Paths, Paths], Titles, Categories]:
    """The two files that `[split]` names, else those of a data set that comes divided, with its titles and categories."""
    if config.split.train and config.split.test:
        return (config.split.train, config.split.test), {}, {}
    assert config.log.dataset is not None
    raw = datasets.load(config.log.dataset, config.log.data_folder)
    assert raw.given is not None
    train, test = (glob.escape(str(path)) for path in raw.given)
    return (train, test), raw.titles, raw.categories


def _seconds(moment: datetime.datetime | datetime.date | int | None) -> int | None:
    """A TOML time as seconds since 1970; without a zone it is UTC."""
    if moment is None or isinstance(moment, int):
        return moment
    if not isinstance(moment, datetime.datetime):
        moment = datetime.datetime(moment.year, moment.month, moment.day)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp())
