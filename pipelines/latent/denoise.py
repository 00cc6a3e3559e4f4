"""`recsys-ae latent denoise`: how far each interaction of a log is supported by the rest of its history, and a cleaned log."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.columns import id_array
from pipelines.latent.opening import opened, users_of, write_table
from recsys_ae.errors import ConfigError
from recsys_ae.latent.denoise import FOLDS, least_supported, support
from recsys_ae.log import write_without


@dataclass(frozen=True)
class Asked:
    """Where the supports go, and which interactions the cleaned log lacks: a share of all, or those below a threshold."""

    out: Path
    cleaned: Path | None = None
    remove: float | None = None
    threshold: float | None = None
    folds: int = FOLDS
    seed: int = 0

    def __post_init__(self) -> None:
        if self.remove is not None and self.threshold is not None:
            raise ConfigError("both --remove and --threshold are given; expected one of them")
        if (self.cleaned is None) != (self.remove is None and self.threshold is None):
            raise ConfigError("expected --cleaned FILE together with --remove SHARE or --threshold SUPPORT, or neither")
        for name, value in (("remove", self.remove), ("threshold", self.threshold)):
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"--{name} {value:g}; expected 0 to 1")


def denoise(registry: Path, version: str | None, log: Path, asked: Asked) -> dict[str, Any]:
    """Write the supports, and the cleaned log where one is asked for; what it came to, as JSON has it.

    Interactions with items that the model does not know are not judged: they stay.
    Raises RegistryError, ArtifactError, LogError.
    """
    found = opened(registry, version)
    known = users_of(log, found.artifact)
    histories = known.histories
    supports = support(found.artifact.model, histories, folds=asked.folds, seed=asked.seed)
    users, items = known.users, found.artifact.items
    table = pa.table(
        {
            "user_id": id_array(users.at(histories.rows), users.kind),
            "item_id": id_array(items.at(histories.items), items.kind),
        }
    )
    write_table(asked.out, table.append_column("support", pa.array(supports)))
    facts: dict[str, Any] = {
        "version": found.version,
        "model": found.artifact.name,
        "users": len(known.users),
        "interactions": len(supports),
        "unknown_items": known.unknown,
    }
    if asked.cleaned is not None:
        gone = least_supported(supports, asked.remove or 0) if asked.threshold is None else supports < asked.threshold
        asked.cleaned.parent.mkdir(parents=True, exist_ok=True)
        kept, dropped = write_without(str(log), table.filter(pa.array(gone)), found.artifact.preprocessing, asked.cleaned)
        facts |= {"removed": int(np.count_nonzero(gone)), "rows_kept": kept, "rows_removed": dropped}
    return facts
