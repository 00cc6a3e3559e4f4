"""NightRecord: what all are told of a night, made of run.json and of the night's report."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from pipelines.config import RunConfig
from pipelines.gate import Verdict
from pipelines.telling.secrets import hidden
from recsys_ae.sealed import content_digest


@dataclass(frozen=True)
class Stage:
    """A stage of this run; one that a failure or a kill ended is not `done`."""

    name: str
    state: str  # running, failed, done
    key: str
    seconds: float | None  # of the work, also where that was done by an earlier run
    reused: bool
    result: Mapping[str, Any]


@dataclass(frozen=True)
class NightRecord:
    """A night: outcome published, refused, failed or killed; stages of this run alone, in the order of the work.

    Times are ISO 8601 in UTC. `error` and warnings hold no secret of the configuration. `untold`: which of those to be told
    could not be, and why; only who is told last knows it.
    """

    project: str
    folder: Path
    outcome: str
    error: str | None
    version: str | None
    forced: bool
    started: str
    ended: str | None  # None of a killed one: nobody knows
    host: str
    process: int
    last_success: Mapping[str, Any] | None
    stages: tuple[Stage, ...]
    warnings: tuple[str, ...]
    untold: tuple[str, ...] = ()

    @classmethod
    def from_state(cls, config: RunConfig, folder: Path, state: Mapping[str, Any]) -> "NightRecord":
        """Of what run.json holds."""
        stages = tuple(
            Stage(name, at["state"], at["key"], at.get("seconds"), at.get("reused", False), at.get("result", {}))
            for name, at in state["stages"].items()
            if at.get("run") == state["started"]
        )
        error = state.get("error")
        record = cls(
            project=config.notify.project,
            folder=folder.resolve(),
            outcome=state["outcome"],
            error=None if error is None else hidden(config, error),
            version=state.get("version"),
            forced=bool(state.get("forced")),
            started=state["started"],
            ended=state.get("ended"),
            host=state.get("host", ""),
            process=state.get("process", 0),
            last_success=state.get("last_success"),
            stages=stages,
            warnings=tuple(hidden(config, str(text)) for stage in stages for text in stage.result.get("warnings", ())),
        )
        return record._with_warnings_of_the_report()

    def _with_warnings_of_the_report(self) -> "NightRecord":
        try:
            found = self.evaluation()["models"] if self.report else {}
            texts = [f"{key}: {text}" for key, entry in found.items() for text in entry["warnings"]]
        except (OSError, ValueError, KeyError) as error:
            texts = [f"evaluation.json cannot be read: {error!r}"]
        return replace(self, warnings=(*self.warnings, *texts))

    def done(self, stage: str) -> Mapping[str, Any] | None:
        """What a stage gave; None where this run has not come so far."""
        return next((each.result for each in self.stages if each.name == stage and each.state == "done"), None)

    def evaluation(self) -> dict[str, Any]:
        """The night's evaluation.json, to be asked for only where there is a `report`."""
        assert self.report is not None
        return dict(json.loads((self.report.parent / "evaluation.json").read_text("utf-8")))

    @property
    def id(self) -> str:
        """Of this run and no other."""
        return content_digest({"folder": str(self.folder), "host": self.host, "started": self.started})

    @property
    def seconds(self) -> float | None:
        """From begin to end."""
        if self.ended is None:
            return None
        return (datetime.fromisoformat(self.ended) - datetime.fromisoformat(self.started)).total_seconds()

    @property
    def broken(self) -> str | None:
        """The stage at which it ended, if not at its end."""
        return next((stage.name for stage in self.stages if stage.state != "done"), None)

    @property
    def headline(self) -> str:
        """The outcome in a line."""
        forced = self.verdict is not None and not self.verdict.passed and self.outcome == "published"
        what = {
            "published": f"published {self.version}" + (", though the gate refused" if forced else ""),
            "refused": "refused by the gate",
            "failed": (f"published {self.version}, but " if self.version else "")
            + "failed"
            + (f" at stage {self.broken}" if self.broken else ""),
            "killed": f"the run begun {moment(self.started)} was killed" + (f" at stage {self.broken}" if self.broken else ""),
        }[self.outcome]
        return what + ("" if self.seconds is None else f", after {duration(self.seconds)}")

    @property
    def verdict(self) -> Verdict | None:
        """The gate's."""
        found = self.done("gate")
        return None if found is None else Verdict.from_json(found)

    @property
    def cleaning(self) -> Mapping[str, Any]:
        """Rows read, kept, dropped by cause; empty where that was not come to."""
        return (self.done("split") or {}).get("cleaning", {})

    @property
    def report(self) -> Path | None:
        """The report of this night; None where the gate was not reached: what lies there is of another night."""
        path = self.folder / "report" / "report.html"
        return path if self.done("gate") is not None and path.is_file() else None

    @property
    def scores(self) -> Path | None:
        """The folder of lists."""
        found = self.done("score")
        return None if found is None else Path(found["folder"]).resolve()

    def as_json(self) -> dict[str, Any]:
        """As a webhook gets it."""
        verdict, data, scored = self.verdict, self.done("split") or {}, self.done("score") or {}
        return {
            "id": self.id,
            "project": self.project,
            "outcome": self.outcome,
            "error": self.error,
            "reasons": [] if verdict is None else list(verdict.reasons),
            "version": self.version,
            "forced": self.forced,
            "gate": None if verdict is None else verdict.as_json(),
            "started": self.started,
            "ended": self.ended,
            "seconds": self.seconds,
            "host": self.host,
            "process": self.process,
            "folder": str(self.folder),
            "stopped_at": self.broken,
            "stages": {s.name: {"state": s.state, "seconds": s.seconds, "reused": s.reused} for s in self.stages},
            "rows": dict(self.cleaning),
            "users": data.get("users"),
            "items": data.get("items"),
            "score_rows": scored.get("rows"),
            "warnings": list(self.warnings),
            "report": None if self.report is None else str(self.report),
            "scores": None if self.scores is None else str(self.scores),
            "last_success": self.last_success,
        }


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 4 s`, `2 h 5 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def moment(stamp: str) -> str:
    """ISO 8601 as `2026-11-24 02:17 UTC`."""
    return f"{datetime.fromisoformat(stamp):%Y-%m-%d %H:%M} UTC"
