"""generate: a log of synthetic users."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.columns import id_array
from pipelines.latent.opening import opened
from pipelines.recommend import given_history
from recsys_ae.errors import ConfigError
from recsys_ae.latent.generation import Source, Synthesizer
from recsys_ae.scratch import whole_file


@dataclass(frozen=True)
class Asked:
    """How many users, from where, by which seed; `history`: item ids as a person gives them."""

    users: int
    seed: int
    source: Source
    history: list[str] | None = None
    temperature: float | None = None


def generate(registry: Path, version: str | None, out: Path, asked: Asked) -> dict[str, Any]:
    """Draw users and write `user_id, item_id`, users from 1; returns what was written. Memory is that of a block.

    Raises RegistryError, ArtifactError; ConfigError for a model without codes, or without the prior that is asked for;
    UnknownIdError where no item of the history is known; DataError as Synthesizer.of does.
    """
    if (asked.source == "history") != (asked.history is not None):
        raise ConfigError("--from history and --history A,B,C belong together; found one of them")
    found = opened(registry, version)
    made = Synthesizer.of(
        found.latent,
        found.stored.histories,
        asked.source,
        history=None if asked.history is None else given_history(found.artifact, asked.history)[0],
        temperature=asked.temperature,
        seed=asked.seed,
    )
    items = id_array(found.artifact.items.ids)
    schema = pa.schema([("user_id", pa.int64()), ("item_id", items.type)])
    first, interactions = 1, 0
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(out) as part, pq.ParquetWriter(part, schema) as writer:
        for block in made.draw(asked.users, asked.seed):
            columns = {"user_id": pa.array(first + block.rows), "item_id": items.take(pa.array(block.items.astype(np.int64)))}
            writer.write_table(pa.table(columns, schema))
            first, interactions = first + len(block), interactions + block.n_interactions
    return {
        "version": found.version,
        "source": asked.source,
        "temperature": made.temperature,
        "users": asked.users,
        "interactions": interactions,
        "seed": asked.seed,
        "written": str(out),
    }
