"""nightly: publishes, refuses, goes on where it broke off, and never leaves a worse or a broken model serving."""

import fcntl
import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks import chaos
from benchmarks import gate as simulated
from pipelines import gate
from pipelines.config import load_config
from pipelines.ingest import split_dataset
from recsys_ae import Artifact, Holdout, Registry, datasets, evaluate
from recsys_ae.evaluation import Evaluation
from recsys_ae.sealed import read_sealed
from tests.pipelines.conftest import Run

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
[publish]
metric = "ndcg@10"
keep = 2
[score]
k = 5
users_per_file = 200
"""
GOOD = '[[models]]\nname = "ease"\n[[models]]\nname = "mult_dae"\nlatent = 16\nepochs = 3\n'
BAD = '[[models]]\nname = "mult_dae"\nlatent = 2\nepochs = 1\n'


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The first of three quarters of 600 users' events; the rest comes another night."""
    events = datasets.synthetic(n_users=600, n_items=80, seed=3).events
    pq.write_table(events, tmp_path / "all.parquet")
    frame = events.to_pandas().sort_values("timestamp", kind="stable")
    frame.iloc[: len(frame) * 3 // 4].to_parquet(tmp_path / "events.parquet", index=False)
    (tmp_path / "run.toml").write_text(CONFIG + GOOD)
    (tmp_path / "bad.toml").write_text(CONFIG + BAD)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(home: Path, command: Run) -> Run:
    """A command in the home folder."""
    return command


def night(run: Run, *arguments: str) -> dict[str, Any]:
    code, said, err = run("nightly", "run.toml", "--json", *arguments)
    assert code == 0, err
    return dict(json.loads(said))


def test_nights_publish_do_nothing_twice_and_take_in_what_is_new(run: Run, home: Path) -> None:
    first = night(run)
    registry = Registry(home / "registry")
    assert registry.current() == first["version"] and first["reused"] == [] and first["gate"]["current"] is None
    assert (home / "runs/nightly/report/report.html").is_file()
    assert pq.read_table(first["scores"]).num_rows == 5 * read_sealed(home / "scores/scores.json")["users"]
    for _ in range(2):  # what was published tonight is compared with what it replaced, not with itself
        again = night(run)
        assert again["version"] == first["version"] and again["gate"] == first["gate"]
        assert set(again["reused"]) == {"ingest", "train ease", "train mult_dae", "gate", "publish", "score"}
    (home / "all.parquet").replace(home / "events.parquet")
    third = night(run)
    assert third["gate"] == night(run)["gate"] and third["gate"]["users"] > 100
    assert third["version"] != first["version"] and third["reused"] == []
    assert third["gate"]["ratio"] > 0.98 and registry.versions() == [first["version"], third["version"]]
    state = read_sealed(home / "runs/nightly/run.json")
    order = ["read", "ingest", "split", "checks", "train ease", "train mult_dae", "gate", "publish", "tidy", "score"]
    assert list(state["stages"]) == order
    assert state["outcome"] == "published" and state["stages"]["ingest"]["result"]["cleaning"]["kept"] > 0
    lines = [json.loads(line) for line in (home / "runs/nightly/log.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines].count("begin") == 5 and lines[-1]["outcome"] == "published"


@pytest.mark.slow
def test_nights_from_a_database_read_what_is_new(run: Run, home: Path) -> None:
    events = pq.read_table(home / "events.parquet").to_pandas()
    events["id"] = events["changed"] = np.arange(len(events))
    source = 'url = "sqlite:///shop.db"\ntable = "events"\nevent_id = "id"\nsince = "changed"\nsince_overlap = 10\n'
    (home / "run.toml").write_text(CONFIG.replace('path = "events.parquet"\n', source) + '[[models]]\nname = "ease"\n')
    con = sqlite3.connect(home / "shop.db")
    events.iloc[:-50].to_sql("events", con, index=False)
    first = night(run)
    read = read_sealed(home / "runs/nightly/run.json")["stages"]["read"]["result"]["facts"]
    assert read == {"rows": len(events) - 50, "read": len(events) - 50, "whole": "the first time"}
    assert "ingest" in night(run)["reused"]
    events.iloc[-50:].to_sql("events", con, index=False, if_exists="append")
    con.close()
    assert night(run)["version"] != first["version"]
    read = read_sealed(home / "runs/nightly/run.json")["stages"]["read"]["result"]["facts"]
    assert read == {"rows": len(events), "read": 61, "whole": None}
    log = (home / "runs/log.parquet").read_bytes()
    code, out, err = run("ingest", "run.toml", "--full", "--json")
    assert code == 0, err
    assert json.loads(out)["source"] == {"rows": len(events), "read": len(events), "whole": "asked for"}
    assert (home / "runs/log.parquet").read_bytes() == log
    assert f"read {len(events)} events" in run("ingest", "run.toml", "--full")[1].replace(",", "")


def test_a_damaged_clean_log_is_made_again(run: Run, home: Path) -> None:
    night(run)
    path = home / "runs/log.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "ingest" not in night(run)["reused"]
    assert path.read_bytes() == whole


def test_the_gate_refuses_and_yesterdays_model_goes_on_serving(run: Run, home: Path) -> None:
    good = night(run)["version"]
    code, out, err = run("nightly", "bad.toml")
    assert code == 3 and "expected at least 0.98" in err and "report.html" in err and "Traceback" not in err
    registry = Registry(home / "registry")
    assert registry.current() == good and registry.versions() == [good]
    assert read_sealed(home / "runs/nightly/run.json")["outcome"] == "refused"
    code, out, err = run("nightly", "bad.toml", "--force", "--json")
    assert code == 0, err
    forced = json.loads(out)
    assert forced["forced"] and registry.current() == forced["version"] != good
    assert registry.manifest()["forced"] and not registry.manifest()["gate"]["passed"]
    assert registry.rollback() == good


def test_the_twin_has_not_seen_the_held_out_users_and_stays_beside_the_model(run: Run, home: Path) -> None:
    version = night(run)["version"]
    registry = Registry(home / "registry")
    twin, (artifact, stored) = registry.twin(version), registry.load(version)
    assert twin is not None
    assert twin.manifest["data"]["users"] < artifact.manifest["data"]["users"] == len(stored.users)
    document = json.loads((home / "runs/nightly/report/evaluation.json").read_text())
    assert twin.manifest["data"]["users"] == document["split"]["train_users"]
    assert document["models"]["ease"]["warnings"] == []


def test_a_current_model_that_has_seen_the_held_out_users_gains_nothing_by_it(run: Run, home: Path) -> None:
    (home / "run.toml").write_text(CONFIG + '[[models]]\nname = "ease"\n')
    version = night(run)["version"]
    (home / "run.toml").write_text(CONFIG + '[[models]]\nname = "ease"\nregularisation = 450.0\n')
    verdict = night(run)["gate"]
    config = load_config(home / "run.toml")
    test = split_dataset(config)[0].test
    registry = Registry(home / "registry")
    twin, (artifact, stored) = registry.twin(version), registry.load(version)
    assert twin is not None and set(test.users.ids) <= set(stored.users.ids)

    def ndcg(saved: Artifact) -> float:
        columns = saved.items.positions(twin.items.ids)
        fold_in = test.fold_in.remap(columns, len(saved.items))
        held_out = test.held_out.remap(columns, len(saved.items))
        return evaluate(saved.model, Holdout(test.users, fold_in, held_out), (10,)).scores["ndcg@10"].mean

    assert verdict["current"] == pytest.approx(ndcg(twin), rel=1e-9) and verdict["ratio"] == pytest.approx(1, abs=0.05)
    assert ndcg(artifact) > 1.05 * verdict["current"]  # what it would have been judged by


def test_a_current_version_without_a_twin_is_judged_itself_and_warned_of(run: Run, home: Path) -> None:
    (home / "ease.toml").write_text(CONFIG + '[[models]]\nname = "ease"\n')
    assert run("train", "ease.toml", "--promote")[0] == 0
    code, _, err = run("nightly", "ease.toml")  # tonight's twin beside a model that has seen the test users
    document = json.loads((home / "runs/nightly/report/evaluation.json").read_text())
    assert "too good" in document["models"]["current"]["warnings"][0]
    means = {key: entry["metrics"]["ndcg@10"]["mean"] for key, entry in document["models"].items()}
    assert means["current"] > means["ease"]
    assert code in (0, 3), err


def test_a_split_that_flatters_is_refused(run: Run, home: Path) -> None:
    (home / "seeded.toml").write_text(CONFIG.replace('by = "hash"\nsalt = "nights"\n', "") + GOOD)
    code, _, err = run("nightly", "seeded.toml")
    assert code == 2 and 'by = "hash"' in err
    assert not (home / "runs").exists()


@pytest.mark.parametrize("key", ["current", "popularity"])
def test_a_model_called_as_the_gate_calls_its_own_is_refused(run: Run, home: Path, key: str) -> None:
    (home / "named.toml").write_text(CONFIG + f'[[models]]\nname = "ease"\nid = "{key}"\n')
    code, _, err = run("nightly", "named.toml")
    assert code == 2 and repr(key) in err and "another id" in err
    assert not (home / "runs").exists()


@pytest.mark.slow
def test_stages_of_models_that_are_gone_are_not_told(run: Run, home: Path) -> None:
    night(run)
    night(run)
    (home / "run.toml").write_text(CONFIG + '[[models]]\nname = "ease"\n')
    assert "train ease" in (again := night(run))["reused"] and "train mult_dae" not in again["reused"]


def test_one_run_at_a_time(run: Run, home: Path) -> None:
    folder = home / "runs/nightly"
    folder.mkdir(parents=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("4711")
        lock.flush()
        code, _, err = run("nightly", "run.toml")
    assert code == 1 and "another run" in err and "4711" in err
    assert run("nightly", "run.toml")[0] == 0  # the lock of a process that is gone holds nobody


def test_an_empty_night_publishes_nothing(run: Run, home: Path) -> None:
    good = night(run)["version"]
    pq.write_table(pq.read_table(home / "events.parquet").slice(0, 0), home / "events.parquet")
    code, _, err = run("nightly", "run.toml")
    assert code == 2 and "events.parquet" in err and "Traceback" not in err
    assert Registry(home / "registry").current() == good
    state = read_sealed(home / "runs/nightly/run.json")
    assert state["outcome"] == "failed" and "events.parquet" in state["error"]


def test_a_damaged_model_of_the_night_is_made_again(run: Run, home: Path) -> None:
    first = night(run)
    path = home / "runs/nightly/models/ease/whole/model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    again = night(run)
    assert "train ease" not in again["reused"] and "train mult_dae" in again["reused"]
    assert again["version"] == first["version"]  # the same bytes as before


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_and_ends_with_the_same_bits(tmp_path: Path) -> None:
    """The small version of `benchmarks/chaos.py`."""
    world = chaos.World(tmp_path / "world", chaos.CONFIG, n_users=150, n_items=70)
    found = chaos.chaos(world, chaos.undisturbed(world), 5, np.random.default_rng(0))
    assert found.faults == []
    assert len(found.kills) == 5 and found.nights == 2 * found.rounds


def evaluation(values: np.ndarray) -> Evaluation:
    nothing = np.empty((len(values), 0), np.int32)
    return Evaluation({"ndcg@10": values}, {}, 0.0, (), {}, nothing, np.empty(0, np.int32))


@pytest.mark.slow
def test_the_gate_passes_equals_and_refuses_the_damaged() -> None:
    """The small version of `benchmarks/gate.py`: 2,000 held-out users a night, real models."""
    split = simulated.world(6_000, 100, 0.9, seed=0)
    nights = [simulated.night(split, "ease", {}, 2_000, seed) for seed in range(12)]
    found = simulated.summed(nights)
    assert found["equal"]["published"] == 1
    assert found["damaged"]["published"] == 0
    assert found["damaged"]["ratio_mean"] < 0.975 < found["equal"]["ratio_mean"]
    # to have seen the held-out users would have been worth more than the gate allows
    assert found["beside_seen"]["ratio_mean"] < found["equal"]["ratio_mean"] - 0.02


def test_what_does_not_beat_popularity_is_refused() -> None:
    values = np.linspace(0, 1, 50)
    verdict = gate.judge("tonight", evaluation(values), evaluation(values), None, metric="ndcg@10", min_ratio=0.98, seed=0)
    assert not verdict.passed and "popularity" in verdict.reasons[0] and verdict.ratio is None
    assert gate.Verdict.from_json(json.loads(json.dumps(verdict.as_json()))) == verdict


@pytest.mark.slow
def test_a_twin_that_may_have_met_tonights_users_is_no_measure(run: Run, home: Path) -> None:
    lenient = CONFIG.replace("keep = 2", "keep = 2\nmin_ratio_to_current = 0.9") + '[[models]]\nname = "ease"\n'
    (home / "run.toml").write_text(lenient)
    good = night(run)["version"]
    wider = lenient.replace("test_users = 0.25", "test_users = 0.35")
    (home / "run.toml").write_text(wider)  # 0.15 + 0.25 were kept from the twin, so these 0.35 were
    assert night(run)["gate"]["current"] is not None
    (home / "run.toml").write_text(lenient.replace('salt = "nights"', 'salt = "days"'))
    code, _, err = run("nightly", "run.toml")
    assert code == 3 and "cannot be compared: [split] was another" in err and "--force once" in err
    assert Registry(home / "registry").current() != good  # the second one's
    assert night(run, "--force")["forced"]
    assert night(run)["forced"]  # it is current: a second run takes nothing back


def test_another_catalogue_is_compared_as_one_of_misses(run: Run, home: Path) -> None:
    (home / "run.toml").write_text(CONFIG + '[[models]]\nname = "ease"\n')
    night(run)
    table = pq.read_table(home / "events.parquet").to_pandas()
    table["item_id"] += 1_000
    table.to_parquet(home / "events.parquet", index=False)
    code, out, err = run("nightly", "run.toml", "--json", "--force")
    assert code == 0, err
    assert json.loads(out)["gate"]["current"] == 0


def test_what_fails_after_publishing_says_what_serves(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "run.toml").write_text(CONFIG + '[[models]]\nname = "ease"\n')

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "scores")

    with monkeypatch.context() as patch:
        patch.setattr("pipelines.nightly.score", full)
        code, out, err = run("nightly", "run.toml", "--json")
    current = Registry(home / "registry").current()
    assert code == 1 and f"published {current}, but failed at stage score" in err
    assert json.loads(out)["version"] == current == json.loads(out)["last_success"]["version"]
    assert night(run)["version"] == current


@pytest.mark.parametrize("score", ['exclude = "nope.csv"', 'url = "nodb://here/x"\ntable = "lists"'])
def test_what_the_lists_would_lack_is_said_before_anything_is_trained(run: Run, home: Path, score: str) -> None:
    (home / "run.toml").write_text(CONFIG.replace("[score]\n", f"[score]\n{score}\n") + '[[models]]\nname = "ease"\n')
    code, _, err = run("nightly", "run.toml")
    assert code == 2 and ("nope.csv" in err or "driver" in err)
    assert not (home / "registry").exists() and not (home / "runs/log.parquet").exists()


@pytest.mark.slow
def test_new_titles_and_rules_are_in_tonights_model(run: Run, home: Path) -> None:
    items = '[items]\npath = "items.csv"\ntitle = "title"\n'
    (home / "run.toml").write_text(CONFIG.replace("[split]", items + "[split]") + '[[models]]\nname = "ease"\n')
    (home / "items.csv").write_text("item_id,title\n1,Old\n")
    night(run)
    (home / "items.csv").write_text("item_id,title\n1,New\n")
    assert "train ease" not in night(run)["reused"]
    artifact = Registry(home / "registry").load()[0]
    assert artifact.metadata.title(artifact.items.position(1)) == "New"
    rules = (home / "run.toml").read_text().replace("[log]\n", "[log]\nmax_history = 5000\n")
    (home / "run.toml").write_text(rules)
    night(run)
    assert Registry(home / "registry").load()[0].preprocessing.max_history == 5000


def test_few_held_out_users_are_warned_of(run: Run, home: Path) -> None:
    (home / "run.toml").write_text(CONFIG.replace("test_users = 0.25", "test_users = 0.05") + '[[models]]\nname = "ease"\n')
    code, _, err = run("nightly", "run.toml")
    assert code == 0 and "below 100 chance decides" in err


@pytest.mark.slow
def test_json_of_a_refused_night_is_its_record(run: Run, home: Path) -> None:
    night(run)
    code, out, _ = run("nightly", "bad.toml", "--json")
    assert code == 3 and json.loads(out)["outcome"] == "refused" and json.loads(out)["gate"]["ratio"] < 0.98
