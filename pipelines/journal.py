"""The folder of a nightly run: who holds it, what each stage did and with what, a log in JSON lines."""

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pipelines
import recsys_ae
from recsys_ae.errors import ArtifactError, BusyError, GateError, WriteError
from recsys_ae.scratch import sync, writing
from recsys_ae.sealed import content_digest, file_digest, read_sealed, write_sealed

RUN, LOG, LOCK = "run.json", "log.jsonl", "lock"

Told = Callable[["Journal", dict[str, Any]], None]
"""Called with what run.json says of a run once that is over, the folder still held; of a killed one when the next begins."""


class Journal:
    """One run at a time. A stage that was done with the same inputs is not done again, in this run or a later one."""

    def __init__(self, folder: Path, told: Told | None = None) -> None:
        self.folder = folder
        self._told = told
        self._state: dict[str, Any] = {}
        self._reused: dict[str, bool] = {}  # of this run: run.json has stages of earlier ones too

    @contextmanager
    def run(self, **facts: Any) -> Iterator["Journal"]:
        """Hold the folder while the block runs; its outcome, or what ended it, stands in run.json.

        Raises BusyError where another process holds it. The lock goes with the process, however that ends.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / LOCK).open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.seek(0)
                holder = lock.read().strip() or "unknown"
                raise BusyError(
                    f"{self.folder}: another run is at work there, process {holder}; expected one at a time"
                ) from None
            with writing(self.folder / LOCK):
                lock.truncate(0)
                lock.write(str(os.getpid()))
                lock.flush()
            try:
                self._begin(**facts)
                yield self
            except BaseException as error:
                refused = isinstance(error, GateError)
                with suppress(WriteError, OSError):  # a full disk: what ended the run is what must be told
                    self.end("refused" if refused else "failed", error=str(error) or type(error).__name__)
                raise
            finally:
                self._hand_on(self._state)

    def _begin(self, **facts: Any) -> None:
        """A run that is not over though nobody holds the folder was killed: it could not say so itself."""
        started = {"outcome": "running", "started": now(), "host": socket.gethostname(), "process": os.getpid(), **facts}
        self._state, self._reused = {**started, "last_success": None, "stages": {}}, {}
        before = self._before()
        self._state |= {"last_success": before.get("last_success"), "stages": before.get("stages", {})}
        if before.get("outcome") == "running":
            self.note("killed", **{name: before.get(name) for name in ("started", "host", "process")})
            self._hand_on(before | {"outcome": "killed"})
        self.note("begin", **facts)
        self._save()

    def _hand_on(self, state: dict[str, Any]) -> None:
        if self._told:
            self._told(self, state)

    def stage(
        self, name: str, inputs: Mapping[str, Any], work: Callable[[], dict[str, Any]], there: Callable[[dict[str, Any]], bool]
    ) -> dict[str, Any]:
        """What `work` gives, JSON; or gave when it was last done with the same inputs, if what it made is still `there`."""
        key = content_digest({"stage": name, "inputs": inputs, "code": code_digest()})
        known = self._state["stages"].pop(name, None)
        if known and known["key"] == key and known["state"] == "done" and there(known["result"]):
            self.note("reused", stage=name)
            # At the end, so that run.json tells the stages in their order.
            self._state["stages"][name] = known | {"reused": True, "run": self._state["started"]}
            self._reused[name] = True
            self._save()
            return dict(known["result"])
        self._state["stages"][name] = {"state": "running", "key": key, "started": now(), "run": self._state["started"]}
        self.note("stage", stage=name)
        self._save()
        begin = time.perf_counter()
        try:
            result = json.loads(json.dumps(work(), allow_nan=False))
        except BaseException as error:
            self._state["stages"][name] |= {"state": "failed", "error": str(error) or type(error).__name__}
            raise
        seconds = round(time.perf_counter() - begin, 3)
        self._state["stages"][name] |= {"state": "done", "seconds": seconds, "result": result, "reused": False}
        self._reused[name] = False
        self.note("done", stage=name, seconds=seconds)
        self._save()
        return dict(result)

    def reused(self) -> dict[str, bool]:
        """By stage of this run, whether it was done before and not again."""
        return dict(self._reused)

    def published(self, version: str) -> None:
        """A version serves from here on, whatever becomes of the rest of the run."""
        self._state |= {"version": version, "last_success": {"ended": now(), "version": version}}
        self._save()

    def end(self, outcome: str, **facts: Any) -> None:
        """Published, refused or failed."""
        self._state |= {"outcome": outcome, "ended": now(), **facts}
        if outcome == "published":
            self._state["last_success"] = {"ended": self._state["ended"], **facts}
        self.note("end", outcome=outcome, **facts)
        self._save()

    def _before(self) -> dict[str, Any]:
        """What is known of the run before this one; nothing where its file is damaged: then everything is done again."""
        path = self.folder / RUN
        if not path.is_file():
            return {}
        try:
            return read_sealed(path)
        except ArtifactError as error:
            self.note("damaged", error=str(error))
            return {}

    def _save(self) -> None:
        write_sealed(self.folder / RUN, self._state)
        sync(self.folder)

    def note(self, event: str, **facts: Any) -> None:
        """A line of the log."""
        path = self.folder / LOG
        line = (json.dumps({"time": now(), "event": event, **facts}, ensure_ascii=False) + "\n").encode()
        with writing(path), path.open("ab", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            if (written := file.write(line)) < len(line):  # the disk is full: no half line, to which the next would be joined
                file.truncate(end)
                raise OSError(errno.ENOSPC, f"{written} of {len(line)} bytes")


@cache
def code_digest() -> str:
    """Of the files that make the outputs: a stage done by other code is done again."""
    homes = [Path(module.__path__[0]) for module in (recsys_ae, pipelines)]
    return content_digest(
        {f"{home.name}/{path.relative_to(home)}": file_digest(path) for home in homes for path in sorted(home.rglob("*.py"))}
    )


def now() -> str:
    """ISO 8601 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
