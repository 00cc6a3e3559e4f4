"""What the commands open: a version of the registry, and the users of a log as that version's histories."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recsys_ae.artifact import Artifact
from recsys_ae.cleaning import Cleaning
from recsys_ae.dataset import Dataset
from recsys_ae.errors import ConfigError
from recsys_ae.histories import Histories
from recsys_ae.ids import IdMap
from recsys_ae.log import read_log
from recsys_ae.models.base import LatentRecommender
from recsys_ae.registry import Registry, StoredUsers
from recsys_ae.scratch import whole_file


@dataclass(frozen=True)
class Opened:
    """A version, its artefact, and the users that were published with it."""

    version: str
    artifact: Artifact
    stored: StoredUsers

    @property
    def latent(self) -> LatentRecommender:
        """The model as one with codes. Raises ConfigError where it has none."""
        model = self.artifact.model
        if not isinstance(model, LatentRecommender):
            raise ConfigError(f"version {self.version} is a {self.artifact.name}, which has no codes; expected an autoencoder")
        return model


@dataclass(frozen=True)
class LogUsers:
    """Users of a log with histories over a version's items; `unknown` counts the interactions with items it does not have."""

    users: IdMap
    histories: Histories
    unknown: int


def opened(registry: Path, version: str | None = None) -> Opened:
    """A version of a registry, current without. Raises RegistryError, ArtifactError."""
    found = Registry(registry)
    artifact, stored = found.load(version)
    return Opened(found.show(version)["version"], artifact, stored)


def users_of(log: Path, artifact: Artifact) -> LogUsers:
    """The users of a log with canonical column names, treated as those of training. Raises LogError.

    Limits that need other users or other nights (`min_user_interactions` and the like) are not applied.
    """
    clean = read_log(str(log), cleaning=Cleaning(artifact.preprocessing))
    data = Dataset.from_log(clean, artifact.preprocessing)
    columns = artifact.items.positions(artifact.items.parse(id_) for id_ in data.items.ids)
    known = data.histories.remap(columns, len(artifact.items))
    return LogUsers(data.users, known, data.histories.n_interactions - known.n_interactions)


def write_table(path: Path, table: pa.Table) -> None:
    """A Parquet file that appears whole or not at all, its folder made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part:
        pq.write_table(table, part)
