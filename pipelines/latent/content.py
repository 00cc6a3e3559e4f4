"""content fit: items that nobody has met are placed by what is known of them, in a version of its own."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.config import ItemsSection, RunConfig
from pipelines.items import Categories, Titles, items_of, read_items
from pipelines.latent.opening import opened, write_table
from pipelines.latent.pictures import read_images
from pipelines.latent.placing import features_of, item_features, said_of
from recsys_ae.artifact import Artifact
from recsys_ae.errors import ConfigError
from recsys_ae.ids import IdMap
from recsys_ae.latent.content import Extended, extend
from recsys_ae.latent.features import WORDS, ItemFeatures
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
    if config.items.path is not None:
        titles, categories = read_items(config, artifact.items.kind)
    else:
        titles, categories = said_of(artifact.items, artifact.metadata)
    found = extend(artifact, features_of(section, titles, categories, artifact.items, config.seed), titles, categories)
    return found.artifact, _over(stored, found.artifact.items)


def columns_of(path: Path) -> list[str]:
    """The columns of a table. Raises LogError."""
    source = FileSource(matched(str(path)))
    with connection() as con:
        return list(source.columns(con))


def _described(artifact: Artifact, table: ItemsSection) -> tuple[Titles, Categories]:
    """What the table says, over what the version knows already: the file may hold the new items alone."""
    titles, categories = items_of([str(table.path)], table, artifact.items.kind)
    own_titles, own_categories = said_of(artifact.items, artifact.metadata)
    return (own_titles if table.title else {}) | titles, (own_categories if table.category else {}) | categories


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
