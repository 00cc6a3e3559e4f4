"""content fit: items that nobody has met are placed by what is known of them, in a version of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.config import ItemsSection, RunConfig
from pipelines.ingest import Categories, Titles, items_of, read_items
from pipelines.latent.opening import opened, write_table
from pipelines.latent.pictures import ItemImages, read_images
from recsys_ae.artifact import Artifact
from recsys_ae.errors import ConfigError
from recsys_ae.ids import Id, IdMap
from recsys_ae.latent.content import Extended, extend
from recsys_ae.latent.features import WORDS, ItemFeatures, bag_of_words, beside, words_of
from recsys_ae.latent.images import fit_images
from recsys_ae.registry import Registry, StoredUsers
from recsys_ae.sources import FileSource, connection, matched


@dataclass(frozen=True)
class Done:
    """What `content fit` made: a version, of which, and what of the images could not be read."""

    version: str
    of: str
    extended: Extended
    promoted: bool
    features: int
    skipped: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        named = {"version": self.version, "of": self.of, "current": self.promoted, "features": self.features}
        return named | self.extended.facts() | {"cold": list(self.extended.cold), "skipped": self.skipped}


def fit(
    registry: Path,
    version: str | None,
    *,
    images: Path | None = None,
    table: ItemsSection | None = None,
    words: int = WORDS,
    seed: int = 0,
    promote: bool = False,
    out: Path | None = None,
) -> Done:
    """Extend a version by the cold items of a folder of images, of a table, or of both; `out` is given the features used.

    Raises ConfigError where there is neither or nothing is cold.
    """
    begun = opened(registry, version)
    artifact = begun.artifact
    titles, categories = ({}, {}) if table is None else _described(artifact, table)
    pictures = None if images is None else read_images(images, artifact.items.kind)
    features = item_features(titles, categories, pictures, words, seed)
    found = extend(artifact, features, titles, categories)
    if not found.cold:
        raise ConfigError(
            f"all {len(features.items)} items with features have users in version {begun.version}; "
            "expected items that nobody has met"
        )
    found.artifact.manifest["content"]["of"] = begun.version
    versions = Registry(registry)
    about, stored = versions.show(begun.version), _over(begun.stored, found.artifact.items)
    made = versions.publish(found.artifact, about["model"], stored, about["metrics"], versions.twin(begun.version))
    if promote:
        versions.promote(made)
    if out is not None:
        write_table(out, _table(features, found))
    skipped = {} if pictures is None else pictures.skipped
    return Done(made, begun.version, found, promote, features.values.shape[1], skipped)


def with_cold_items(config: RunConfig, artifact: Artifact, stored: StoredUsers) -> tuple[Artifact, StoredUsers]:
    """A version about to be published with the cold items that `[content]` asks for; as it is where it asks for none."""
    section = config.content
    if section is None:
        return artifact, stored
    kind = artifact.items.kind
    titles, categories = read_items(config, kind) if config.items.path is not None else ({}, {})
    pictures = None if section.images is None else read_images(section.images, kind)
    features = item_features(
        titles if section.titles else {}, categories if section.categories else {}, pictures, section.words, config.seed
    )
    found = extend(artifact, features, titles, categories)
    return found.artifact, _over(stored, found.artifact.items)


def item_features(
    titles: Mapping[Id, str], categories: Mapping[Id, tuple[str, ...]], images: ItemImages | None, words: int, seed: int
) -> ItemFeatures:
    """Words of titles, categories and codes of images, beside one another. Raises ConfigError where there are none."""
    kinds = []
    if titles:
        kinds.append(bag_of_words({id_: words_of(title) for id_, title in titles.items()}, words))
    if categories:
        kinds.append(bag_of_words(categories, words))
    if images is not None:
        kinds.append(ItemFeatures(images.items, fit_images(images.pixels, seed=seed).encode(images.pixels)))
    if not kinds:
        raise ConfigError("no titles, categories or images to place items by; expected at least one of them")
    return beside(kinds)


def columns_of(path: Path) -> list[str]:
    """The columns of a table. Raises LogError."""
    source = FileSource(matched(str(path)))
    with connection() as con:
        return list(source.columns(con))


def _described(artifact: Artifact, table: ItemsSection) -> tuple[Titles, Categories]:
    """What the table says, over what the version knows already: the file may hold the new items alone."""
    known, titles, categories = artifact.metadata, *items_of([str(table.path)], table, artifact.items.kind)
    own_titles = {i: t for i, t in zip(artifact.items.ids, known.titles, strict=False) if t} if table.title else {}
    own_categories = {i: c for i, c in zip(artifact.items.ids, known.categories, strict=False) if c} if table.category else {}
    return own_titles | titles, own_categories | categories


def _over(stored: StoredUsers, items: IdMap) -> StoredUsers:
    """Users' histories over a catalogue that was extended at its end."""
    columns = np.arange(stored.histories.n_items)
    return StoredUsers(stored.users, stored.histories.remap(columns, len(items)))


def _table(features: ItemFeatures, found: Extended) -> pa.Table:
    """item_id, cold, features: a list of numbers for each item."""
    cold = set(found.cold)
    return pa.table(
        {
            "item_id": list(features.items.ids),
            "cold": [id_ in cold for id_ in features.items.ids],
            "features": pa.FixedSizeListArray.from_arrays(pa.array(features.values.ravel()), features.values.shape[1]),
        }
    )
