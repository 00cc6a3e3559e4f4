"""Gauges of the last night for Prometheus, as a file that node_exporter's textfile collector reads."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from pipelines.config import RunConfig
from pipelines.files import write_text
from pipelines.telling.record import NightRecord

OUTCOMES = ("published", "refused", "failed")


def write(config: RunConfig, record: NightRecord) -> None:
    """Written whole or not at all, readable by all whatever the umask. A killed run has no figures: the next one writes."""
    if config.notify.textfile is None or record.outcome == "killed":
        return
    write_text(config.notify.textfile, generate_latest(gauges(record)).decode("utf-8"), mode=0o644)


def gauges(record: NightRecord) -> CollectorRegistry:
    """What the run did not come to is left out, not zero. Every gauge has the label `project`."""
    registry = CollectorRegistry()

    def tell(name: str, help_: str, value: float | None, **labels: str) -> None:
        tell_each(name, help_, {tuple(labels.values()): value}, *labels)

    def tell_each(name: str, help_: str, values: Mapping[Any, float | None], *labels: str) -> None:
        known = {labelled: value for labelled, value in values.items() if value is not None}
        if known:
            gauge = Gauge(f"recsys_ae_night_{name}", help_, ("project", *labels), registry=registry)
            for labelled, value in known.items():
                gauge.labels(record.project, *labelled).set(value)

    tell("start_timestamp_seconds", "When the last run began.", _stamp(record.started))
    tell("end_timestamp_seconds", "When the last run ended.", _stamp(record.ended))
    tell("duration_seconds", "Seconds that the last run took.", record.seconds)
    outcomes = {(outcome,): float(outcome == record.outcome) for outcome in OUTCOMES}
    tell_each("outcome", "1 for the outcome of the last run, 0 for the others.", outcomes, "outcome")
    success = record.last_success or {}
    tell(
        "last_success_timestamp_seconds",
        "When a run last ended with a model published; kept over failed runs.",
        _stamp(success.get("ended")),
    )
    if "version" in success:
        tell("version_info", "1; the label is the version that was last published.", 1, version=success["version"])
    timed = {(s.name,): s.seconds for s in record.stages if s.state == "done"}
    tell_each("stage_duration_seconds", "Seconds of work of a stage, of an earlier run where it was reused.", timed, "stage")
    reused = {(s.name,): float(s.reused) for s in record.stages if s.state == "done"}
    tell_each("stage_reused", "1 where an earlier run had done the stage.", reused, "stage")
    rows = record.cleaning
    tell("rows_read", "Rows read from the log.", rows.get("read"))
    tell("rows_kept", "Rows kept by cleaning.", rows.get("kept"))
    dropped = {(cause,): count for cause, count in rows.get("dropped", {}).items()}
    tell_each("rows_dropped", "Rows dropped by cleaning, by cause.", dropped, "cause")
    data = record.done("split") or {}
    tell("users", "Users of the clean log.", data.get("users"))
    tell("items", "Items of the clean log.", data.get("items"))
    if (verdict := record.verdict) is not None:
        tell("gate_ratio", "Mean of tonight's model divided by that of the current one.", verdict.ratio)
        means = {
            (verdict.metric, "candidate"): verdict.mean,
            (verdict.metric, "current"): verdict.current,
            (verdict.metric, "popularity"): verdict.popularity,
        }
        tell_each("metric", "Mean of the publishing metric over the held-out users.", means, "metric", "model")
    tell("warnings", "Warnings of the run.", len(record.warnings))
    tell("score_rows", "Rows of the lists of all users.", (record.done("score") or {}).get("rows"))
    return registry


def _stamp(moment: str | None) -> float | None:
    """ISO 8601 as seconds since 1970."""
    return None if moment is None else datetime.fromisoformat(moment).timestamp()
