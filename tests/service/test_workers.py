"""Several processes on one port: replaced where they die, stopped together, counted together."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service import app
from service.settings import Settings
from tests.service.conftest import N_ITEMS, Service, World, service
from tests.service.test_admission import stop_under_load
from tests.service.test_app import command, damaged

pytestmark = pytest.mark.slow


def until(holds: Callable[[], object], seconds: float = 60) -> None:
    """Wait for it."""
    last = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < last, "it did not come to that in time"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process is there, one that nobody has asked for its exit code not counted."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


# --- workers that load nothing ----------------------------------------------------------------------------------------------


class Crew(NamedTuple):
    """A supervisor of two workers, and the folder in which each leaves a file that bears its number."""

    process: subprocess.Popen[str]
    folder: Path

    def workers(self) -> list[int]:
        """All that there have been."""
        return [int(file.name) for file in self.folder.iterdir() if file.name.isdigit()]

    def rest(self) -> str:
        """What it says until it ends."""
        assert self.process.stderr is not None
        return self.process.stderr.read()

    def figures(self) -> list[Path]:
        return list(self.folder.glob("recsys-ae-*"))


@contextmanager
def crew(kind: str, folder: Path) -> Iterator[Crew]:
    """A supervisor, which listens unless its workers cannot begin."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.service.crews", kind, str(folder)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(folder)},
    )
    started = Crew(process, folder)
    try:
        yield started
    finally:
        process.kill()
        with process:
            started.rest()  # until the last worker has let go of stderr


def listens(started: Crew) -> None:
    assert started.process.stderr is not None
    assert started.process.stderr.readline().startswith("serving v1 at http://127.0.0.1:")
    assert started.process.stderr.readline() == "no API keys: this machine alone is served\n"


@pytest.mark.parametrize("told", [signal.SIGINT, None])
def test_a_worker_that_dies_is_replaced_and_all_end_together(tmp_path: Path, told: signal.Signals | None) -> None:
    with crew("well", tmp_path) as started:
        listens(started)
        first = started.workers()
        assert len(first) == 2 and len(started.figures()) == 1
        os.kill(first[0], signal.SIGKILL)
        until(lambda: len(started.workers()) == 3)
        if told is None:  # as a parent that is killed does
            assert started.process.stdin is not None
            started.process.stdin.close()
        else:
            started.process.send_signal(told)
        assert started.process.wait(20) == 0
        assert not any(map(alive, started.workers())) and started.figures() == []
        said = started.rest().splitlines()
        assert len(said) == 1 and f"worker {first[0]} ended with exit code -9; another takes its place" in said[0]


def test_no_worker_outlives_its_supervisor(tmp_path: Path) -> None:
    with crew("well", tmp_path) as started:
        listens(started)
        started.process.kill()
        until(lambda: not any(map(alive, started.workers())))
        assert len(started.workers()) == 2 and started.figures() == []


def test_a_worker_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    with crew("deaf", tmp_path) as started:
        listens(started)
        started.process.terminate()
        assert started.process.wait(20) == 0
        assert started.rest().count("did not stop in time and is killed") == 2
        assert not any(map(alive, started.workers()))


@pytest.mark.parametrize(
    ("kind", "message"), [("damaged", "it is damaged"), ("mute", "a worker ended with exit code 7 before it listened")]
)
def test_workers_that_cannot_begin_are_one_message_and_not_tried_again(tmp_path: Path, kind: str, message: str) -> None:
    with crew(kind, tmp_path) as started:
        assert started.process.wait(20) == 1
        assert started.rest() == f"error: {message}\n"
        assert len(started.workers()) <= 2 and started.figures() == []
        assert not any(map(alive, started.workers()))


def test_where_a_worker_cannot_begin_again_the_others_go_on_and_it_is_tried_until_it_can(tmp_path: Path) -> None:
    with crew("breakable", tmp_path) as started:
        listens(started)
        first = started.workers()
        (tmp_path / "broken").touch()
        os.kill(first[0], signal.SIGKILL)
        until(lambda: len(started.workers()) >= 4)  # two have tried
        assert alive(first[1]) and started.process.poll() is None
        (tmp_path / "broken").unlink()
        until(lambda: sum(map(alive, started.workers())) == 2)
        last = max(started.workers(), key=lambda pid: (tmp_path / str(pid)).stat().st_mtime)
        time.sleep(0.5)
        assert alive(last)
        started.process.terminate()
        assert started.process.wait(20) == 0
        assert started.rest().count("could not begin: it is damaged") >= 1


# --- the service ------------------------------------------------------------------------------------------------------------


class Figures(NamedTuple):
    """A service of two workers, where it keeps its temporary files, and a client each of whose requests is a new connection."""

    service: Service
    folder: Path
    client: httpx.Client

    def workers(self) -> list[int]:
        """Those that have begun and were not seen to die."""
        return [int(file.stem.split("_")[-1]) for file in self.folder.glob("recsys-ae-*/gauge_*.db")]

    def models_asked_for(self) -> float | None:
        """How often, as /metrics says. All else there is right too."""
        said = {
            (sample.name, sample.labels.get("route")): sample.value
            for family in text_string_to_metric_families(self.client.get("/metrics").text)
            for sample in family.samples
        }
        assert said["recsys_ae_model_info", None] == 1 and said["recsys_ae_requests_in_flight", None] == 0
        return said.get(("recsys_ae_request_seconds_count", "/v1/model"))


@pytest.fixture(scope="module")
def two(integers: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Figures]:
    folder = tmp_path_factory.mktemp("two")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        store = f"sqlite:///{folder}/events.db"
        with (
            service(integers.path, "--workers", "2", store=store, access_log="false") as started,
            started.client(limits=httpx.Limits(max_keepalive_connections=0)) as client,
        ):
            yield Figures(started, folder, client)


def test_the_figures_are_those_of_all_workers_also_of_one_that_died(two: Figures) -> None:
    for _ in range(200):
        assert two.client.get("/v1/model").status_code == 200
    asked = [file.name for file in two.folder.glob("recsys-ae-*/histogram_*.db")]
    assert len(asked) == len(two.workers()) == 2  # both have answered
    assert [two.models_asked_for() for _ in range(6)] == [200] * 6
    dead = two.workers()[0]
    os.kill(dead, signal.SIGKILL)
    until(lambda: dead not in two.workers())
    assert [two.models_asked_for() for _ in range(3)] == [200] * 3
    assert two.client.get("/health/ready").status_code == 200


def test_what_is_posted_is_in_the_next_answer_of_either_worker(two: Figures) -> None:
    until(lambda: len(two.workers()) == 2)
    for n in range(50):
        event = {"event_id": n, "user_id": f"user-{n % 4}", "item_id": 100 + n % 12, "weight": 5}
        assert two.client.post("/v1/interactions", json={"events": [event]}).json()["accepted"] == 1
        answer = two.client.get(f"/v1/users/user-{n % 4}/recommendations?k={N_ITEMS}").json()
        shown = {item["item_id"] for item in answer["items"]}
        assert answer["source"] == "model" and event["item_id"] not in shown and len(shown) < N_ITEMS


def test_the_workers_stop_together_and_drop_nothing(two: Figures) -> None:
    until(lambda: len(two.workers()) == 2)
    time.sleep(0.5)  # its gauge is there shortly before it listens
    stop_under_load(two.service, 0.2)
    assert two.service.process.returncode == 0 and list(two.folder.glob("recsys-ae-*")) == []
    assert not any("serving" in line for line in two.service.lines)  # the fixture has read the one line


def test_a_damaged_registry_is_one_line(integers: World, tmp_path: Path) -> None:
    registry = damaged(integers, tmp_path / "registry")
    ended = command("--registry", str(registry), "--workers", "2", "--port", "0")
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert ended.stderr.startswith("error: ") and "model.safetensors: is damaged" in ended.stderr


def test_the_cores_are_divided_among_workers_and_their_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(app.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(app, "limit_threads", asked.append)
    monkeypatch.setattr(app, "log_as_json", lambda: None)
    monkeypatch.setattr(app._Server, "run", lambda *_, **__: None)
    for workers, threads in ((1, 2), (2, 2), (4, 4)):
        with socket.socket() as listener:
            app.serve(Settings(registry=tmp_path, workers=workers, threads=threads), listener, asked.append)
    assert asked == [4, 2, 1]
