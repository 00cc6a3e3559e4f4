"""Checks of the data: planted faults are found, ordinary nights pass, and what stops leaves yesterday's model serving."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import jensenshannon

from pipelines import checks, nights
from pipelines.checks import Finding
from pipelines.config import make_config
from pipelines.evaluation.drift import jensen_shannon
from pipelines.ingest import clean_source, dataset
from recsys_ae import Registry, datasets
from recsys_ae.errors import CheckError, ConfigError
from recsys_ae.ids import IdMap
from recsys_ae.sealed import read_sealed
from tests.pipelines.conftest import Run

DAY = 86_400


@pytest.fixture(scope="module")
def events() -> pd.DataFrame:
    """18,000 events of 600 users, oldest first."""
    frame = datasets.synthetic(n_users=600, n_items=80, seed=3).events.to_pandas()
    return frame.sort_values("timestamp", kind="stable", ignore_index=True)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "runs/nightly"
    home.mkdir(parents=True)
    return home


def night(
    frame: pd.DataFrame, accept: bool = True, log: dict[str, Any] | None = None, now: float | None = None, **changes: Any
) -> dict[str, Finding]:
    """What the checks find in these events, by check; nothing is trained."""
    frame.to_parquet("events.parquet", index=False)
    config = make_config({"log": {"path": "events.parquet", **(log or {})}, "checks": changes})
    source = clean_source(config)
    home = Path("runs/nightly")
    tonight = checks.tonight_of(config, dataset(config, source), source.log.counts, home, now)
    findings = checks.look(config, tonight)
    if accept:
        checks.accept(config, tonight, findings, home)
    return {finding.check: finding for finding in findings}


def failed(found: dict[str, Finding]) -> set[str]:
    return {name for name, finding in found.items() if not finding.passed}


def state(folder: Path) -> list[dict[str, Any]]:
    return list(read_sealed(folder / "accepted.json")["nights"])


# --- ordinary nights ------------------------------------------------------------------------------------------------------


def test_the_first_night_has_nothing_to_compare_with(folder: Path, events: pd.DataFrame) -> None:
    found = night(events)
    assert failed(found) == set()
    compared = {"columns", "volume", "dropped", "new_users", "new_items", "drift"}
    assert {name for name, finding in found.items() if "no earlier night" in finding.message} == compared
    assert set(found) == compared | {"bots.heaviest", "future"}


def test_a_log_that_grows_and_one_that_slides_pass_every_night(folder: Path, events: pd.DataFrame) -> None:
    n = len(events)
    for each in range(7):
        found = night(events.iloc[: int(n * (0.3 + 0.05 * each))])
        assert failed(found) == set(), each
    for each in range(5):
        found = night(events.iloc[int(n * 0.05 * each) : int(n * 0.05 * each) + n // 2], nights=3)
        assert failed(found) == set(), each
    assert found["volume.kept"].found == 1  # all three nights of the median were as long
    assert len(state(folder)) == 3


def test_a_young_log_that_begins_with_one_day_passes(folder: Path, events: pd.DataFrame) -> None:
    shuffled = events.sample(len(events), random_state=0)
    for each in range(1, 10):
        found = night(shuffled.iloc[: 300 * each])
        assert not any(checks.stops(finding) for finding in found.values()), each


def test_a_night_is_counted_once(folder: Path, events: pd.DataFrame) -> None:
    for _ in range(3):
        night(events)
    assert len(state(folder)) == 1
    night(events.iloc[:12_000])
    night(events.iloc[:12_000])
    assert [each["kept"] for each in state(folder)] == [18_000, 12_000]
    assert len(list(folder.glob("accepted*"))) == 2


# --- planted faults -------------------------------------------------------------------------------------------------------


def test_a_source_shrunk_by_nine_tenths_stops(folder: Path, events: pd.DataFrame) -> None:
    night(events)
    found = night(events.iloc[:1_800], accept=False)
    assert {"volume.read", "volume.kept"} <= failed(found)
    assert found["volume.kept"].found == 0.1 and checks.stops(found["volume.kept"])
    with pytest.raises(CheckError, match=r"volume\.read.*1,800 rows read.*expected 0\.5 to 3.* \| volume\.kept"):
        checks.require(list(found.values()))
    assert failed(night(pd.concat([events] * 4), accept=False)) == {"volume.read", "dropped"}  # loaded four times over


def test_the_median_of_nights_is_not_moved_by_one_of_them(folder: Path, events: pd.DataFrame) -> None:
    for length in (9_000, 9_100, 4_600, 9_200):  # one night came short, and passed
        night(events.iloc[:length])
    assert failed(night(events.iloc[:4_500], accept=False)) >= {"volume.kept"}


@pytest.mark.parametrize("name", ["timestamp", "weight"])
def test_a_column_that_is_gone_stops(folder: Path, events: pd.DataFrame, name: str) -> None:
    night(events)
    found = night(events.drop(columns=name), accept=False)
    assert failed(found) == {"columns"} and checks.stops(found["columns"])
    assert found["columns"].message == f"{name} is gone" and f"{name} (" in found["columns"].expected


def test_ids_of_another_kind_stop_and_a_new_column_passes(folder: Path, events: pd.DataFrame) -> None:
    night(events.drop(columns="weight"))
    assert failed(night(events)) == set()
    found = night(events.assign(item_id="i" + events["item_id"].astype(str)), accept=False)
    assert found["columns"].message == "item_id is string, was integer"
    assert failed(found) == {"columns", "new_items", "drift"}


def test_an_event_type_that_is_used_no_more_stops(folder: Path, events: pd.DataFrame) -> None:
    night(events.assign(event_type="view"), log={"event_weights": {"view": 1.0}})
    assert night(events, accept=False)["columns"].message == "event_type is gone"


def test_rows_that_lose_their_ids_stop_with_their_cause(folder: Path, events: pd.DataFrame) -> None:
    night(events)
    holed = events.assign(item_id=events["item_id"].astype("Int64").where(np.arange(len(events)) % 3 > 0))
    found = night(holed, accept=False)
    assert failed(found) == {"dropped"} and found["dropped"].found == pytest.approx(1 / 3, abs=1e-3)
    assert found["dropped"].message.endswith("by missing_id")
    assert failed(night(events, log={"min_weight": 5.0}, accept=False)) >= {"dropped"}


def test_new_ids_are_counted_exactly(folder: Path, events: pd.DataFrame) -> None:
    night(events)
    users = events["user_id"].unique()
    renamed = events["user_id"].where(events["user_id"] != users[0], users.max() + 1)
    found = night(events.assign(user_id=renamed), accept=False)
    assert found["new_users"].found == pytest.approx(1 / 600, abs=1e-6) and found["new_items"].found == 0
    found = night(events.assign(user_id=events["user_id"] + 10**6, item_id=events["item_id"] + 10**6), accept=False)
    assert found["new_users"].found == found["new_items"].found == 1
    assert not checks.stops(found["new_users"]) and checks.stops(found["new_items"])


def test_drift_is_the_divergence_of_all_items_of_both_nights(folder: Path, events: pd.DataFrame) -> None:
    night(events)
    ranked = events["item_id"].value_counts().index.to_numpy()
    turned = dict(zip(ranked, ranked[::-1], strict=True))  # the best liked become the least liked, and the other way round
    turned[ranked[0]] = 10**6  # and one is new
    other = events.assign(item_id=events["item_id"].map(turned)).drop_duplicates(["user_id", "item_id"])
    found = night(other, accept=False)["drift"]
    one, two = (frame.drop_duplicates(["user_id", "item_id"])["item_id"].value_counts() for frame in (events, other))
    union = one.index.union(two.index)
    expected = jensenshannon(one.reindex(union, fill_value=0), two.reindex(union, fill_value=0), base=2) ** 2
    assert found.found == pytest.approx(expected, abs=1e-6)
    assert not found.passed and not checks.stops(found)
    assert f"a share of {(two[10**6] / two.sum()):.3g} on new items" in found.message


def test_the_divergence_is_0_of_like_and_1_of_unlike_and_a_group_counts_as_one() -> None:
    assert jensen_shannon(np.array([1, 2, 0]), np.array([10, 20, 0])) == 0
    assert jensen_shannon(np.array([1, 2, 0]), np.array([0, 0, 5])) == pytest.approx(1)
    assert jensen_shannon(np.array([5, 5, 0, 0]), np.array([5, 2, 1, 2])) == pytest.approx(
        jensen_shannon(np.array([5, 5, 0]), np.array([5, 2, 3]))
    )


def test_a_crawler_is_seen_without_rules_and_counted_with_them(folder: Path) -> None:
    rng = np.random.default_rng(0)
    people = pd.DataFrame({"user_id": np.repeat(np.arange(300), 10), "item_id": rng.integers(0, 3_000, 3_000)})
    crawler = pd.DataFrame({"user_id": 999, "item_id": np.arange(3_000)})
    both = pd.concat([people, crawler])
    assert failed(night(people)) == set()
    found = night(both, accept=False)
    assert found["bots.heaviest"].found == pytest.approx(0.5, abs=0.01) and "bots.heaviest" in failed(found)
    assert "bots.dropped" not in found
    ruled = night(both, accept=False, log={"max_user_events": 100})
    assert ruled["bots.dropped"].found == 0.5 and {"bots.dropped", "dropped"} == failed(ruled)


def test_freshness_is_asked_for_and_a_clock_set_back_is_told(folder: Path, events: pd.DataFrame) -> None:
    newest = int(events["timestamp"].max())
    assert "freshness" not in night(events, accept=False)
    for hours, passed in ((35, True), (37, False)):
        found = night(events, accept=False, now=newest + hours * 3_600, freshness={"max_age_hours": 36})
        assert found["freshness"].passed is passed and found["freshness"].found == hours
    assert checks.stops(found["freshness"])
    found = night(events, accept=False, now=newest - 200 * DAY, freshness={"max_age_hours": 36})
    late = float((events["timestamp"] > newest - 200 * DAY + 3_600).mean())
    assert found["freshness"].passed and found["future"].found == pytest.approx(late, abs=1e-6)
    assert failed(found) == {"future"} and not checks.stops(found["future"])
    found = night(events, accept=False, now=0.0)  # the clock of a machine without a battery
    assert found["future"].found == 1
    timeless = night(events.drop(columns="timestamp"), accept=False, freshness={"max_age_hours": 36})
    assert failed(timeless) == {"freshness"} and "no times" in timeless["freshness"].message and "future" not in timeless


# --- settings -------------------------------------------------------------------------------------------------------------


def test_thresholds_and_actions_come_from_the_file_and_from_the_environment(
    folder: Path, events: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    night(events)
    small = events.iloc[:1_800]
    assert "volume.kept" not in failed(night(small, accept=False, volume={"min_ratio": 0.1}))
    assert night(small, accept=False, volume={"action": "warn"})["volume.kept"].action == "warn"
    assert "volume.kept" not in night(small, accept=False, volume={"action": "off"})
    monkeypatch.setenv("RECSYS_AE__CHECKS__VOLUME__MIN_RATIO", "0.05")
    monkeypatch.setenv("RECSYS_AE__CHECKS__NIGHTS", "2")
    config = make_config({"log": {"dataset": "synthetic"}, "checks": {"volume": {"min_ratio": 0.7, "max_ratio": 9}}})
    assert (config.checks.volume.min_ratio, config.checks.volume.max_ratio, config.checks.nights) == (0.05, 9, 2)
    assert "volume.kept" not in failed(night(small, accept=False))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"volume": {"min_ratio": -1}}, ["[checks] volume.min_ratio", "-1"]),
        ({"volume": {"max_ratio": 0.5}}, ["[checks] volume.max_ratio", "0.5"]),
        ({"volume": {"min_ratio": float("nan")}}, ["[checks] volume.min_ratio", "nan"]),
        ({"volume": {"min_rato": 1}}, ["[checks] volume.min_rato", "unknown key", "min_ratio"]),
        ({"drift": {"action": "halt"}}, ["[checks] drift.action", "halt", "stop"]),
        ({"drifts": {}}, ["[checks] drifts", "unknown key", "drift"]),
        ({"freshness": {"max_age_hours": 0}}, ["[checks] freshness.max_age_hours", "0"]),
        ({"nights": 0}, ["[checks] nights", "0"]),
    ],
)
def test_a_wrong_setting_is_named(changes: dict[str, Any], said: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config({"log": {"dataset": "synthetic"}, "checks": changes})
    assert all(part in str(caught.value) for part in said)


def test_every_check_and_key_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs/checks.md").read_text()
    sections = dict(make_config({"log": {"dataset": "synthetic"}}).checks)
    assert sections.pop("nights") == 7 and "`nights = 7`" in text
    assert set(checks.CHECKS) == set(sections)
    for name, section in sections.items():
        row = re.search(rf"^\| `{name}` .*$", text, re.MULTILINE)
        assert row, name
        for key, default in dict(section).items():
            if key != "action" and default is not None:
                assert f"`{key} = {default:g}`" in row[0], (name, key)
        assert row[0].endswith(f"| {section.action} |"), name


# --- what is kept of accepted nights --------------------------------------------------------------------------------------


def test_damaged_state_is_told_and_what_is_whole_is_still_compared(folder: Path, events: pd.DataFrame) -> None:
    night(events)
    marks = next(folder.glob("accepted-*.safetensors"))
    marks.write_bytes(marks.read_bytes()[:-1])
    found = night(events.iloc[:1_800], accept=False)
    assert failed(found) >= {"history", "volume.kept"} and marks.name in found["history"].message
    assert found["history"].action == "warn" and "no earlier night" in found["drift"].message
    for broken in (b"", b"[]", b'{"nights": []}', (folder / "accepted.json").read_bytes().replace(b"18000", b"18001")):
        (folder / "accepted.json").write_bytes(broken)
        found = night(events.iloc[:1_800], accept=False)
        assert failed(found) == {"history"} and "accepted.json" in found["history"].message
    night(events)  # makes it whole again
    assert failed(night(events, accept=False)) == set()


def test_state_of_another_version_is_told(folder: Path, events: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nights, "SCHEMA", 2)
    night(events)
    monkeypatch.undo()
    monkeypatch.chdir(folder.parents[1])
    assert "schema 2, expected 1" in night(events)["history"].message


def test_a_write_that_breaks_off_leaves_what_was_there(
    folder: Path, events: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    night(events)

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(nights, "write_sealed", full)
        with pytest.raises(OSError, match="no space"):
            night(events.iloc[:12_000])
    found = night(events.iloc[:16_000])
    assert "history" not in found and "18,000 (nights: 1)" in found["volume.kept"].message
    assert len(list(folder.glob("accepted*"))) == 2


def test_hashes_are_the_same_everywhere() -> None:
    ids = nights.hashes(IdMap((7, -1))), nights.hashes(IdMap(("7", "é")))
    assert ids[0][0].tobytes().hex() == "e75017cace788f82"  # printf 7 | b2sum -l 64
    assert ids[1][0] == ids[0][0] and len({*ids[0], *ids[1]}) == 3


# --- the night ------------------------------------------------------------------------------------------------------------

CONFIG = """
seed = 1
[log]
path = "events.parquet"
[evaluation]
ks = [10]
map = "none"
[publish]
metric = "ndcg@10"
[score]
k = 5
[[models]]
name = "ease"
[split]
"""
SPLITS = {"strong_generalization": 'by = "hash"\nsalt = "nights"\ntest_users = 0.25\n', "by_time": 'kind = "by_time"\n'}


@pytest.mark.parametrize("kind", list(SPLITS))
def test_a_night_that_stops_leaves_yesterdays_model_serving(
    folder: Path, events: pd.DataFrame, command: Run, kind: str
) -> None:
    Path("run.toml").write_text(CONFIG + SPLITS[kind])
    events.iloc[:14_000].to_parquet("events.parquet", index=False)
    code, said, err = command("nightly", "run.toml", "--json")
    assert code == 0, err
    good = json.loads(said)
    assert good["warnings"] == [] and Registry("registry").manifest()["failed_checks"] == []
    events.to_parquet("events.parquet", index=False)
    assert command("ingest", "run.toml", "--check")[0] == 0
    before = state(folder)

    events.iloc[:1_400].to_parquet("events.parquet", index=False)
    code, said, err = command("ingest", "run.toml", "--check", "--json")
    assert code == 1 and any(each["check"] == "volume.kept" and not each["passed"] for each in json.loads(said)["checks"])
    code, said, err = command("nightly", "run.toml", "--json")
    assert code == 1 and json.loads(said)["outcome"] == "failed" and "Traceback" not in err
    assert "volume.read: 1,400 rows read, 0.1 times the median of 14,000" in err and "volume.kept" in err
    assert Registry("registry").versions() == [Registry("registry").current()] == [good["version"]]
    run = read_sealed(folder / "run.json")
    assert run["outcome"] == "failed" and "volume" in run["error"]
    recorded = {each["check"]: each for each in run["stages"]["checks"]["result"]["findings"]}
    assert recorded["volume.kept"] | {"found": 0.1, "action": "stop", "passed": False} == recorded["volume.kept"]
    assert recorded["columns"]["passed"]
    assert state(folder) == before  # a night that was not published is no measure for the next


@pytest.mark.slow
def test_what_warns_is_told_and_what_is_forced_is_recorded_and_begins_afresh(
    folder: Path, events: pd.DataFrame, command: Run
) -> None:
    Path("run.toml").write_text(CONFIG + SPLITS["strong_generalization"] + "[checks.new_users]\nmax_share = 0\n")
    events.iloc[:14_000].to_parquet("events.parquet", index=False)
    assert command("nightly", "run.toml")[0] == 0
    events.to_parquet("events.parquet", index=False)
    code, said, err = command("nightly", "run.toml", "--json")
    assert code == 0 and re.search(r"new_users: \d+ of 600 users are new", err), err
    assert json.loads(said)["warnings"] == [err.strip()]
    assert len(state(folder)) == 2

    half = events[events["user_id"] % 3 == 0]
    half.to_parquet("events.parquet", index=False)
    assert command("nightly", "run.toml")[0] == 1
    code, said, err = command("nightly", "run.toml", "--json", "--force")
    assert code == 0 and "volume.kept" in err, err
    assert read_sealed(folder / "run.json")["forced"]
    manifest = Registry("registry").manifest(json.loads(said)["version"])
    assert manifest["forced"] and json.loads(said)["forced"]
    assert [text.partition(":")[0] for text in manifest["failed_checks"]] == ["volume.read", "volume.kept"]
    assert [each["kept"] for each in state(folder)] == [len(half)]  # this is how data are from now on
    code, said, err = command("nightly", "run.toml", "--json")
    assert code == 0 and "volume" not in err and len(json.loads(said)["warnings"]) == 1 and json.loads(said)["forced"], err
