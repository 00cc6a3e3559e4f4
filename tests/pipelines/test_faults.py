"""What a night can meet: one clear message and its exit code, yesterday's model goes on serving, the next night heals."""

import contextlib
import ctypes
import datetime
import errno
import json
import os
import resource
import shutil
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from benchmarks.chaos import answering, delivered
from pipelines.__main__ import main
from pipelines.config import ChecksSection
from pipelines.journal import Journal
from recsys_ae import Registry, datasets, registry
from recsys_ae.sealed import read_sealed
from tests.pipelines.conftest import Run
from tests.unit.test_sql import POSTGRES, needs_postgres

CONFIG = """
seed = 1
[log]
path = "events.parquet"
[split]
by = "hash"
salt = "nights"
validation_users = 0.15
test_users = 0.25
[evaluation]
ks = [10]
map = "none"
[run]
device = "cpu"
precision = "float32"
[publish]
metric = "ndcg@10"
keep = 2
[score]
k = 5
users_per_file = 200
[[models]]
name = "ease"
[[models]]
name = "mult_dae"
latent = 8
hidden = []
epochs = 1
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder after its first night, on nine tenths of 500 users' events; the rest is beside them."""
    folder = tmp_path_factory.mktemp("template")
    events = datasets.synthetic(n_users=500, n_items=60, seed=3).events.sort_by("timestamp")
    pq.write_table(events, folder / "all.parquet")
    pq.write_table(events.slice(0, len(events) * 9 // 10), folder / "events.parquet")
    (folder / "run.toml").write_text(CONFIG)
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["recsys-ae", "nightly", "run.toml"])
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code
    return folder


@pytest.fixture
def home(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to spoil."""
    shutil.copytree(template, tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture(scope="module")
def grown(template: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What an undisturbed second night on all events delivers."""
    folder = tmp_path_factory.mktemp("grown") / "home"
    shutil.copytree(template, folder)
    (folder / "all.parquet").replace(folder / "events.parquet")
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["recsys-ae", "nightly", "run.toml"])
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code
    return delivered(folder)


def one_message(err: str, *parts: str) -> None:
    """One line, which says all of this, and no traceback."""
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in err, err
    for part in parts:
        assert part in lines[0], lines[0]


# --- a full disk ----------------------------------------------------------------------------------------------------------

LIBC = ctypes.CDLL(None, use_errno=True)
STAGES = ("ingest", "train mult_dae", "gate", "publish", "score")


@pytest.fixture
def small_disk(home: Path) -> Iterator[None]:
    """The home folder on a file system of 16 MiB; skipped where the machine lets nobody mount one."""
    if LIBC.mount(b"none", os.fsencode(home), b"tmpfs", 0, b"size=16m"):
        pytest.skip(f"cannot mount a small file system: {os.strerror(ctypes.get_errno())}")
    try:
        yield
    finally:
        os.chdir("/")
        assert not LIBC.umount2(os.fsencode(home), 2)


def filled(home: Path) -> Callable[[], None]:
    """Not a byte is left; the call that comes back makes room again."""
    with (home / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(b"x" * 4096)
    return (home / "filler").unlink


def limited(_: Path) -> Callable[[], None]:
    """No file may grow beyond 100 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before)


def strike(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch, stage: str, spoil: Callable[[Path], Callable[[], None]]
) -> tuple[int, str]:
    """A night for which the disk is full from the moment that a stage has begun."""
    real, mend = Journal._save, []

    def save(journal: Journal) -> None:
        real(journal)
        running = [name for name, facts in journal._state["stages"].items() if facts["state"] == "running"]
        if not mend and running == [stage]:
            mend.append(spoil(home))

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "_save", save)
        try:
            code, _, err = run("nightly", "run.toml")
        finally:
            assert mend, f"{stage} never began"
            mend[0]()
    return code, err


def full_in_every_stage(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], Callable[[], None]], number: int
) -> None:
    before = answering(home)
    (home / "all.parquet").replace(home / "events.parquet")
    for stage in STAGES:
        code, err = strike(run, home, monkeypatch, stage, spoil)
        assert code == 1, (stage, err)
        one_message(err, os.strerror(number))
        assert any(name in err for name in ("runs", "registry", "scores")), err
        now = answering(home)
        assert now == before or stage == "score"  # which comes after publishing
    assert run("nightly", "run.toml")[0] == 0
    lines = (home / "runs/nightly/log.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines].count("begin") == len(STAGES) + 2
    assert not [path for path in home.rglob(".*") if path.name != ".lock"]


def test_a_full_disk_in_every_stage(
    home: Path, template: Path, small_disk: None, command: Run, monkeypatch: pytest.MonkeyPatch, grown: dict[str, str]
) -> None:
    shutil.copytree(template, home, dirs_exist_ok=True)
    os.chdir(home)
    full_in_every_stage(command, home, monkeypatch, filled, errno.ENOSPC)
    assert delivered(home) == grown


def test_files_that_may_not_grow_in_every_stage(
    home: Path, command: Run, monkeypatch: pytest.MonkeyPatch, grown: dict[str, str]
) -> None:
    full_in_every_stage(command, home, monkeypatch, limited, errno.EFBIG)
    assert delivered(home) == grown


def test_a_folder_without_rights_is_one_message(home: Path, command: Run) -> None:
    shutil.rmtree(home / "scores")
    (home / "scores").write_text("no folder")
    code, _, err = command("nightly", "run.toml")
    assert code == 1
    one_message(err, "scores")
    assert answering(home)


# --- damaged files --------------------------------------------------------------------------------------------------------


def flip(path: Path) -> None:
    """One bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "patterns",
    [
        ("registry/2*/model.safetensors", "runs/nightly/models/*/twin/manifest.json", "scores/scores.json"),
        ("registry/2*/items.json", "runs/log.parquet", "scores/2*/part-00001.parquet"),
        ("registry/2*/manifest.json", "runs/nightly/run.json", "scores/2*/_scores.json"),
        ("registry/2*/histories.safetensors", "runs/nightly/models/*/whole/model.safetensors"),
    ],
)
def test_a_flipped_bit_is_mended_by_the_next_night(home: Path, command: Run, patterns: tuple[str, ...]) -> None:
    before = delivered(home)
    for pattern in patterns:
        found = list(home.glob(pattern))
        assert found, pattern
        for path in found:
            flip(path)
    code, _, err = command("nightly", "run.toml")
    assert code == 0, err
    assert delivered(home) == before
    assert answering(home)


def test_a_flipped_bit_in_the_twin_of_the_current_version_never_lets_a_worse_model_pass(home: Path, command: Run) -> None:
    version = answering(home)
    flip(next(home.glob("registry/2*/twin/model.safetensors")))
    (home / "bad.toml").write_text(
        CONFIG.partition("[[models]]")[0] + '[[models]]\nname = "mult_dae"\nlatent = 2\nepochs = 1\n'
    )
    assert command("nightly", "bad.toml")[0] == 3
    assert answering(home) == version
    document = json.loads((home / "runs/nightly/report/evaluation.json").read_text())
    warnings = document["models"]["current"]["warnings"]
    assert "twin/model.safetensors: is damaged" in warnings[0] and "too good" in warnings[1]


def test_a_flipped_bit_in_the_pointer_is_told_and_promote_mends_it(home: Path, command: Run) -> None:
    version = answering(home)
    assert version is not None
    flip(home / "registry/current.json")
    code, _, err = command("nightly", "run.toml")
    assert code == 1
    one_message(err, "registry/current.json", "damaged")
    assert command("registry", "promote", version, "--registry", "registry")[0] == 0
    assert answering(home) == version and command("nightly", "run.toml")[0] == 0


def test_a_flipped_bit_in_what_tells_a_version_is_told(home: Path, command: Run) -> None:
    flip(next(home.glob("registry/2*/version.json")))
    code, _, err = command("nightly", "run.toml")
    assert code == 1
    one_message(err, "version.json", "damaged")


def test_a_damaged_checkpoint_costs_its_epochs_alone(
    home: Path, command: Run, monkeypatch: pytest.MonkeyPatch, grown: dict[str, str]
) -> None:
    (home / "all.parquet").replace(home / "events.parquet")
    with monkeypatch.context() as patch:
        patch.setattr("recsys_ae.training.loop.Progress", _stopped)  # after the first checkpoint
        assert command("nightly", "run.toml")[0] == 130
    checkpoint = next(home.glob("runs/checkpoints/*/checkpoint.safetensors"))
    content = bytearray(checkpoint.read_bytes())
    content[-1] ^= 1
    checkpoint.write_bytes(content)
    assert command("nightly", "run.toml")[0] == 0
    assert delivered(home) == grown


def _stopped(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_source_cut_off_is_told_and_nothing_is_published(home: Path, command: Run) -> None:
    version = answering(home)
    content = (home / "all.parquet").read_bytes()
    (home / "events.parquet").write_bytes(content[: len(content) * 6 // 10])
    code, _, err = command("nightly", "run.toml")
    assert code == 2
    one_message(err, "events.parquet", "not a whole Parquet file")
    assert answering(home) == version
    assert read_sealed(home / "runs/nightly/run.json")["outcome"] == "failed"


def test_a_clean_log_cut_off_is_made_again(home: Path, command: Run) -> None:
    before = delivered(home)
    for path in (home / "runs").glob("*.parquet"):
        path.write_bytes(path.read_bytes()[:-200])
    assert command("nightly", "run.toml")[0] == 0
    assert delivered(home) == before


# --- the world outside ----------------------------------------------------------------------------------------------------


def test_a_source_that_shrank_by_nine_tenths_publishes_nothing_worse(home: Path, command: Run) -> None:
    """The checks stop it; where they are off, its twin ranks the held-out users worse, and the gate sees it."""
    version = answering(home)
    events = pq.read_table(home / "events.parquet")
    pq.write_table(events.slice(len(events) * 9 // 10), home / "events.parquet")
    code, _, err = command("nightly", "run.toml")
    assert code == 1
    one_message(err, "rows")
    names = sorted(set(ChecksSection.model_fields) - {"nights"})
    off = "".join(f'[checks.{name}]\naction = "off"\n' for name in names)
    (home / "unchecked.toml").write_text(CONFIG.replace("[[models]]", off + "[[models]]", 1))
    code, _, err = command("nightly", "unchecked.toml")
    assert code == 3
    one_message(err, "not published", "the current model")
    assert answering(home) == version


class Backwards(datetime.datetime):
    """A clock that was set back by three days."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> "Backwards":
        return super().now(tz) - datetime.timedelta(days=3)


@pytest.mark.slow
def test_a_clock_set_back_publishes_all_the_same(
    home: Path, command: Run, monkeypatch: pytest.MonkeyPatch, grown: dict[str, str]
) -> None:
    first = answering(home)
    monkeypatch.setattr(registry, "datetime", Backwards)
    monkeypatch.setattr("pipelines.journal.datetime", Backwards)
    everything = pq.read_table(home / "all.parquet")
    assert command("nightly", "run.toml")[0] == 0 and answering(home) == first
    pq.write_table(everything, home / "events.parquet")
    assert command("nightly", "run.toml")[0] == 0
    second = answering(home)
    assert second != first and delivered(home) == grown
    pq.write_table(everything.slice(0, len(everything) * 19 // 20), home / "events.parquet")
    assert command("nightly", "run.toml")[0] == 0
    third, versions = answering(home), Registry(home / "registry").versions()
    assert third not in (first, second) and {second, third} <= set(versions)  # of keep = 2 neither is the one that went
    assert read_sealed(home / "scores/scores.json")["version"] == third
    lines = [json.loads(line) for line in (home / "runs/nightly/log.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines].count("end") == 4 and lines[-1]["version"] == third
    assert Registry(home / "registry").rollback() == second


def test_a_database_that_is_damaged_in_the_middle(home: Path, command: Run) -> None:
    version = answering(home)
    with contextlib.closing(sqlite3.connect(home / "shop.db")) as con:
        pq.read_table(home / "all.parquet").to_pandas().to_sql("events", con, index=False)
    content = bytearray((home / "shop.db").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 20_000] = bytes(20_000)
    (home / "shop.db").write_bytes(content)
    (home / "sql.toml").write_text(CONFIG.replace('path = "events.parquet"', 'url = "sqlite:///shop.db"\ntable = "events"'))
    code, _, err = command("nightly", "sql.toml")
    assert code in (1, 2)
    one_message(err, "shop.db", "malformed")
    assert answering(home) == version


class Cut:
    """A way to a database on this machine that breaks after so many bytes of answer."""

    def __init__(self, port: int, after: int) -> None:
        self._port, self._after = port, after
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                database = socket.create_connection(("127.0.0.1", self._port))
                threading.Thread(target=self._pass, args=(client, database, None), daemon=True).start()
                threading.Thread(target=self._pass, args=(database, client, self._after), daemon=True).start()

    @staticmethod
    def _pass(one: socket.socket, other: socket.socket, left: int | None) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(4096):
                other.sendall(data)
                left = None if left is None else left - len(data)
                if left is not None and left < 0:
                    break
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._server.close()


@needs_postgres
def test_a_database_gone_in_the_middle(home: Path, command: Run) -> None:
    import sqlalchemy

    version = answering(home)
    url = sqlalchemy.make_url(POSTGRES)
    name = f"recsys_ae_night_{os.getpid()}"
    engine = sqlalchemy.create_engine(url.set(drivername="postgresql+psycopg"))
    cut = Cut(url.port or 5432, after=100_000)
    try:
        pq.read_table(home / "all.parquet").to_pandas().to_sql(name, engine, index=False)
        for port, expected in ((cut.port, (1, 2)), (url.port or 5432, (0,))):
            there = url.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
            source = f'url = "{there}"\nquery = "select * from {name} order by timestamp"'
            (home / "sql.toml").write_text(CONFIG.replace('path = "events.parquet"', source))
            code, _, err = command("nightly", "sql.toml")
            assert code in expected, err
            if code:
                one_message(err, f"127.0.0.1:{port}")
                assert answering(home) == version
        assert answering(home) != version
    finally:
        cut.close()
        with engine.begin() as con:
            con.execute(sqlalchemy.text(f"drop table if exists {name}"))
        engine.dispose()


def test_a_fault_of_ours_ends_in_one_line_after_where_it_was(home: Path, command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    version = answering(home)
    monkeypatch.setattr("pipelines.nightly.evaluate", lambda *_: 1 / 0)
    (home / "all.parquet").replace(home / "events.parquet")
    code, _, err = command("nightly", "run.toml")
    assert code == 1 and "Traceback" in err
    assert err.splitlines()[-1] == "error: unexpected ZeroDivisionError: division by zero"
    assert answering(home) == version
    assert read_sealed(home / "runs/nightly/run.json")["error"] == "division by zero"
