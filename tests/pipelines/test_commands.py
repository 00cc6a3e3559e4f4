"""The command line as its users meet it: real processes, exit codes, one message, files on disk."""

import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from pipelines import doctor
from pipelines.__main__ import main
from recsys_ae import datasets
from recsys_ae.registry import Registry

CONFIG = """
seed = 3
[log]
path = "events.parquet"
min_weight = 3.0
[items]
path = "items.csv"
id = "id"
title = "name"
category = "kinds"
[split]
validation_users = 40
test_users = 40
[evaluation]
map = "pca"
[[models]]
name = "popularity"
[[models]]
name = "ease"
id = "ease-50"
regularisation = 50.0
[[models]]
name = "mult_dae"
latent = 32
epochs = 4
"""


def process(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, which takes seconds to import what it needs."""
    return subprocess.run(
        [sys.executable, "-m", "pipelines", *arguments],
        cwd=folder,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def run(folder: Path, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The same in this process."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["recsys-ae", *arguments])
        for name, value in (env or {}).items():
            patch.setenv(name, value)
        try:
            main()
        except SystemExit as ended:
            return subprocess.CompletedProcess(arguments, int(ended.code or 0), out.getvalue(), err.getvalue())
    raise AssertionError("the command line ends with SystemExit")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a log, titles and a configuration, trained once."""
    folder = tmp_path_factory.mktemp("home")
    raw = datasets.synthetic(n_users=300, n_items=120, seed=5)
    pq.write_table(raw.events, folder / "events.parquet")
    lines = [f'{item},"{title}, really",{"|".join(raw.categories[item])}' for item, title in raw.titles.items()]
    (folder / "items.csv").write_text("id,name,kinds\n" + "\n".join(lines) + "\n")
    (folder / "run.toml").write_text(CONFIG)
    done = process(folder, "train", "run.toml", "--json")
    assert done.returncode == 0, done.stderr
    (folder / "trained.json").write_text(done.stdout)
    return folder


def test_train_publishes_each_model_and_the_best_on_validation_is_current(home: Path) -> None:
    told = json.loads((home / "trained.json").read_text())
    means = {v["model"]: v["metrics"]["ndcg@100"]["mean"] for v in told["versions"]}
    assert set(means) == {"popularity", "ease-50", "mult_dae"}
    current = [v["model"] for v in told["versions"] if v["current"]]
    assert current == [max(means, key=lambda key: means[key])]
    assert min(means, key=lambda key: means[key]) == "popularity"
    registry = Registry(home / "registry")
    assert {v["version"] for v in told["versions"]} == set(registry.versions())
    artifact, stored = registry.load()
    assert len(stored.users) == artifact.manifest["data"]["users"]
    assert artifact.preprocessing.min_weight == 3.0
    assert artifact.metadata.title(0) == "Item 1 of taste " + artifact.metadata.categories[0][0].split()[-1] + ", really"
    assert not list((home / "runs").rglob("*.safetensors"))  # checkpoints of finished fits are gone


@pytest.mark.slow
def test_evaluation_json_is_the_contract_and_repeats_to_the_bit(home: Path) -> None:
    documents = []
    for name, how in (("a", process), ("b", run)):
        done = how(home, "evaluate", "run.toml", "--out", name)
        assert done.returncode == 0, done.stderr
        assert "mult_dae" in done.stdout
        document = json.loads((home / name / "evaluation.json").read_text())
        documents.append(document)
    first = documents[0]
    assert first["schema"] == 1
    assert first["data"]["digest"].startswith("sha256:")
    assert first["split"] | {"kind": "strong_generalization", "test_users": 40} == first["split"]
    assert set(first["models"]) == {"popularity", "ease-50", "mult_dae"}
    entry = first["models"]["mult_dae"]
    score = entry["metrics"]["recall@20"]
    assert set(score) == {"mean", "se", "ci95", "users"}
    assert score["ci95"][0] < score["mean"] < score["ci95"][1]
    assert set(entry["fit"]) >= {"best_epoch", "epochs"}
    assert set(entry["cost"]) >= {"fit_seconds", "fit_users_per_second", "score_users_per_second", "peak_rss_bytes"}
    assert entry["parameters"] == (32 + 1) * first["split"]["train_items"] + 32
    for document in documents:
        document.pop("environment")
        for model in document["models"].values():
            model.pop("cost")
    assert documents[0] == documents[1]


@pytest.mark.slow
def test_json_goes_to_stdout_alone(home: Path) -> None:
    for arguments in (
        ("registry", "list", "--registry", "registry"),
        ("registry", "show", "--registry", "registry"),
        ("recommend", "--registry", "registry", "--user", "7"),
        ("models",),
        ("doctor",),
        ("datasets",),
    ):
        done = run(home, *arguments, "--json")
        assert done.returncode == 0, done.stderr
        json.loads(done.stdout)
    json.loads(process(home, "ingest", "run.toml", "--json").stdout)


def test_ingest_counts_every_row(home: Path) -> None:
    told = json.loads(run(home, "ingest", "run.toml", "--json").stdout)
    raw = pq.read_table(home / "events.parquet")
    assert told["read"] == raw.num_rows
    assert told["dropped"]["below_min_weight"] == int((raw["weight"].to_numpy() < 3).sum())
    assert told["kept"] == told["read"] - sum(told["dropped"].values())
    assert pq.read_table(home / told["path"]).num_rows == told["kept"]


def test_recommend_for_a_user_and_for_a_history(home: Path) -> None:
    registry = Registry(home / "registry")
    artifact, stored = registry.load()
    user = stored.users.ids[4]
    told = json.loads(run(home, "recommend", "--registry", "registry", "--user", str(user), "-k", "5", "--json").stdout)
    seen = artifact.items.at(stored.histories.row(4))
    assert len(told["items"]) == 5
    assert not {i["item_id"] for i in told["items"]} & set(seen)
    assert told["model_version"] == registry.current()
    history = ",".join(str(i) for i in [*seen, "nonsense"])
    again = json.loads(run(home, "recommend", "--registry", "registry", "--history", history, "-k", "5", "--json").stdout)
    assert [i["item_id"] for i in again["items"]] == [i["item_id"] for i in told["items"]]
    assert again["unknown_items"] == ["nonsense"]
    table = run(home, "recommend", "--registry", "registry", "--user", str(user), "-k", "5").stdout
    assert told["items"][0]["title"] in table


def test_registry_promote_and_rollback(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "registry"
    shutil.copytree(home / "registry", folder)
    registry = Registry(folder)
    before = registry.current()
    other = next(v for v in registry.versions() if v != before)
    assert run(tmp_path, "registry", "promote", other, "--registry", "registry").returncode == 0
    assert json.loads(run(tmp_path, "registry", "show", "--registry", "registry", "--json").stdout)["version"] == other
    assert run(tmp_path, "registry", "rollback", "--registry", "registry").returncode == 0
    assert registry.current() == before
    assert run(tmp_path, "registry", "rollback", "--registry", "registry").returncode == 2


def test_an_empty_registry_lists_nothing_and_is_no_error(tmp_path: Path) -> None:
    done = run(tmp_path, "registry", "list", "--registry", "none")
    assert (done.returncode, done.stdout) == (0, "")
    assert json.loads(run(tmp_path, "registry", "list", "--registry", "none", "--json").stdout) == []
    assert run(tmp_path, "registry", "show", "--registry", "none").returncode == 2


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.csv", None, ["missing.csv", "does not exist"]),
        ("empty.csv", b"", ["empty.csv", "empty"]),
        ("header.csv", b"user_id,item_id\n", ["header.csv", "no rows"]),
        ("column.csv", b"user_id,thing\n1,2\n", ["column.csv", "item_id", "thing"]),
        ("weight.csv", b"user_id,item_id,weight\n1,2,3\n1,3,many\n", ["weight.csv", "row 2", "many", "number"]),
        ("nan.csv", b"user_id,item_id,weight\n1,2,nan\n", ["nan.csv", "row 1", "finite"]),
        ("inf.csv", b"user_id,item_id,weight\n1,2,1\n2,2,inf\n", ["inf.csv", "row 2", "finite"]),
        ("mixed.csv", b"user_id,item_id\n1,2\n2,2\nbob,3\n", ["mixed.csv", "row 3", "bob", "integer"]),
        ("binary.csv", b"\x89PNG\r\n\x1a\n\0\0\0", ["binary.csv", "binary"]),
        ("cut.parquet", b"PAR1\x15\x04\x15", ["cut.parquet", "Parquet"]),
    ],
)
def test_bad_input_ends_with_code_2_and_one_message(
    tmp_path: Path,
    name: str,
    content: bytes | None,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    (tmp_path / "run.toml").write_text(f'[log]\npath = "{name}"\n')
    # In this process, which is ten times as fast; the other tests have shown that the command is the same thing.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["recsys-ae", "train", "run.toml"])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capsys.readouterr()
    assert ended.value.code == 2
    assert told.out == ""
    messages = told.err.splitlines()
    assert len(messages) == 1, told.err
    for part in said:
        assert part in messages[0]
    assert not (tmp_path / "registry").exists()


@pytest.mark.slow
def test_by_time_and_given_run_from_configuration(home: Path) -> None:
    by_time = CONFIG.replace("validation_users = 40\ntest_users = 40", 'kind = "by_time"')
    (home / "by_time.toml").write_text(by_time)
    done = run(home, "evaluate", "by_time.toml", "--out", "by_time")
    assert done.returncode == 0, done.stderr
    assert json.loads((home / "by_time" / "evaluation.json").read_text())["split"]["kind"] == "by_time"

    table = pq.read_table(home / "events.parquet")
    test = np.arange(table.num_rows) % 5 == 0
    pq.write_table(table.filter(~test), home / "train.parquet")
    pq.write_table(table.filter(test), home / "test.parquet")
    given = '[split]\nkind = "given"\ntrain = "train.parquet"\ntest = "test.parquet"\n'
    given += '[[models]]\nname = "popularity"\n[[models]]\nname = "ease"\n'
    (home / "given.toml").write_text(given)
    done = run(home, "evaluate", "given.toml", "--out", "given")
    assert done.returncode == 0, done.stderr
    document = json.loads((home / "given" / "evaluation.json").read_text())
    assert document["data"]["interactions"] == int((~test).sum())
    means = {key: m["metrics"]["recall@20"]["mean"] for key, m in document["models"].items()}
    assert means["ease"] > 1.3 * means["popularity"]


def interruptible() -> None:
    """Undo what a shell does to a job in its background, which this test run may be: it makes it ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def children_of(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_demo_leaves_no_child_behind(home: Path, blow: signal.Signals) -> None:
    """The demo's service context, struck while the service runs."""
    code = (
        "import sys, time; from pathlib import Path; from pipelines.demo import service\n"
        "with service(Path('registry')) as address:\n    print(address, flush=True)\n    time.sleep(100)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        preexec_fn=interruptible,
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline().startswith("http://127.0.0.1:")
        children = children_of(parent.pid)
        assert len(children) == 1
        parent.send_signal(blow)
        parent.wait(20)
        deadline = time.monotonic() + 20
        while alive(children[0]) and time.monotonic() < deadline:
            os.sched_yield()
        assert not alive(children[0])
    finally:
        parent.kill()
        parent.wait()
        if parent.stdout:
            parent.stdout.close()


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--registry", "registry"], ["run.toml"]])
@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGTERM])
def test_serve_listens_and_stops_when_told(home: Path, arguments: list[str], blow: signal.Signals) -> None:
    command = [sys.executable, "-m", "pipelines", "serve", *arguments, "--port", "0"]
    server = subprocess.Popen(command, preexec_fn=interruptible, cwd=home, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        line = server.stderr.readline()
        assert str(Registry(home / "registry").current()) in line
        assert httpx.get(line.rsplit(" at ", 1)[1].strip() + "/health/ready").status_code == 200
        server.send_signal(blow)
        assert server.wait(20) in (0, -blow)
        assert "Traceback" not in server.stderr.read()
    finally:
        server.kill()
        server.wait()
        if server.stderr:
            server.stderr.close()


def test_serve_without_a_registry_is_one_message(tmp_path: Path) -> None:
    for arguments in ([], ["--registry", "none"]):
        done = process(tmp_path, "serve", *arguments)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_demo_walks_to_its_end(tmp_path: Path) -> None:
    """The same walk as `make demo`, on generated data: log, training, comparison, registry, HTTP, titles."""
    done = process(tmp_path, "demo", "--dataset", "synthetic", "--folder", "demo")
    assert done.returncode == 0, done.stderr
    for part in (
        "ndcg@100",
        "mult_vae",
        "ease",
        "als",
        "popularity",
        "current version",
        "of taste",
        "POST /v1/recommendations",
    ):
        assert part in done.stdout, done.stdout
    document = json.loads((tmp_path / "demo" / "evaluation.json").read_text())
    means = {key: m["metrics"]["ndcg@100"]["mean"] for key, m in document["models"].items()}
    assert means["mult_vae"] > means["popularity"] + 0.05
    assert Registry(tmp_path / "demo" / "registry").show()["model"] == "mult_vae"


def test_a_log_in_a_database(home: Path, tmp_path: Path) -> None:
    """The same rows from SQLite as from the file; the url comes from the environment, as a secret does."""
    table = pq.read_table(home / "events.parquet").to_pandas()
    with sqlite3.connect(tmp_path / "shop.db") as con:
        table.to_sql("events", con, index=False)
    con.close()
    config = CONFIG.replace('path = "events.parquet"', 'table = "events"').replace(
        'path = "items.csv"', f'path = "{home}/items.csv"'
    )
    (tmp_path / "run.toml").write_text(config)
    done = run(tmp_path, "ingest", "run.toml", "--json", env={"RECSYS_AE__LOG__URL": f"sqlite:///{tmp_path}/shop.db"})
    assert done.returncode == 0, done.stderr
    theirs = run(home, "ingest", "run.toml", "--json")
    found, expected = json.loads(done.stdout), json.loads(theirs.stdout)
    assert {k: found[k] for k in ("read", "kept", "dropped")} == {k: expected[k] for k in ("read", "kept", "dropped")}
    assert pq.read_table(tmp_path / "runs" / "log.parquet").equals(pq.read_table(home / "runs" / "log.parquet"))
    gone = run(tmp_path, "ingest", "run.toml", env={"RECSYS_AE__LOG__URL": "sqlite:////nowhere/at/all.db"})
    assert gone.returncode == 2 and "unable to open database file" in gone.stderr and "Traceback" not in gone.stderr


def test_doctor_tells_what_there_is_and_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_installed", lambda package: None if package == "faiss-cpu" else "1.0")
    found = json.loads(run(tmp_path, "doctor", "--json").stdout)
    assert found["torch"] == torch.__version__ and found["cores"] >= 1 and found["memory_gib"] > 0
    assert found["extras"]["faiss"] == {"faiss-cpu": None} and found["extras"]["redis"] == {"redis": "1.0"}
    assert "measured" not in found and "dev" not in found["extras"]
    told = run(tmp_path, "doctor").stdout
    assert "faiss-cpu (missing)" in told and "pip install 'recsys-ae[faiss]'" in told and "recsys-ae[redis]" not in told


@pytest.mark.slow
def test_doctor_measures_and_says_what_a_step_costs(tmp_path: Path) -> None:
    found = json.loads(run(tmp_path, "doctor", "--measure", "--json").stdout)["measured"]
    assert all(rate > 0 for products in found["gigaflops"].values() for rate in products.values())
    exact = [step for step in found["steps"] if step["softmax"] == "exact"]
    assert [step["items"] for step in exact] == [10_000, 100_000, 1_000_000]
    assert exact[1]["seconds"] == pytest.approx(10 * exact[0]["seconds"])
    assert 100 < exact[2]["seconds"] / exact[0]["seconds"] < 200  # its logits, a part of the cost, are computed twice
    assert all(step["travels_bytes"]["items"] == 4 * (2 * 500 * 512 + 5 * 500) for step in found["steps"])
    sampled = [step["seconds"] for step in found["steps"] if step["softmax"] == "sampled"]
    assert sampled[1] == sampled[2] and list(tmp_path.iterdir()) == []


def test_an_index_without_faiss_is_refused_before_anything_is_trained(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys_ae.index.find_spec", lambda _: None)
    versions = sorted((home / "registry").iterdir())
    done = run(home, "train", "run.toml", env={"RECSYS_AE__PUBLISH__INDEX_FROM_ITEMS": "1"})
    assert done.returncode == 2 and "needs faiss; pip install 'recsys-ae[faiss]'" in done.stderr
    assert sorted((home / "registry").iterdir()) == versions
