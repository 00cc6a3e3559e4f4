"""registry: pins, traffic and check on the command line; a night does not touch an A/B test in progress."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines.config import make_config
from pipelines.nightly import tidy
from recsys_ae import Registry, datasets
from recsys_ae.sealed import read_sealed
from tests.pipelines.conftest import Run
from tests.unit.test_registry import artifact_of, publish

NIGHT = """
[log]
path = "events.parquet"
[split]
by = "hash"
salt = "s"
test_users = 0.25
[evaluation]
ks = [10]
map = "none"
[publish]
metric = "ndcg@10"
keep = 2
[[models]]
name = "ease"
[score]
k = 5
"""
AT = ("--registry", "registry")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Three versions, the last of them current."""
    monkeypatch.chdir(tmp_path)
    store = Registry("registry")
    for name in ("a", "b", "c"):
        publish(store, model_id=name, twin=artifact_of("ease"))
    store.promote(store.versions()[2])
    return store


def test_pins_and_shares_are_shown_beside_the_versions(store: Registry, command: Run) -> None:
    one, two, three = store.versions()
    assert command("registry", "pin", one, "--note", "the [reference]", *AT)[0] == 0
    code, said, err = command("registry", "traffic", f"{two}=25%", f"{three}=75%", "--salt", "s", "--json", *AT)
    assert code == 0, err
    assert json.loads(said) == {"current": three, "traffic": {"shares": {two: 0.25, three: 0.75}, "salt": "s"}}
    rows = json.loads(command("registry", "list", "--json", *AT)[1])
    told = [(row["version"], row["pinned"], row["note"], row["traffic"]) for row in rows]
    assert told == [(one, True, "the [reference]", 0), (two, False, "", 0.25), (three, False, "", 0.75)]
    assert json.loads(command("registry", "show", two, "--json", *AT)[1])["traffic"] == 0.25
    table = command("registry", "list", *AT)[1]
    assert all(word in table for word in (one, "[reference]", "0.25", "0.75"))
    assert "0.25" in command("registry", "traffic", *AT)[1]
    assert command("registry", "unpin", one, *AT)[0] == 0 and store.pins() == {}
    code, said, _ = command("registry", "traffic", "--clear", *AT)
    assert code == 0 and "no A/B test" in said and store.traffic() is None
    assert json.loads(command("registry", "list", "--json", *AT)[1])[0]["traffic"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["V"], "expected VERSION=SHARE"),
        (["V=much"], "expected VERSION=SHARE"),
        (["V=1", "V=0"], "each version once"),
        (["V=0.5"], "sum to 0.5"),
        (["V=0.5", "nowhere=0.5"], "no version 'nowhere'"),
        (["V=1", "--clear"], "without shares"),
        (["--salt", "s"], "expected VERSION=SHARE too"),
    ],
)
def test_wrong_shares_are_one_message_and_change_nothing(
    store: Registry, command: Run, arguments: list[str], said: str
) -> None:
    named = [argument.replace("V", store.versions()[0], 1) for argument in arguments]
    code, _, err = command("registry", "traffic", *named, *AT)
    assert code == 2 and said in err and "Traceback" not in err
    assert store.traffic() is None


def test_check_names_every_damaged_file_and_ends_with_1(store: Registry, command: Run) -> None:
    one, two, three = store.versions()
    assert command("registry", "check", "--all", *AT)[0] == 0
    for name in ("twin/model.safetensors", "histories.safetensors"):
        path = store.path / two / name
        path.write_bytes(path.read_bytes() + b"\0")
    store.set_traffic({three: 1})
    (store.path / "traffic.json").write_text("{}")
    code, said, err = command("registry", "check", "--all", "--json", *AT)
    found = json.loads(said)
    assert code == 1 and {name: len(lines) for name, lines in found.items()} == {"registry": 1, one: 0, two: 2, three: 0}
    assert f"{two}/twin/model.safetensors: is damaged" in err and "traffic.json: is damaged" in err
    code, said, err = command("registry", "check", two, *AT)
    assert code == 1 and f"{two} is damaged" in said and "histories.safetensors: is damaged" in err
    code, said, _ = command("registry", "check", *AT)
    assert code == 0 and said == f"{three} is whole\n"
    assert command("registry", "check", two, "--all", *AT)[0] == 2
    code, _, err = command("registry", "list", *AT)
    assert code == 1 and "traffic.json: is damaged" in err


def test_promote_and_roll_back_say_that_an_ab_test_goes_on(store: Registry, command: Run) -> None:
    one, two, three = store.versions()
    assert command("registry", "promote", two, *AT)[2] == ""
    store.set_traffic({one: 0.5, three: 0.5})
    for arguments in (("promote", one), ("rollback",)):
        code, _, err = command("registry", *arguments, *AT)
        assert code == 0 and "A/B test is in progress" in err and "traffic --clear" in err
    assert store.current() == two


@pytest.mark.slow
def test_a_night_leaves_an_ab_test_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Run) -> None:
    monkeypatch.chdir(tmp_path)
    events = datasets.synthetic(n_users=200, n_items=70, seed=3).events
    Path("run.toml").write_text(NIGHT)

    def night(rows: int) -> tuple[dict[str, Any], str]:
        pq.write_table(events.slice(0, rows), "events.parquet")
        code, said, err = command("nightly", "run.toml", "--force", "--json")
        assert code == 0, err
        return json.loads(said), err

    first, err = night(5_000)
    assert len(first["warnings"]) == 1 and "held-out users" in first["warnings"][0] == err.strip()
    store = Registry("registry")
    test = store.set_traffic({first["version"]: 1})
    second, err = night(len(events))
    assert store.current() == second["version"] != first["version"] and store.traffic() == test
    assert len(second["warnings"]) == 2 and f"{first['version']} 1" in second["warnings"][1] and "A/B test" in err
    assert read_sealed(Path("runs/nightly/run.json"))["stages"]["tidy"]["result"]["warnings"] == second["warnings"][1:]


def test_what_hinders_pruning_is_told_and_stops_no_night(store: Registry) -> None:
    config = make_config({"log": {"dataset": "synthetic"}, "publish": {"keep": 2}})
    one, two, three = store.versions()
    path = store.path / "pins.json"
    store.pin(one)
    whole = path.read_text()
    path.write_text("{}")
    (told,) = tidy(config)
    assert "no version was pruned" in told and "pins.json: is damaged" in told
    path.write_text(whole)
    assert tidy(config) == [] and store.versions() == [one, two, three]
    store.unpin(one)
    assert tidy(config) == [] and store.versions() == [two, three]
