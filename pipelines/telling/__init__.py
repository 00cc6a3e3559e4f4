"""What became of a night is told: to a webhook, Prometheus, MLflow, and who started it. The outcome stands, told or not."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from pipelines.config import RunConfig
from pipelines.journal import Journal, now
from pipelines.telling import textfile, tracking, webhook
from pipelines.telling.record import NightRecord
from pipelines.telling.secrets import failure
from pipelines.train import Published

SINKS: dict[str, Callable[[RunConfig, NightRecord], None]] = {
    "textfile": textfile.write,
    "mlflow": tracking.log_night,
    "webhook": webhook.post,
}
"""Each looks whether it is configured and wanted; what it raises is a warning."""


def tell(config: RunConfig, heard: Callable[[NightRecord], None] | None, journal: Journal, state: dict[str, Any]) -> None:
    """One record to all sinks; then to `heard`, with what could not be told, which log.jsonl has too."""
    try:
        record = NightRecord.from_state(config, journal.folder, state)
    except Exception as error:  # of a run.json that another version of the code wrote
        _note(journal, "record", failure(config, error))
        return
    untold = []
    for name, sink in SINKS.items():
        try:
            sink(config, record)
        except Exception as error:  # whatever it is, the night is over and its outcome stands
            untold.append(f"{name}: {failure(config, error)}")
            _note(journal, name, failure(config, error))
    if heard:
        heard(replace(record, untold=tuple(untold)))


def _note(journal: Journal, sink: str, error: str) -> None:
    with suppress(OSError):  # a full disk, perhaps the very failure that was to be told
        journal.note("untold", sink=sink, error=error)


def track_training(config: RunConfig, published: list[Published], started: str) -> str | None:
    """Log what `train` made; what hindered it, if something did."""
    try:
        tracking.log_training(config, published, started, now())
    except Exception as error:  # the versions are there all the same
        return f"mlflow: {failure(config, error)}"
    return None
