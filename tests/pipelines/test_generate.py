"""`datasets generate`: files in every format, and the truth beside them."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.__main__ import main
from pipelines.config import make_config
from pipelines.generate import configured, write_world
from pipelines.ingest import clean_source, split_dataset
from recsys_ae import read_log
from recsys_ae.datasets.generator import generate, preset
from recsys_ae.errors import ConfigError

SMALL = ("--users", "60", "--items-count", "50", "--interactions", "700")


def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command, in this process."""
    monkeypatch.setattr(sys, "argv", ["recsys-ae", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


@pytest.mark.parametrize("suffix", ["csv", "tsv.gz", "jsonl.zst", "parquet"])
def test_every_format_reads_back_as_the_same_log(tmp_path: Path, suffix: str) -> None:
    config = configured("synthetic", {"n_users": 60, "n_items": 50, "n_interactions": 700, "seed": 3}, ())
    told = write_world(config, tmp_path / f"log.{suffix}", tmp_path / f"items.{suffix}", None)
    assert (told["users"], told["items"], told["interactions"]) == (60, 50, 700)
    raw = generate(config).raw
    log = read_log(str(tmp_path / f"log.{suffix}")).table()
    ours, expected = (t.to_pandas().sort_values(["user_id", "item_id"], ignore_index=True) for t in (log, raw.events))
    assert ours.equals(expected[list(ours)])
    section = {"path": str(tmp_path / f"items.{suffix}"), "title": "title", "category": "category"}
    found = clean_source(make_config({"log": {"path": str(tmp_path / f"log.{suffix}")}, "items": section}))
    assert found.titles == raw.titles
    assert found.categories == raw.categories
    assert not list(tmp_path.glob("*.partial"))


def test_the_truth_names_attackers_tastes_and_noise(tmp_path: Path) -> None:
    attacks = 'attacks=[{kind = "bandwagon", profiles = 4, length = 12}, {kind = "bot", profiles = 3, length = 20}]'
    settings = (attacks, "noise=0.2", "string_ids=true", "taste_drift=0.5")
    config = configured("synthetic", {"n_users": 60, "n_items": 50, "n_interactions": 700}, settings)
    told = write_world(config, tmp_path / "log.parquet", None, tmp_path / "truth.parquet")
    log, world = pq.read_table(tmp_path / "log.parquet").to_pandas(), generate(config)
    truth = pq.read_table(tmp_path / "truth.parquet").to_pandas().set_index("user_id")
    assert list(truth.index) == list(log["user_id"].drop_duplicates())
    assert truth["attack"].value_counts().to_dict() == {"bandwagon": 4, "bot": 3}
    assert told["attackers"] == 7
    held = log.groupby("user_id")["item_id"].agg(set)
    for user, row in truth[truth["attack"] == "bandwagon"].iterrows():
        assert len(row["targets"]) == 1 and set(row["targets"]) <= held[user]
    noise = {(user, item) for user, items in truth["noise"].items() for item in items}
    flags = world.events.is_noise
    assert noise == set(zip(log["user_id"][flags], log["item_id"][flags], strict=True))
    assert len(noise) == told["noise"] > 100
    genuine = truth[truth["attack"].isna()]
    assert (genuine["tastes"].map(len) == 2).all()
    np.testing.assert_allclose(genuine["shares"].map(sum), 1)
    tastes = {item: set(named) for item, named in world.categories.items()}
    user = genuine.index[0]
    mine = set(genuine.loc[user, "tastes"]) | set(genuine.loc[user, "late_tastes"])
    liked = [bool(tastes[i] & mine) for i in held[user] - set(genuine.loc[user, "noise"])]
    assert np.mean(liked) > 0.6


def test_the_command_says_what_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("datasets", "generate", "synthetic", "--out", str(tmp_path / "a.csv"), *SMALL, "--set", "noise=0.1")
    code, out, err = command(monkeypatch, capsys, *arguments)
    assert (code, err) == (0, "")
    assert "700 interactions of 60 users with 50 items, seed 0" in out
    code, out, err = command(monkeypatch, capsys, *arguments, "--seed", "1", "--json")
    told = json.loads(out)
    assert told["seed"] == 1 and told["written"] == [str(tmp_path / "a.csv")]


def test_datasets_alone_lists_them(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = command(monkeypatch, capsys, "datasets", "--json")
    assert code == 0 and {"movielens-small", "synthetic", "ml-20m-like", "gowalla-like"} <= set(json.loads(out))
    code, out, _ = command(monkeypatch, capsys, "datasets")
    assert code == 0 and "gowalla-like" in out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["netflix", "--out", "a.csv"], "'netflix' is unknown; expected one of synthetic"),
        (["synthetic", "--out", "a.xls"], "unknown format .xls"),
        (["synthetic", "--out", "a.csv", "--truth", "b.csv"], "expected a Parquet file"),
        (["synthetic", "--out", "a.csv", "--set", "noise"], "expected KEY=VALUE"),
        (
            ["synthetic", "--out", "a.csv", "--set", "noise=lots"],
            "unable to parse string as a number; found 'lots'",
        ),
        (["synthetic", "--out", "a.csv", "--users", "0"], "n_users: Input should be greater than 0; found 0"),
        (["synthetic", "--out", "a.csv", "--users", "0", "--interactions", "5"], "n_users"),
        (["synthetic", "--out", "file/a.csv"], "file/a.csv: cannot be written (File exists)"),
        (["synthetic", "--out", "a.csv", "--items", "a.csv"], "the same file twice"),
    ],
)
def test_bad_input_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], part: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    code, out, err = command(monkeypatch, capsys, "datasets", "generate", *arguments)
    assert (code, out) == (2, "")
    assert part in err and err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("text", "value"), [("none", None), ("2", 2), ("0.5", 0.5), ("true", True), ("word", "word")])
def test_settings_are_toml_values(monkeypatch: pytest.MonkeyPatch, text: str, value: Any) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr("pipelines.generate.preset", lambda name, **changes: seen.update(changes))
    configured("synthetic", {"seed": None}, [f"key={text}"])
    assert seen == {"key": value}


def test_a_generated_data_set_runs_by_name() -> None:
    split, counts = split_dataset(make_config({"log": {"dataset": "synthetic", "min_weight": 4.0}}))
    assert counts["read"] == preset("synthetic").n_interactions
    assert len(split.refit.items) == 300
    with pytest.raises(ConfigError, match="ml-20m-like, gowalla-like"):
        make_config({"log": {"dataset": "ml-2m-like"}})
