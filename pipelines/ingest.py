"""Source -> clean log -> Dataset -> Split."""

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.config import ItemsSection, RunConfig, SplitSection
from recsys_ae import datasets, log
from recsys_ae.dataset import Dataset
from recsys_ae.errors import ConfigError
from recsys_ae.ids import Id, IdKind, parse_id
from recsys_ae.log import InteractionLog
from recsys_ae.preprocessing import Preprocessing
from recsys_ae.split import Split, by_time_windows, given, item_hold_out, leave_last_out, strong_generalization

Titles = dict[Id, str]
Categories = dict[Id, tuple[str, ...]]


@dataclass(frozen=True)
class Source:
    """A clean log with what is known of its items."""

    log: InteractionLog
    titles: Titles
    categories: Categories

    @property
    def counts(self) -> dict[str, Any]:
        """Rows read, kept, and dropped by cause."""
        return {"read": self.log.read, "kept": self.log.kept, "dropped": self.log.dropped}


def clean_source(config: RunConfig) -> Source:
    """The clean log of `[log]`, with titles of `[items]` or of the data set itself."""
    section = config.log
    if section.dataset is not None:
        raw = datasets.load(section.dataset)
        found = InteractionLog.from_table(raw.events, cleaning=section.cleaning)
        titles, categories = raw.titles, raw.categories
    elif section.path is not None:
        found = log.read_log(section.path, section.columns, section.cleaning, ids=section.ids)
        titles, categories = {}, {}
    else:
        raise ConfigError('[log] has neither path nor dataset; expected path = "FILE" or dataset = "NAME"')
    if config.items.path:
        titles, categories = read_items(config.items, log.id_kind(found, "item_id"))
    return Source(found, titles, categories)


def read_items(section: ItemsSection, kind: IdKind) -> tuple[Titles, Categories]:
    """Titles and categories by item id. Ids are of the log's kind. Raises LogError."""
    assert section.path is not None
    wanted = {"id": section.id, "title": section.title, "category": section.category}
    rows = log.read_columns(section.path, {role: name for role, name in wanted.items() if name})
    titles: Titles = {}
    categories: Categories = {}
    for row in rows:
        text = row["id"]
        if text is None:
            continue
        item = parse_id(text, kind)
        if row.get("title"):
            titles[item] = str(row["title"])
        if row.get("category"):
            categories[item] = tuple(part.strip() for part in str(row["category"]).split("|") if part.strip())
    return titles, categories


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
        return [split], counts
    source = clean_source(config)
    return _split(dataset(config, source), config.split, config.seed), source.counts


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
    assert section.train and section.test
    sides = {}
    titles: Titles = {}
    categories: Categories = {}
    for side, path in (("train", section.train), ("test", section.test)):
        cleaning = log.Cleaning(Preprocessing(min_weight=config.log.min_weight))
        sides[side] = log.read_log(path, config.log.columns, cleaning, ids=config.log.ids)
    if config.items.path:
        titles, categories = read_items(config.items, log.id_kind(sides["train"], "item_id"))
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
        "dropped": {c: sum(s.dropped[c] for s in sides.values()) for c in sides["train"].dropped if c in sides["test"].dropped},
    }
    return made, counts


def _seconds(moment: datetime.datetime | datetime.date | int | None) -> int | None:
    """A TOML time as seconds since 1970; without a zone it is UTC."""
    if moment is None or isinstance(moment, int):
        return moment
    if not isinstance(moment, datetime.datetime):
        moment = datetime.datetime(moment.year, moment.month, moment.day)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp())


def write_clean_log(config: RunConfig) -> tuple[Source, Path]:
    """Clean the log and keep it in the run folder."""
    source = clean_source(config)
    path = config.run.folder / "log.parquet"
    source.log.write(path)
    return source, path
