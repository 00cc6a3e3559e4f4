"""The nightly job, killed with SIGKILL at random moments: it goes on, ends with the bits of an undisturbed job, leaves nothing.

    OMP_NUM_THREADS=1 python -m benchmarks.chaos [--kills N] [--seed N] [--url URL]

One round is two nights on generated data, the second with more rows, run again until each has ended; rounds follow one another
until so many kills have hit. Half of the kills fall anywhere between start and end of the process, the others in a stage drawn
from all with equal chances, so that the short ones at the end are hit too. After each kill `current` must load and answer;
after each night the bytes of the models, twins, stored histories and score parts, and the names of all files, those in the
temporary folder included, must be those of the undisturbed job.

Every run is a process of its own, forked from one that has imported what the job needs: importing writes nothing.
"""

import argparse
import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from pipelines.__main__ import main as command_line
from recsys_ae import datasets
from recsys_ae.ranking import rank_top_k
from recsys_ae.registry import Registry
from recsys_ae.sealed import file_digest, read_sealed

CONFIG = """
seed = 1
[log]
path = "events.parquet"
min_user_interactions = 3
[items]
path = "items.csv"
title = "title"
[split]
by = "hash"
salt = "nights"
validation_users = 0.15
test_users = 0.25
[evaluation]
ks = [10, 20]
map = "none"
[run]
device = "cpu"
[publish]
metric = "ndcg@10"
keep = 2
[score]
k = 20
users_per_file = 100
[[models]]
name = "ease"
[[models]]
name = "mult_vae"
latent = 16
hidden = [32]
batch_size = 50
epochs = 6
"""
NIGHTS = (0.7, 1.0)
"""Share of the events, in order of time, that each night of a round knows."""
TEMPORARY, SAID = "tmp", "said.txt"
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["pipelines.__main__", "pipelines.nightly", "pipelines.report", "duckdb", "pandas"])
JUDGED = "runs/nightly/report/per_user/current.parquet"
"""There or not: a night that is killed once it has published judges its own version as the current one."""
STAMP = re.compile(r"\d{8}T\d{6}\.\d{6}")
OF_SCORES = re.compile(r"(?<=scores/).*-[0-9a-f]{8}(?=/)")
Says = Callable[[str], None]


@dataclass
class Kill:
    """One kill: how its moment was drawn, in which stage it hit, seconds after the process began."""

    drawn: str
    stage: str
    seconds: float


@dataclass
class Undisturbed:
    """What each night of an undisturbed round leaves, and how long it and its stages took."""

    bytes: list[dict[str, str]] = field(default_factory=list)
    names: list[set[str]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    stages: list[dict[str, float]] = field(default_factory=list)


@dataclass
class Found:
    """What a chaos run came to."""

    kills: list[Kill] = field(default_factory=list)
    nights: int = 0
    rounds: int = 0
    answered: int = 0  # times that a current version was there after a kill, and answered
    faults: list[str] = field(default_factory=list)

    def by_stage(self) -> dict[str, int]:
        """Kills by the stage that they hit."""
        return dict(Counter(kill.stage for kill in self.kills))


class World:
    """A folder with a configuration, items, and the events of each night beside it."""

    def __init__(self, folder: Path, config: str, n_users: int, n_items: int, seed: int = 3) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "run.toml").write_text(config)
        rows = [f"{item},Item {item}" for item in range(n_items)]
        (folder / "items.csv").write_text("\n".join(["item_id,title", *rows]) + "\n")
        events = datasets.synthetic(n_users=n_users, n_items=n_items, seed=seed).events
        self.nights = [events.sort_by("timestamp").slice(0, int(len(events) * share)) for share in NIGHTS]

    def begin(self, night: int) -> None:
        """The events of the night; those of earlier ones are in them."""
        pq.write_table(self.nights[night], self.folder / "events.parquet")

    def fresh(self) -> None:
        """As before the first night."""
        for name in ("registry", "scores", "runs", TEMPORARY):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        (self.folder / TEMPORARY).mkdir()

    def start(self) -> BaseProcess:
        """The command in a process of its own."""
        child = FORKS.Process(target=_night, args=(self.folder,))  # type: ignore[attr-defined]
        child.start()
        return child

    def finish(self) -> float:
        """A night to its end; seconds. Raises RuntimeError with what it said where it fails."""
        begin = time.monotonic()
        child = self.start()
        child.join()
        self.refuse_failed(child)
        return time.monotonic() - begin

    def refuse_failed(self, child: BaseProcess) -> None:
        """Raises RuntimeError with what a run said where it did not end with 0."""
        if child.exitcode:
            raise RuntimeError(f"exit code {child.exitcode}: {(self.folder / SAID).read_text()[-2000:]}")

    @property
    def log(self) -> Path:
        """The nightly log."""
        return self.folder / "runs/nightly/log.jsonl"

    def ended(self) -> bool:
        """Whether the last run came to its end."""
        events = self.log.read_text().splitlines() if self.log.is_file() else []
        return bool(events) and json.loads(events[-1])["event"] == "end"

    def stages(self) -> dict[str, float]:
        """Seconds of each stage of the last run; the first counts from the beginning."""
        events = [json.loads(line) for line in self.log.read_text().splitlines()]
        times = [datetime.fromisoformat(event["time"]) for event in events]
        begin = max(place for place, event in enumerate(events) if event["event"] == "begin")
        found: dict[str, float] = {}
        for place in range(begin, len(events)):
            if events[place]["event"] in ("done", "reused"):
                found[events[place]["stage"]] = (times[place] - times[begin]).total_seconds()
                begin = place
        return found

    def names(self) -> set[str]:
        """Of all files and empty folders, moments and the digests that hang on them left out."""
        found = [p for p in self.folder.rglob("*") if not p.is_dir() or not any(p.iterdir())]
        names = [str(path.relative_to(self.folder)) for path in found]
        names = [name for name in names if name not in (TEMPORARY, JUDGED)]
        return {STAMP.sub("TIME", OF_SCORES.sub("FOLDER", name)) for name in names}


def delivered(folder: Path) -> dict[str, str]:
    """Digests of what a night publishes and delivers: the current version's models and histories, the parts of the lists."""
    registry = Registry(folder / "registry")
    version = registry.check(registry.current() or "")
    names = [Path(of) / name for of in (".", "twin") for name in ("model.safetensors", "items.json")]
    paths = {str(name): version / name for name in (*names, Path("histories.safetensors"))}
    pointed = read_sealed(folder / "scores/scores.json")["folder"]
    paths |= {path.name: path for path in sorted((folder / "scores" / pointed).glob("part-*"))}
    return {name: file_digest(path)["sha256"] for name, path in paths.items()}


def answering(folder: Path) -> str | None:
    """The current version, if there is one; raises where it does not load or answer."""
    registry = Registry(folder / "registry")
    if registry.current() is None:
        return None
    artifact, stored = registry.load()
    ranking = rank_top_k(artifact.model, stored.histories.take(np.arange(3)), 5)
    if not (ranking.items[:, 0] >= 0).all():
        raise RuntimeError("the current version answers with empty lists")
    return registry.current()


def _night(folder: Path) -> None:
    """The command line in a forked process; one thread, so that bits can be compared."""
    os.chdir(folder)
    tempfile.tempdir = str(folder / TEMPORARY)
    torch.set_num_threads(1)
    said = os.open(SAID, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for stream in (1, 2):
        os.dup2(said, stream)
    sys.argv = ["recsys-ae", "nightly", "run.toml"]
    command_line()


def undisturbed(world: World) -> Undisturbed:
    """Both nights of a round, in peace."""
    found = Undisturbed()
    world.fresh()
    for night in range(len(NIGHTS)):
        world.begin(night)
        found.seconds.append(world.finish())
        found.bytes.append(delivered(world.folder))
        found.names.append(world.names())
        found.stages.append(world.stages())
    return found


def chaos(world: World, peace: Undisturbed, kills: int, rng: np.random.Generator, says: Says = lambda _: None) -> Found:
    """Rounds until so many kills have hit and the round has come to its end."""
    found = Found()
    while len(found.kills) < kills:
        world.fresh()
        found.rounds += 1
        for night in range(len(NIGHTS)):
            world.begin(night)
            world.log.unlink(missing_ok=True)
            while len(found.kills) < kills and _killed(world, peace, night, rng, found):
                says(f"{len(found.kills)} kills, {found.kills[-1]}")
            if not world.ended():
                world.finish()
            found.nights += 1
            if delivered(world.folder) != peace.bytes[night]:
                found.faults.append(f"round {found.rounds}, night {night + 1}: other bits than the undisturbed night's")
            if stray := world.names() ^ peace.names[night]:
                found.faults.append(f"round {found.rounds}, night {night + 1}: files {sorted(stray)}")
    return found


def _killed(world: World, peace: Undisturbed, night: int, rng: np.random.Generator, found: Found) -> bool:
    """One run, killed at a moment drawn; False where it ended before, which must be with exit code 0."""
    stages = peace.stages[night]
    target = None if rng.random() < 0.5 else str(rng.choice(list(stages)))
    delay = rng.uniform(0, peace.seconds[night] if target is None else stages[target])
    start = world.log.stat().st_size if world.log.is_file() else 0
    begin = time.monotonic()
    child = world.start()
    while target is not None and child.is_alive() and _stage(_since(world.log, start), stages) != target:
        time.sleep(0.002)
    child.join(delay)
    child.kill()
    child.join()
    if child.exitcode != -signal.SIGKILL:
        world.refuse_failed(child)
        return False
    hit = _stage(_since(world.log, start), stages) or "before the job"
    found.kills.append(Kill("anywhere" if target is None else "stage", hit, round(time.monotonic() - begin, 3)))
    found.answered += answering(world.folder) is not None
    return True


def _since(log: Path, start: int) -> str:
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(start)
        return file.read().decode()


def _stage(log: str, stages: Mapping[str, float]) -> str | None:
    """The first stage that a run has not come through; "end" past the last, None where it has not begun."""
    events = [json.loads(line) for line in log.splitlines() if line.endswith("}")]
    through = {event["stage"] for event in events if event["event"] in ("done", "reused")}
    return next((stage for stage in stages if stage not in through), "end") if events else None


def main() -> None:
    """An undisturbed round, then chaos; print, write the result."""
    from benchmarks.record import write

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        world = World(Path(folder) / "world", CONFIG, n_users=500, n_items=120)
        peace = undisturbed(world)
        print(f"undisturbed nights of {peace.seconds} s, stages {peace.stages}", flush=True)
        found = chaos(world, peace, arguments.kills, np.random.default_rng(arguments.seed), lambda s: print(s, flush=True))
    for fault in found.faults:
        print(fault)
    write(
        "chaos",
        {
            "seed": arguments.seed,
            "rows": [len(night) for night in world.nights],
            "kills": len(found.kills),
            "kills_by_stage": found.by_stage(),
            "rounds": found.rounds,
            "nights": found.nights,
            "current_answered_after_kills": found.answered,
            "all_equal_and_nothing_left": not found.faults,
            "faults": found.faults,
            "undisturbed": {"seconds": peace.seconds, "stages": peace.stages},
            "moments": [vars(kill) for kill in found.kills],
        },
    )
    sys.exit(bool(found.faults))


if __name__ == "__main__":
    main()
