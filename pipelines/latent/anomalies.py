"""anomalies: how unlike the population each user of a log is."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.columns import id_array
from pipelines.latent.opening import opened, users_of, write_table
from recsys_ae.latent.anomalies import Anomalies


def anomalies(
    registry: Path, version: str | None, log: Path, out: Path, false_positive_rate: float | None, usual: Path | None = None
) -> dict[str, Any]:
    """Judge the users of a log, write `user_id, score` and with a rate `flagged`; returns what came of it.

    The users of the log `usual` say what is usual; without one, those stored with the version. The score
    is null where a version knows no item of a user. Raises RegistryError, ArtifactError, LogError; DataError where
    the version has too few stored users to tell what is usual, and for a rate out of range.
    """
    found = opened(registry, version)
    population = found.stored.histories if usual is None else users_of(usual, found.artifact).histories
    judge = Anomalies.of(found.artifact.model, population)
    threshold = None if false_positive_rate is None else judge.threshold(false_positive_rate)
    judged = users_of(log, found.artifact)
    scores = judge.score(judged.histories)
    unknown = np.isnan(scores)
    columns = {"user_id": id_array(judged.users.ids), "score": pa.array(scores, mask=unknown)}
    facts = {
        "version": found.version,
        "users": len(scores),
        "users_without_known_items": int(unknown.sum()),
        "unknown_items": judged.unknown,
        "written": str(out),
    }
    if threshold is not None:
        flagged = scores > threshold
        columns["flagged"] = pa.array(flagged)
        facts |= {"false_positive_rate": false_positive_rate, "threshold": threshold, "flagged": int(flagged.sum())}
    write_table(out, pa.table(columns))
    return facts
