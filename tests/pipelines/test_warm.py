"""Nights that begin warm: from which version, why not, and that a night done twice or killed ends with the same bits."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines import nightly, train, warm
from pipelines.config import load_config
from pipelines.ingest import split_windows
from recsys_ae import Registry, datasets
from recsys_ae.sealed import read_sealed, write_sealed
from recsys_ae.training.run import Progress
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
[run]
warm_start = true
cold_every = 3
[publish]
metric = "ndcg@10"
min_ratio_to_current = 0.5
keep = 3
[score]
k = 5
[[models]]
name = "mult_dae"
latent = 16
epochs = 8
patience = 3
"""


def undrawn(_: dict[str, Any], folder: Path) -> None:
    """A report that nobody looks at."""
    (folder / "report.html").write_text("")


@pytest.fixture(scope="module")
def yesterday(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the first night, of most of the events, leaves behind; the last item comes later."""
    home = tmp_path_factory.mktemp("yesterday")
    events = datasets.synthetic(n_users=300, n_items=60, seed=3).events
    pq.write_table(events, home / "all.parquet")
    frame = events.to_pandas().sort_values("timestamp", kind="stable")
    early = frame.iloc[: len(frame) * 7 // 8]
    early[early.item_id != frame.item_id.max()].to_parquet(home / "events.parquet", index=False)
    (home / "run.toml").write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setattr(nightly, "write_report", undrawn)
        nightly.nightly(load_config(Path("run.toml")))
    (home / "all.parquet").replace(home / "events.parquet")
    return home


@pytest.fixture
def home(yesterday: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The second night, about to begin."""
    shutil.copytree(yesterday, tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


def night(command: Run) -> dict[str, Any]:
    code, said, err = command("nightly", "run.toml", "--json")
    assert code == 0, err
    return dict(json.loads(said))


def final_state() -> tuple[dict[str, Any], dict[str, Any]]:
    registry = Registry("registry")
    twin = registry.twin_manifest()
    assert twin is not None
    return registry.manifest()["files"], twin["files"]


@pytest.mark.slow
def test_a_night_begins_from_the_current_version_and_done_twice_from_the_same_one(command: Run, home: Path) -> None:
    registry = Registry("registry")
    first = registry.current()
    assert registry.manifest()["warm_start"] == {"version": None, "generation": 0, "reason": "there is no earlier version"}
    second = night(command)
    about = registry.manifest(second["version"])
    began, cold = about["warm_start"], registry.manifest(first)["fit"]
    assert about["replaced"] == began["version"] == first != second["version"] and began["generation"] == 1
    assert (began["items_kept"], began["items_new"], began["items_gone"]) == (59, 1, 0)
    assert [began["last_cold"][name] for name in ("epochs", "best_epoch")] == [cold[name] for name in ("epochs", "best_epoch")]
    assert about["fit"]["validation"][0] > cold["validation"][0]
    document = json.loads(Path("runs/nightly/report/evaluation.json").read_text())
    assert document["models"]["mult_dae"]["fit"]["warm_start"]["version"] == first
    assert document["models"]["mult_dae"]["cost"]["fit_seconds"] > 0
    page = Path("runs/nightly/report/report.html").read_text()
    assert f"warm from {first}, 1 in a row" in page and "epochs run, last cold fit" in page
    again = night(command)
    assert "train mult_dae" in again["reused"] and again["version"] == second["version"]
    state = read_sealed(Path("runs/nightly/run.json"))
    assert state["stages"]["train mult_dae"]["result"]["warm_start"] == began


@pytest.mark.slow
def test_killed_again_and_again_a_warm_night_ends_with_the_same_bits(
    command: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nightly, "write_report", undrawn)
    before = home.parent / "before"
    shutil.copytree(home, before)
    night(command)
    undisturbed = final_state()
    monkeypatch.chdir(before)

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    def die_at_epoch_3(_: str, progress: Progress) -> None:
        if progress.epoch == 3:
            die()

    def fit(*given: Any) -> Any:
        return train.fit(*given[:3], die_at_epoch_3, given[4])

    for step, stand_in in (("fit", fit), ("refit", die), ("judge", die), ("deliver", die)):
        with monkeypatch.context() as patch:
            patch.setattr(nightly, step, stand_in)
            assert command("nightly", "run.toml")[0] == 130, step
    assert {"train mult_dae", "publish"} <= set(night(command)["reused"])
    assert final_state() == undisturbed


def origin(text: str) -> warm.Origin:
    """From what a night of this configuration would begin."""
    Path("run.toml").write_text(text)
    config = load_config(Path("run.toml"))
    return warm.origin(config, config.models[0], split_windows(config)[0][-1])


@pytest.mark.parametrize(
    ("was", "now", "reason"),
    [
        ("latent = 16", "latent = 17", "other settings: latent 16, now 17"),
        ("epochs = 8", 'epochs = 8\nid = "another"', "is mult_dae (mult_dae), not another (mult_dae)"),
        ('salt = "nights"', 'salt = "others"', "may have trained on what is held out tonight"),
        ("test_users = 0.25", "test_users = 0.2", "may have trained on what is held out tonight"),
        ("cold_every = 3", "cold_every = 3\n[log]\nhalf_life_days = 9", "other preprocessing: half_life_days None, now 9"),
        ('name = "mult_dae"\nlatent = 16\nepochs = 8\npatience = 3', 'name = "ease"', "ease is not trained step by step"),
    ],
)
def test_what_is_not_the_same_model_begins_cold_and_says_why(home: Path, was: str, now: str, reason: str) -> None:
    text = CONFIG.replace(was, now)
    if "[log]" in now:  # one section of a name
        text = text.replace('[log]\npath = "events.parquet"\n', "").replace("[log]\n", '[log]\npath = "events.parquet"\n')
    found = origin(text)
    assert found.version is None and found.digests == {} and found.reason is not None and reason in found.reason


def test_every_so_many_versions_begin_cold(home: Path) -> None:
    assert origin(CONFIG).generation == 1
    found = origin(CONFIG.replace("cold_every = 3", "cold_every = 2"))
    assert found.generation == 1  # the first was cold, tonight's may be warm
    path = next(Path("registry").glob("2*"))
    about = read_sealed(path / "manifest.json")
    about["warm_start"] |= {"generation": 2, "version": "an older one", "last_cold": None}
    write_sealed(path / "manifest.json", about)
    found = origin(CONFIG)
    assert found.version is None and found.reason == "2 in a row began warm; one of 3 begins cold"


def test_nobody_asked(home: Path) -> None:
    assert origin(CONFIG.replace("warm_start = true", "")) == warm.Origin()


def test_a_version_without_a_twin_and_a_damaged_one_are_not_gone_on_with(command: Run, home: Path) -> None:
    path = next(Path("registry").glob("2*"))
    tensors = path / "twin" / "model.safetensors"
    content = bytearray(tensors.read_bytes())
    content[-1] ^= 1
    tensors.write_bytes(content)
    config = load_config(Path("run.toml"))
    split = split_windows(config)[0][-1]
    found = warm.origin(config, config.models[0], split)
    assert found.version == path.name
    starts = found.starts(config, config.models[0], split)
    for side in ("twin", "whole"):
        facts = starts[side].facts
        assert starts[side].tensors is None and facts is not None and "is damaged" in facts["reason"]
    shutil.rmtree(path / "twin")
    assert warm.origin(config, config.models[0], split).reason == f"{path.name} has no twin"
