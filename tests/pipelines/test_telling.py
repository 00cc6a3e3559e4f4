"""A night is told to a webhook, Prometheus and MLflow; whatever becomes of that, the night's outcome stands."""

import hashlib
import hmac
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipelines.config import RunConfig, make_config
from pipelines.journal import Journal
from pipelines.tables import night_summary
from pipelines.telling import tell, textfile, webhook
from pipelines.telling.record import NightRecord, duration
from pipelines.telling.secrets import hidden
from recsys_ae import Registry, datasets
from recsys_ae.errors import BusyError, ConfigError, RecsysError
from recsys_ae.sealed import read_sealed
from tests.pipelines.conftest import Run

ROOT = Path(__file__).parents[2]
TOKEN = "T0K3N-b7a1c9"
VERDICT = {
    "passed": True,
    "reasons": [],
    "metric": "ndcg@10",
    "candidate": "ease",
    "mean": 0.5,
    "popularity": 0.25,
    "current": 0.4,
    "ratio": 1.25,
    "difference_ci95": [0.05, 0.15],
    "users": 2000,
}
SPLIT = {
    "digest": "sha256:ab",
    "users": 600,
    "items": 80,
    "cleaning": {"read": 1200, "kept": 1000, "dropped": {"missing_id": 200, "repeated": 0}},
    "warnings": ["fewer rows than usual"],
}


@dataclass
class Hook:
    """A receiver: what it answers, in turn (the last for ever), and what it got."""

    url: str
    answers: list[int] = field(default_factory=lambda: [200])
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    silent: threading.Event | None = None  # answers nothing until it is set

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    """A receiver on this machine, whose address holds a token."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            made.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            if made.silent:
                made.silent.wait(10)
                return
            self.send_response(made.answers.pop(0) if len(made.answers) > 1 else made.answers[0])
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Hook(f"http://127.0.0.1:{server.server_port}/services/{TOKEN}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    if made.silent:
        made.silent.set()
    server.shutdown()
    thread.join()
    server.server_close()


def configured(**notify: Any) -> RunConfig:
    return make_config({"log": {"path": "events.parquet"}, "notify": {"project": "shop", **notify}})


def stage(result: dict[str, Any], **changes: Any) -> dict[str, Any]:
    known = {"state": "done", "key": "k", "seconds": 1.5, "reused": False, "run": "2026-11-24T02:17:00.000+00:00"}
    return {**known, "result": result, **changes}


def record(config: RunConfig, folder: Path, **changes: Any) -> NightRecord:
    """Of a night as run.json tells it, a stage of an earlier night among its stages."""
    state = {
        "outcome": "published",
        "started": "2026-11-24T02:17:00.000+00:00",
        "ended": "2026-11-24T02:29:03.500+00:00",
        "host": "db1",
        "process": 17,
        "forced": False,
        "version": "v2",
        "last_success": {"ended": "2026-11-24T02:29:03.500+00:00", "version": "v2"},
        "stages": {
            "split": stage(SPLIT),
            "train als": stage({}, run="2026-11-23T02:17:00.000+00:00"),
            "train ease": stage({"validation": {}}, reused=True),
            "gate": stage(VERDICT),
            "score": stage({"folder": "scores/v2", "rows": 3000, "users": 600}),
        },
    }
    return NightRecord.from_state(config, folder, {**state, **changes})


def failed(config: RunConfig, folder: Path, **changes: Any) -> NightRecord:
    """Of a night that ended in its second stage."""
    stages = {"split": stage(SPLIT), "train ease": {**stage({}), "state": "failed", "seconds": None}}
    before = {"ended": "2026-11-23T02:29:00.000+00:00", "version": "v1"}
    facts = {"outcome": "failed", "error": "no space", "version": None, "last_success": before, "stages": stages}
    return record(config, folder, **{**facts, **changes})


def test_a_webhook_is_tried_again_and_gets_the_whole_record(hook: Hook, tmp_path: Path) -> None:
    config = configured(url=hook.url, on=["published"], signing_key="s3cret-key")
    told, pauses = record(config, tmp_path), []
    hook.answers = [500, 503, 200]
    webhook.post(config, told, pauses.append)
    assert pauses == [1, 2] and len(hook.got) == 3 and len({body for _, body in hook.got}) == 1
    headers, body = hook.got[-1]
    assert headers["content-type"] == "application/json"
    signed = hmac.new(b"s3cret-key", body, hashlib.sha256).hexdigest()
    assert headers["x-recsys-ae-signature"] == f"sha256={signed}"
    said = json.loads(body)
    assert said["outcome"] == "published" and said["version"] == "v2" and said["project"] == "shop" and said["host"] == "db1"
    assert said["gate"] == VERDICT and said["seconds"] == 723.5 and said["rows"]["dropped"]["missing_id"] == 200
    assert list(said["stages"]) == ["split", "train ease", "gate", "score"]  # als was of another night
    assert said["warnings"] == ["fewer rows than usual"] and said["folder"] == str(tmp_path)
    assert said["text"].startswith("shop: published v2, after 12 min 4 s\nfewer rows")


def test_a_webhook_without_a_key_is_not_signed_and_markup_of_chats_is_harmless(hook: Hook, tmp_path: Path) -> None:
    config = configured(url=hook.url)
    webhook.post(config, failed(config, tmp_path, error="found <!channel> & more"))
    headers, _ = hook.got[0]
    assert "x-recsys-ae-signature" not in headers
    assert "found &lt;!channel&gt; &amp; more" in hook.bodies[0]["text"]
    assert hook.bodies[0]["error"] == "found <!channel> & more" and hook.bodies[0]["stopped_at"] == "train ease"


@pytest.mark.parametrize(
    ("outcome", "on", "posts"),
    [("published", None, 0), ("refused", None, 1), ("killed", None, 1), ("killed", ["refused"], 0), ("failed", [], 0)],
)
def test_a_webhook_is_told_what_it_asks_for(hook: Hook, tmp_path: Path, outcome: str, on: Any, posts: int) -> None:
    config = configured(url=hook.url, **({} if on is None else {"on": on}))
    webhook.post(config, record(config, tmp_path, outcome=outcome))
    assert len(hook.got) == posts


def test_what_hinders_a_webhook_is_said_without_its_address(hook: Hook, tmp_path: Path) -> None:
    def said(**notify: Any) -> str:
        config = configured(**{"url": hook.url, "on": ["published"], **notify})
        with pytest.raises(RecsysError) as raised:
            webhook.post(config, record(config, tmp_path), lambda _: None)
        assert TOKEN not in str(raised.value)
        return str(raised.value)

    hook.answers = [404]
    assert said() == "answered 404; expected 2xx" and len(hook.got) == 1  # it will not be there the next time either
    hook.answers = [302]
    assert said() == "answered 302; expected 2xx" and len(hook.got) == 2
    hook.answers = [429]
    assert said() == "answered 429; expected 2xx" and len(hook.got) == 5
    hook.silent = threading.Event()
    assert said(timeout=0.1) == "no answer within 0.1 s; expected 2xx" and len(hook.got) == 8
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        assert "refused" in said(url=f"http://127.0.0.1:{nobody.getsockname()[1]}/{TOKEN}")


@pytest.mark.parametrize(
    ("notify", "expected"),
    [
        ({"url": f"ftp://host/{TOKEN}"}, "url is no address of the web"),
        ({"url": f"https://:{TOKEN}"}, "url is no address of the web"),
        ({"url": f"https://host:{TOKEN}/"}, "url is no address of the web"),
        ({"url": [TOKEN]}, "[notify] url"),
        ({"signing_key": {"key": TOKEN}}, "[notify] signing_key"),
        ({"on": ["always"]}, "[notify] on"),
        ({"textfile": "night.txt"}, "ends with .prom"),
    ],
)
def test_a_wrong_setting_is_said_without_secrets(notify: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as raised:
        configured(**notify)
    assert expected in str(raised.value) and TOKEN not in str(raised.value)


def test_secrets_are_hidden_in_any_message_in_whole_and_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_AE__NOTIFY__SIGNING_KEY", "signing-key")
    log = {"url": "postgresql://reader:p%40ssw0rd@db/shop", "query": "select 1"}
    config = make_config({"log": log, "notify": {"url": f"https://hooks.example/services/{TOKEN}?key=abcdef"}})
    text = f"signing-key {log['url']} p%40ssw0rd p@ssw0rd services/{TOKEN} key=abcdef reader db"
    assert hidden(config, text) == "*** *** *** *** *** *** reader db"
    config = make_config({"log": {"dataset": "synthetic"}, "tracking": {"url": "postgresql://me:hunter-2@secretpart@db/x"}})
    text = 'me hunter-2 could not translate host name "secretpart@db"'
    assert hidden(config, text) == 'me *** could not translate host name "***@db"'


def families(path: Path) -> dict[str, dict[tuple[str, ...], float]]:
    """By name without its prefix, values by labels other than `project`; every family is explained and a gauge."""
    found = {}
    for family in text_string_to_metric_families(path.read_text("utf-8")):
        assert family.type == "gauge" and family.documentation.endswith(".")
        assert all(sample.labels.pop("project") for sample in family.samples)
        name = family.name.removeprefix("recsys_ae_night_")
        found[name] = {tuple(sample.labels[label] for label in sample.labels): sample.value for sample in family.samples}
    return found


def test_the_textfile_has_the_figures_of_the_night(tmp_path: Path) -> None:
    config = configured(textfile=tmp_path / "night.prom", project='a "shop"\\')
    before = os.umask(0o077)
    try:
        textfile.write(config, record(config, tmp_path))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "night.prom").stat().st_mode) == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["night.prom"]
    assert 'project="a \\"shop\\"\\\\"' in (tmp_path / "night.prom").read_text()
    found = families(tmp_path / "night.prom")
    begin = 1795486620.0  # date --utc --date '2026-11-24 02:17' +%s
    assert found["start_timestamp_seconds"] == {(): begin} and found["end_timestamp_seconds"] == {(): begin + 723.5}
    assert found["last_success_timestamp_seconds"] == {(): begin + 723.5} and found["duration_seconds"] == {(): 723.5}
    assert found["outcome"] == {("published",): 1, ("refused",): 0, ("failed",): 0}
    assert found["version_info"] == {("v2",): 1}
    assert found["stage_duration_seconds"].keys() == {("split",), ("train ease",), ("gate",), ("score",)}
    assert found["stage_reused"][("train ease",)] == 1 and found["stage_reused"][("gate",)] == 0
    assert (found["rows_read"], found["rows_kept"]) == ({(): 1200}, {(): 1000})
    assert found["rows_dropped"] == {("missing_id",): 200, ("repeated",): 0}
    assert (found["users"], found["items"], found["score_rows"]) == ({(): 600}, {(): 80}, {(): 3000})
    assert found["gate_ratio"] == {(): 1.25} and found["warnings"] == {(): 1}
    means = {labels[-1]: value for labels, value in found["metric"].items()}
    assert means == {"candidate": 0.5, "current": 0.4, "popularity": 0.25}


def test_a_failed_night_keeps_the_last_success_and_says_nothing_of_what_it_did_not_reach(tmp_path: Path) -> None:
    config = configured(textfile=tmp_path / "night.prom")
    textfile.write(config, failed(config, tmp_path))
    found = families(tmp_path / "night.prom")
    assert found["outcome"][("failed",)] == 1 and found["version_info"] == {("v1",): 1}
    assert found["end_timestamp_seconds"][()] - found["last_success_timestamp_seconds"][()] == 86403.5
    assert found["rows_kept"] == {(): 1000} and not {"gate_ratio", "metric", "score_rows"} & set(found)
    assert found["stage_duration_seconds"].keys() == {("split",)}
    (tmp_path / "night.prom").write_text("of the night before")
    textfile.write(config, record(config, tmp_path, outcome="killed", ended=None))
    assert (tmp_path / "night.prom").read_text() == "of the night before"


def test_the_summary_says_what_an_engineer_asks_in_plain_text(tmp_path: Path) -> None:
    config = configured()
    assert night_summary(record(config, tmp_path)).splitlines() == [
        "shop: published v2, after 12 min 4 s",
        "  run       2026-11-24 02:17 UTC to 2026-11-24 02:29 UTC, process 17 on db1",
        "  gate      ease reaches ndcg@10 0.5000 on 2,000 held-out users",
        "            the model before 0.4000, ratio 1.2500 (difference +0.0500 to +0.1500, 95 %)",
        "            popularity 0.2500",
        "  data      600 users, 80 items",
        "  rows      1,200 read, 1,000 kept",
        "            200 dropped: missing id",
        "  stages    split       1.5 s",
        "            train ease  done before, not again",
        "            gate        1.5 s",
        "            score       1.5 s",
        "  warnings  fewer rows than usual",
        f"  scores    3,000 rows for 600 users in {Path('scores/v2').resolve()}",
    ]
    lines = night_summary(failed(config, tmp_path)).splitlines()
    assert lines[0] == "shop: failed at stage train ease, after 12 min 4 s"
    assert "            train ease  failed" in lines and lines[-1].endswith("v1 was the last, 2026-11-23 02:29 UTC")
    assert [duration(s) for s in (0, 9.94, 9.96, 59.6, 3599.6, 7500)] == [
        "0.0 s",
        "9.9 s",
        "10 s",
        "1 min 0 s",
        "1 h 0 min",
        "2 h 5 min",
    ]


def test_a_damaged_evaluation_is_a_warning_of_the_record(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report/report.html").touch()
    (tmp_path / "report/evaluation.json").write_text('{"models": {"ease": {"warnings": ["few users"]}}}')
    assert record(configured(), tmp_path).warnings == ("fewer rows than usual", "ease: few users")
    (tmp_path / "report/evaluation.json").write_text("{")
    assert "cannot be read" in record(configured(), tmp_path).warnings[1]
    assert failed(configured(), tmp_path).warnings == ("fewer rows than usual",)  # what lies there is of another night


def test_a_killed_run_is_told_by_the_next_one_and_once(hook: Hook, tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys\n"
        "from pipelines.journal import Journal\n"
        f"VERDICT = {VERDICT!r}\n"
        "with Journal(pathlib.Path(sys.argv[1])).run(forced=False) as journal:\n"
        "    journal.stage('gate', {}, lambda: VERDICT, lambda _: False)\n"
        "    journal.stage('train ease', {}, lambda: os.kill(os.getpid(), 9), lambda _: False)\n"
    )
    folder = tmp_path / "nightly"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", code, str(folder)], env=env, check=False)
    assert killed.returncode == -signal.SIGKILL
    config, heard = configured(url=hook.url), []
    journal = Journal(folder, lambda journal, state: tell(config, heard.append, journal, state))
    with journal.run(forced=False):
        assert [each.outcome for each in heard] == ["killed"]  # at once, not when this run is over
        journal.end("published", version="v1")
    with journal.run(forced=False):
        journal.end("published", version="v1")
    assert [each.outcome for each in heard] == ["killed", "published", "published"]
    assert "was killed at stage train ease" in hook.bodies[0]["text"] and len(hook.got) == 1
    assert hook.bodies[0]["outcome"] == "killed" and hook.bodies[0]["ended"] is None
    events = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    (noted,) = (event for event in events if event["event"] == "killed")
    assert noted["started"] == heard[0].started and noted["process"] == heard[0].process != os.getpid()
    assert "was killed at stage train ease" in night_summary(heard[0])


def test_two_at_once_is_told_to_nobody(tmp_path: Path) -> None:
    heard: list[NightRecord] = []
    config = configured()
    with (
        Journal(tmp_path).run(),
        pytest.raises(BusyError),
        Journal(tmp_path, lambda j, s: tell(config, heard.append, j, s)).run(),
    ):
        pass
    assert heard == []


def test_a_failing_night_is_told_and_failing_to_tell_changes_nothing(
    hook: Hook, command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(webhook, "PAUSES", (0, 0))
    split = '[split]\nby = "hash"\nsalt = "s"\n'
    tracking = '[tracking]\nmlflow = true\nurl = "nonsense://host/db"\n'
    notify = f'[notify]\nurl = "{hook.url}"\ntextfile = "nowhere/night.prom"\n'
    Path("run.toml").write_text(f'{split}{notify}{tracking}[log]\npath = "missing-{TOKEN}.csv"\n')
    hook.answers = [500]
    monkeypatch.setitem(sys.modules, "mlflow", None)
    code, out, err = command("nightly", "run.toml")
    assert code == 2 and out == "" and "Traceback" not in err and len(hook.got) == 3
    lines = err.splitlines()
    assert lines[0].startswith("not told to textfile: ") and "nowhere" in lines[0]
    assert lines[1].startswith("not told to mlflow: ") and "pip install 'recsys-ae[mlflow]'" in lines[1]
    assert lines[2] == "not told to webhook: answered 500; expected 2xx"
    assert (
        lines[3].startswith("recsys-ae: failed at stage ingest, after ")
        and lines[-1].startswith("error: ")
        and "missing" in lines[-1]
    )
    log = (tmp_path / "runs/nightly/log.jsonl").read_text()
    untold = [event for event in map(json.loads, log.splitlines()) if event["event"] == "untold"]
    assert [event["sink"] for event in untold] == ["textfile", "mlflow", "webhook"]
    assert hook.url not in log and hook.url not in err
    assert hook.bodies[0]["outcome"] == "failed" and "missing" in hook.bodies[0]["error"]
    assert read_sealed(tmp_path / "runs/nightly/run.json")["outcome"] == "failed"


def test_a_databases_password_is_told_to_nobody(
    hook: Hook, command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    split = '[split]\nby = "hash"\nsalt = "s"\n'
    log = f'[log]\nurl = "postgresql://reader:{TOKEN}@127.0.0.1:1/shop"\ntable = "events"\n'
    Path("run.toml").write_text(f'{split}{log}[notify]\nurl = "{hook.url.replace(TOKEN, "open")}"\n')
    code, _, err = command("nightly", "run.toml")
    assert code != 0 and len(hook.got) == 1 and hook.bodies[0]["outcome"] == "failed"
    assert TOKEN not in err and TOKEN not in hook.got[0][1].decode()
    assert TOKEN not in "".join(path.read_text() for path in (tmp_path / "runs/nightly").iterdir())


NIGHT = """
[log]
path = "events.parquet"
[split]
by = "hash"
salt = "s"
validation_users = 0.2
test_users = 0.2
[evaluation]
ks = [10]
map = "none"
[publish]
metric = "ndcg@10"
[score]
k = 5
[tracking]
mlflow = true
url = "sqlite:///logged.db"
experiment = "shop"
[[models]]
name = "ease"
[[models]]
name = "mult_dae"
latent = 4
epochs = 2
"""


@pytest.mark.slow
def test_nights_and_trainings_are_logged_to_mlflow_and_a_night_once(
    command: Run, hook: Hook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    pq.write_table(datasets.synthetic(n_users=200, n_items=80, seed=3).events, "events.parquet")
    notify = f'[notify]\nurl = "{hook.url}"\non = ["published"]\ntextfile = "night.prom"\n'
    Path("run.toml").write_text(NIGHT + notify)
    nights = [command("nightly", "run.toml", "--json"), command("nightly", "run.toml")]
    assert [code for code, _, _ in nights] == [0, 0], nights
    first = json.loads(nights[0][1])
    assert nights[1][1].startswith(f"recsys-ae: published {first['version']}") and "not told" not in nights[0][2] + nights[1][2]
    assert [body["version"] for body in hook.bodies] == [first["version"]] * 2
    assert hook.bodies[0]["id"] != hook.bodies[1]["id"] and Path(hook.bodies[0]["report"]).is_file()
    assert "gate_ratio" not in families(Path("night.prom"))  # the first version has none before it
    assert command("train", "run.toml", "--promote")[0] == 0

    from mlflow import MlflowClient

    client = MlflowClient("sqlite:///logged.db")
    experiment = client.get_experiment_by_name("shop")
    runs = {run.info.run_name.partition(" ")[0]: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"night", "train"} and len(client.search_runs([experiment.experiment_id])) == 2
    night, training = runs["night"], runs["train"]
    assert night.info.status == "FINISHED" and night.data.tags["recsys_ae.outcome"] == "published"
    assert night.data.tags["recsys_ae.version"] == first["version"]
    assert not {"mlflow.source.git.commit", "mlflow.user"} & set(night.data.tags)
    params = night.data.params
    assert (params["model.mult_dae.latent"], params["model.ease"], params["split.by"], params["seed"]) == (
        "4",
        "ease",
        "hash",
        "0",
    )
    document = json.loads(Path("runs/nightly/report/evaluation.json").read_text())
    assert params["data.digest"] == document["data"]["digest"]
    for key, entry in document["models"].items():
        assert night.data.metrics[f"test/{key}/ndcg_at_10"] == entry["metrics"]["ndcg@10"]["mean"]
    twin = read_sealed(Path("runs/nightly/models/mult_dae/twin/manifest.json"))["fit"]
    curve = client.get_metric_history(night.info.run_id, "curve/mult_dae/validation")
    assert [(point.step, point.value) for point in curve] == list(enumerate(twin["validation"], 1))  # not twice
    assert "gate/ratio" not in night.data.metrics and "curve/ease/loss" not in night.data.metrics
    registry = Registry(tmp_path / "registry")
    for run, version in ((night, first["version"]), (training, registry.current())):
        place = Path(run.info.artifact_uri)
        assert (place / "model/model.safetensors").read_bytes() == (registry.path / version / "model.safetensors").read_bytes()
        assert sorted(path.name for path in (place / "model").iterdir()) == ["items.json", "manifest.json", "model.safetensors"]
    assert sorted(path.path for path in client.list_artifacts(night.info.run_id)) == ["evaluation.json", "model", "report.html"]
    assert training.data.tags["recsys_ae.version"] == registry.current()
    assert training.data.metrics["validation/ease/ndcg_at_10"] == night.data.metrics["validation/ease/ndcg_at_10"]


@pytest.mark.slow
def test_mlflow_is_imported_only_where_it_is_asked_for_and_sends_nothing_home() -> None:
    pytest.importorskip("mlflow")
    code = (
        "import sys, threading\n"
        "import pipelines.nightly\n"
        "from pipelines.telling import tracking\n"
        "assert 'mlflow' not in sys.modules and 'prometheus_client' in sys.modules\n"
        "with tracking._mlflow() as mlflow:\n"
        "    assert mlflow.telemetry.get_telemetry_client() is None\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
    )
    hints = ("PYTEST", "CI", "DO_NOT_TRACK", "MLFLOW")  # by which MLflow itself would keep quiet
    env = {name: value for name, value in os.environ.items() if not name.startswith(hints)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**env, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
