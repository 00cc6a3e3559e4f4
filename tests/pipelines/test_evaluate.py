"""evaluate: what the document says beside the metrics; saved models, foreign lists, earlier nights; the files beside it."""

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.spatial.distance import jensenshannon

from pipelines.config import load_config
from pipelines.evaluate import evaluate_models
from pipelines.evaluation.document import together
from pipelines.evaluation.judged import Judged
from pipelines.evaluation.per_user import PerUserFile, PerUserWriter
from pipelines.ingest import split_dataset
from recsys_ae import Histories, Holdout, IdMap, datasets
from recsys_ae.evaluation import Evaluation
from recsys_ae.metrics import METRICS
from tests.pipelines.conftest import Run

CONFIG = """
seed = 4
[log]
path = "events.parquet"
[items]
path = "items.csv"
id = "item_id"
title = "title"
category = "category"
[split]
validation_users = 30
test_users = 50
[evaluation]
ks = [5, 20]
map = "pca"
[publish]
metric = "ndcg@20"
[[models]]
name = "popularity"
[[models]]
name = "ease"
[[models]]
name = "mult_vae"
latent = 8
hidden = []
epochs = 3
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 users, 80 items with times, titles and categories."""
    folder = tmp_path_factory.mktemp("home")
    world = datasets.synthetic(n_users=300, n_items=80, seed=5)
    pq.write_table(world.events, folder / "events.parquet")
    ids = sorted(set(world.events["item_id"].to_pylist()))
    kinds = ["drama", "comedy", "drama|comedy", ""]
    rows = {"item_id": ids, "title": [f"The {i}" for i in ids], "category": [kinds[n % 4] for n in range(len(ids))]}
    pd.DataFrame(rows).to_csv(folder / "items.csv", index=False)
    (folder / "run.toml").write_text(CONFIG)
    return folder


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch, command: Run) -> Run:
    """A command in the home folder."""
    monkeypatch.chdir(home)
    return command


@pytest.fixture
def judged(run: Run, home: Path) -> dict[str, Any]:
    """The document of the configuration, made once."""
    path = home / "out" / "evaluation.json"
    if not path.exists():
        code, _, err = run("evaluate", "run.toml", "--out", "out")
        assert code == 0, err
    return dict(json.loads(path.read_text()))


@pytest.fixture
def saved(run: Run, home: Path) -> Path:
    """The registry of the configuration's models, trained once."""
    if not (home / "registry").exists():
        code, _, err = run("train", "run.toml")
        assert code == 0, err
    return home / "registry"


def document(run: Run, *arguments: str, config: str = "run.toml", out: str = "other") -> dict[str, Any]:
    code, said, err = run("evaluate", config, "--out", out, "--json", *arguments)
    assert code == 0, err
    return dict(json.loads(said))


def test_a_second_run_says_the_same_but_for_costs_and_environment(run: Run, judged: dict[str, Any]) -> None:
    again = document(run, out="again")
    for found in (judged, again):
        del found["environment"]
        for model in found["models"].values():
            del model["cost"]
    assert json.dumps(again) == json.dumps(judged)


def test_per_user_figures_stand_beside_the_document(judged: dict[str, Any], home: Path) -> None:
    for key, entry in judged["models"].items():
        table = pq.read_table(home / "out" / "per_user" / f"{key}.parquet")
        assert table.num_rows == 50 and table["window"].to_pylist() == [1] * 50
        for name, score in entry["metrics"].items():
            if score["se"] is not None:
                values = table[name].to_numpy()
                assert np.nanmean(values) == pytest.approx(score["mean"], rel=1e-12)
                assert score["users"] == (~np.isnan(values)).sum()
        assert {len(row) for row in table["recommended"].to_pylist()} == {20}
    assert not list((home / "out" / "per_user").glob(".*"))  # nothing half written


def test_figures_of_models_that_are_no_longer_judged_go(run: Run, saved: Path, home: Path) -> None:
    (home / "twice" / "per_user").mkdir(parents=True)
    (home / "twice" / "per_user" / "gone.parquet").write_bytes(b"")
    found = document(run, "--registry", "registry", out="twice")
    assert {path.stem for path in (home / "twice" / "per_user").iterdir()} == set(found["models"])


def test_curves_meet_the_metrics(judged: dict[str, Any]) -> None:
    for entry in judged["models"].values():
        at = entry["curves"]["k"].index(20)
        for name in METRICS:
            score, curve = entry["metrics"][f"{name}@20"], entry["curves"][name]
            assert curve["mean"][at] == pytest.approx(score["mean"], abs=1e-6)
            assert [curve["low"][at], curve["high"][at]] == pytest.approx(score["ci95"], abs=1e-5)


def test_groups_of_users_add_up_to_all(judged: dict[str, Any]) -> None:
    for entry in judged["models"].values():
        whole = entry["metrics"]["ndcg@20"]
        for by in ("history length", "taste"):
            groups = [group for group in entry["groups"] if group["by"] == by]
            assert sum(group["users"] for group in groups) == 50
            mean = sum(group["users"] * group["metrics"]["ndcg@20"]["mean"] for group in groups) / 50
            assert mean == pytest.approx(whole["mean"])


def test_found_shares_of_regions_add_up_and_categories_and_periods_are_there(judged: dict[str, Any]) -> None:
    entry = judged["models"]["ease"]
    table = [row for row in entry["targets"] if row["by"] == "popularity"]
    assert sum(row["targets"] for row in table) == judged["split"]["test_targets"]
    assert {row["by"] for row in entry["targets"]} == {"popularity", "category", "period"}
    assert {row["group"] for row in entry["targets"] if row["by"] == "category"} == {"drama", "comedy"}
    found = sum(row["targets"] * row["found@20"]["mean"] for row in table)
    assert found == pytest.approx(entry["metrics"]["precision@20"]["mean"] * 20 * 50)
    popular = next(row for row in judged["models"]["popularity"]["targets"] if row["group"] == "tail")
    assert popular["found@5"]["mean"] == 0  # popularity never lists the tail


def test_the_comparison_is_of_the_best_with_each_other_one(judged: dict[str, Any]) -> None:
    found = judged["comparison"]
    means = {key: entry["metrics"]["ndcg@20"]["mean"] for key, entry in judged["models"].items()}
    assert found["order"] == sorted(means, key=lambda key: -means[key])
    assert found["verdict"]["publish"] == found["best"] == found["order"][0]
    deciding = {pair["model"]: pair for pair in found["pairs"] if pair["metric"] == "ndcg@20"}
    assert set(deciding) == set(means) - {found["best"]}
    for key, pair in deciding.items():
        assert pair["difference"]["mean"] == pytest.approx(means[found["best"]] - means[key])
        assert pair["difference"]["ci95"][0] <= pair["difference"]["mean"] <= pair["difference"]["ci95"][1]
        assert pair["wins"] + pair["ties"] + pair["losses"] == 50
        assert pair["p"] <= pair["p_holm"] <= 1
    assert deciding["popularity"]["p_holm"] < 0.05
    assert "popularity" not in found["verdict"]["equals"]
    for group in found["groups"]:
        assert group["by"] in ("history length", "taste") and 0 < group["users"] <= 50


def test_overlap_is_symmetric(judged: dict[str, Any]) -> None:
    shared = np.array(judged["overlap"]["jaccard"])
    assert judged["overlap"]["k"] == 20 and judged["overlap"]["models"] == list(judged["models"])
    assert (shared == shared.T).all() and (np.diag(shared) == 1).all() and (shared[0, 1:] < 1).all()


def test_the_worst_users_are_shown_with_titles(judged: dict[str, Any], home: Path) -> None:
    worst = judged["models"]["mult_vae"]["worst"]
    values = pq.read_table(home / "out" / "per_user" / "mult_vae.parquet").to_pandas().set_index("user_id")["ndcg@20"]
    assert len(worst) == 10
    assert [user["metric"] for user in worst] == sorted(user["metric"] for user in worst)
    for user in worst:
        assert user["metric"] == values[user["user_id"]]
        wanted = {item["item_id"]: item["rank"] for item in user["held_out"]}
        assert len(user["recommended"]) == 20 and user["history"]
        for rank, item in enumerate(user["recommended"], 1):
            assert item["title"] == f"The {item['item_id']}"
            assert not item["hit"] or wanted.get(item["item_id"], rank) == rank


def test_long_histories_are_cut_and_counted_whole(judged: dict[str, Any], home: Path) -> None:
    table = pq.read_table(home / "out" / "per_user" / "ease.parquet").to_pandas().set_index("user_id")
    worst = judged["models"]["ease"]["worst"]
    assert max(user["history_items"] for user in worst) > 20
    for user in worst:
        assert user["history_items"] == table.loc[user["user_id"], "history"] >= len(user["history"])
        assert user["held_out_items"] == table.loc[user["user_id"], "held_out"]
        assert len(user["history"]) == min(user["history_items"], 20)
    page = (home / "out" / "report.html").read_text("utf-8")
    longest = max(user["history_items"] for user in worst)
    assert f"History ({longest})" in page and f"and {longest - 20} earlier" in page


def test_the_map_is_of_the_autoencoder(judged: dict[str, Any]) -> None:
    found = judged["map"]
    assert found["model"] == "mult_vae" and found["method"] == "pca"
    assert len(found["items"]) == judged["split"]["train_items"]
    assert found["items"][0]["users"] == max(item["users"] for item in found["items"])
    assert 0 < found["explained"][1] <= found["explained"][0] < 1


def test_the_data_are_described_and_nothing_leaks(judged: dict[str, Any], home: Path) -> None:
    profile = judged["data"]["profile"]
    events = pq.read_table(home / "events.parquet").to_pandas()
    assert sum(profile["history_lengths"]["users"]) == judged["data"]["users"] == 300
    assert profile["density"] == pytest.approx(judged["data"]["interactions"] / (300 * judged["data"]["items"]))
    assert profile["popularity_curve"]["interactions"][-1] == 1
    top = profile["top_items"][0]
    assert top["users"] == events.drop_duplicates(["user_id", "item_id"])["item_id"].value_counts().iloc[0]
    assert sum(bin_["interactions"] for bin_ in profile["interactions_by_time"]) == judged["data"]["interactions"]
    assert judged["split"]["checks"] and all(check["passed"] for check in judged["split"]["checks"])


@pytest.mark.slow
def test_windows_are_checked_and_their_users_pooled(run: Run, home: Path) -> None:
    config = CONFIG.replace("validation_users = 30\ntest_users = 50", 'kind = "by_time"\nwindows = 2')
    (home / "windows.toml").write_text(config)
    found = document(run, config="windows.toml", out="windows")
    checks = found["split"]["checks"]
    assert all(check["passed"] for check in checks)
    assert sum("younger" in check["check"] for check in checks) == 2
    assert set(found["split"]["cold"]) == {"users", "items"}
    table = pq.read_table(home / "windows" / "per_user" / "ease.parquet")
    counts = [window["users"] for window in found["models"]["ease"]["windows"]]
    assert np.bincount(table["window"].to_numpy())[1:].tolist() == counts
    groups = [group for group in found["models"]["ease"]["groups"] if group["by"] == "taste"]
    assert sum(group["users"] for group in groups) == sum(counts) == found["split"]["test_users"]


def test_a_saved_version_is_judged_without_training_and_warned_of(
    saved: Path, run: Run, judged: dict[str, Any], home: Path
) -> None:
    found = document(run, "--registry", "registry", out="saved")
    (key,) = found["models"]
    entry = found["models"][key]
    assert entry["source"].startswith("registry ") and "fit" not in entry and "fit_seconds" not in entry["cost"]
    (warning,) = entry["warnings"]
    assert "too good" in warning and f"{judged['split']['test_targets']:,} of" in warning  # it was trained on all rows
    assert entry["metrics"]["ndcg@20"]["mean"] > judged["models"][key]["metrics"]["ndcg@20"]["mean"]
    assert len(found["comparison"]["order"]) == 1 and found["comparison"]["verdict"]["over"] is None


def test_a_saved_version_of_the_training_rows_reaches_what_evaluation_said(
    run: Run, judged: dict[str, Any], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained on the training rows alone, under other columns, it gives the same lists."""
    monkeypatch.chdir(home)
    train = split_dataset(load_config(home / "run.toml"))[0].train
    items = np.array(train.items.ids)[train.histories.items]
    users = np.array(train.users.ids)[train.histories.rows]
    assert train.histories.times is not None
    rows = pa.table({"user_id": users, "item_id": items, "timestamp": train.histories.times})
    pq.write_table(rows, home / "train.parquet")
    config = CONFIG.replace("events.parquet", "train.parquet").replace("test_users = 50", "test_users = 2")
    config = config[: config.index("[[models]]")] + '[[models]]\nname = "ease"\n[registry]\npath = "apart"\n'
    (home / "apart.toml").write_text(config)
    code, _, err = run("train", "apart.toml")
    assert code == 0, err
    found = document(run, "--registry", "apart", out="apart-out")["models"]["ease"]
    assert found["warnings"] == []
    for name in ("ndcg@20", "coverage@5", "novelty@20", "calibration@20"):
        assert found["metrics"][name]["mean"] == pytest.approx(judged["models"]["ease"]["metrics"][name]["mean"], rel=1e-6)


def lists_of(judged: dict[str, Any], home: Path, key: str) -> pd.DataFrame:
    """What a model recommended, as another system would write it."""
    table = pq.read_table(home / "out" / "per_user" / f"{key}.parquet").to_pandas()[["user_id", "recommended"]]
    rows = table.explode("recommended").rename(columns={"recommended": "item_id"})
    rows["rank"] = rows.groupby("user_id").cumcount() + 1
    return rows.sample(frac=1, random_state=0)


@pytest.mark.slow
def test_lists_of_another_system_are_judged_as_our_own(run: Run, judged: dict[str, Any], home: Path) -> None:
    lists_of(judged, home, "ease").to_csv(home / "theirs.csv", index=False)
    found = document(run, "--lists", "theirs.csv", out="lists")["models"]
    assert set(found) == {"popularity", "ease", "mult_vae", "theirs"}
    assert found["theirs"]["metrics"] == found["ease"]["metrics"]
    assert found["theirs"]["source"] == "lists theirs.csv" and found["theirs"]["warnings"] == []
    assert found["theirs"]["parameters"] is None


def test_lists_that_lack_users_or_hold_what_was_had_are_warned_of(
    saved: Path, run: Run, judged: dict[str, Any], home: Path
) -> None:
    rows = lists_of(judged, home, "ease")
    users = sorted(rows["user_id"].unique())
    rows = rows[rows["user_id"] != users[0]]
    history = next(
        user["history"] for entry in judged["models"].values() for user in entry["worst"] if user["user_id"] != users[0]
    )
    whose = next(u["user_id"] for e in judged["models"].values() for u in e["worst"] if u["history"] is history)
    rows.loc[(rows["user_id"] == whose) & (rows["rank"] == 1), "item_id"] = history[0]["item_id"]
    rows.loc[(rows["user_id"] == whose) & (rows["rank"] == 2), "item_id"] = 10**9
    rows.to_parquet(home / "partly.parquet")
    found = document(run, "--registry", "registry", "--lists", "partly.parquet", out="partly")["models"]["partly"]
    assert [warning.split(" ", 1)[0] for warning in found["warnings"]] == ["1", "1", "1"]
    assert "no list" in found["warnings"][0] and "own history" in found["warnings"][1] and "no hits" in found["warnings"][2]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("user_id,item_id\n1,2\n", "rank"),
        ("user_id,item_id,rank\n1,3,1\n1,2,0\n", "weight not positive"),
        ("user_id,item_id,rank\n1,2,1\n1,2,2\n", "repeated"),
        ("user_id,item_id,rank\n1,2,1\n1,3,2\n1,4,2\n", "user 1 has two items of rank 2"),
        ("user_id,item_id,rank\nnobody,2,1\n", "none of the 50 test users"),
        ("user_id,item_id,rank\nUSER,nothing,1\n", "none of the 80 items"),
    ],
)
def test_lists_that_are_none_are_refused_before_the_work(
    run: Run, judged: dict[str, Any], home: Path, content: str, expected: str
) -> None:
    user = judged["models"]["ease"]["worst"][0]["user_id"]
    (home / "bad.csv").write_text(content.replace("USER", str(user)))
    code, _, err = run("evaluate", "run.toml", "--out", "bad", "--lists", "bad.csv")
    assert code == 2 and "bad.csv" in err and expected in err
    assert not list((home / "bad").rglob("*.parquet")) and not (home / "bad" / "evaluation.json").exists()


def test_ids_of_lists_may_be_text_where_the_log_has_integers(saved: Path, run: Run, judged: dict[str, Any], home: Path) -> None:
    rows = lists_of(judged, home, "ease")
    rows.astype({"user_id": str, "item_id": str}).to_parquet(home / "text.parquet")
    rows.to_csv(home / "tabs.tsv", sep="\t", index=False)
    rows.to_json(home / "lines.jsonl", orient="records", lines=True)
    others = [argument for name in ("text.parquet", "tabs.tsv", "lines.jsonl") for argument in ("--lists", name)]
    found = document(run, "--registry", "registry", *others, out="kinds")["models"]
    for key in ("text", "tabs", "lines"):
        assert found[key]["metrics"] == judged["models"]["ease"]["metrics"] and found[key]["warnings"] == []


def test_a_version_that_is_named_twice_is_judged_once(saved: Path, run: Run, judged: dict[str, Any], home: Path) -> None:
    version = sorted(path.name for path in (home / "registry").iterdir() if "-ease-" in path.name)[0]
    found = document(run, "--registry", "registry", "--version", version, "--version", version, out="twice")
    assert list(found["models"]) == ["ease"]


@pytest.mark.parametrize("out", ["afile", "afile/below", "/proc/nowhere"])
def test_a_folder_that_cannot_be_written_is_refused_before_the_work(run: Run, home: Path, out: str) -> None:
    (home / "afile").write_text("mine")
    code, _, err = run("evaluate", "run.toml", "--out", out)
    assert code == 2 and out in err and "cannot be written to" in err and "fit" not in err
    code, _, err = run("report", "out", "--out", out)
    assert code == 2 and out in err and "cannot be written to" in err
    assert (home / "afile").read_text() == "mine"


def test_categories_may_be_known_in_a_late_window_alone(run: Run, judged: dict[str, Any], home: Path) -> None:
    events = pq.read_table(home / "events.parquet").to_pandas().sort_values("timestamp").reset_index(drop=True)
    fresh = events.iloc[[len(events) * 83 // 100]].assign(item_id=10**6)  # between the two windows' training parts
    pd.concat([events, fresh]).to_parquet(home / "fresh.parquet")
    (home / "fresh.csv").write_text("item_id,title,category\n1000000,New,drama\n")
    config = CONFIG.replace("events.parquet", "fresh.parquet").replace("items.csv", "fresh.csv")
    config = config.replace("validation_users = 30\ntest_users = 50", 'kind = "by_time"\nwindows = 2')
    (home / "fresh.toml").write_text(config.partition("[[models]]")[0] + '[[models]]\nname = "popularity"\n')
    found = document(run, config="fresh.toml", out="fresh")["models"]["popularity"]
    assert [window["users"] for window in found["windows"]] and "ndcg@20" in found["metrics"]


def test_warnings_of_every_window_are_told(run: Run, judged: dict[str, Any], home: Path) -> None:
    """A version that was trained before the last window has seen the targets of the first."""
    events = pq.read_table(home / "events.parquet").to_pandas()
    events[events["timestamp"] < events["timestamp"].quantile(0.94)].to_parquet(home / "early.parquet")
    config = CONFIG.replace("events.parquet", "early.parquet").partition("[[models]]")[0]
    (home / "early.toml").write_text(config + '[[models]]\nname = "ease"\n[registry]\npath = "early"\n')
    assert run("train", "early.toml")[0] == 0
    (home / "backtest.toml").write_text(
        CONFIG.replace("validation_users = 30\ntest_users = 50", 'kind = "by_time"\nwindows = 2')
    )
    entry = document(run, "--registry", "early", config="backtest.toml", out="backtest")["models"]["ease"]
    assert [warning.partition(":")[0] for warning in entry["warnings"]] == ["window 1"]
    assert "too good" in entry["warnings"][0]


def write_figures(writer: PerUserWriter, values: np.ndarray, window: int = 1) -> None:
    """A user for each value."""
    rows = [[0]] * len(values)
    asked = Holdout(IdMap.of(range(len(rows))), Histories.from_rows(rows, 2), Histories.from_rows([[1]] * len(rows), 2))
    writer.add(asked, IdMap((7, 8)), slice(len(rows)), np.ones((len(rows), 1), np.int32), {"ndcg@1": values}, window)


def test_figures_by_user_are_on_file_alone_once_a_model_is_judged(tmp_path: Path) -> None:
    with PerUserWriter(tmp_path / "m.parquet") as writer:
        write_figures(writer, np.array([0.0, 1.0]))
        write_figures(writer, np.array([2.0, 3.0, 4.0, 5.0]), 2)
    parts = [Evaluation({}, {}, 0.0, (), {}, np.zeros((n, 1), np.int32), np.zeros(n, np.int32)) for n in (2, 4)]
    windows, whole = together([Judged("m", part) for part in parts], writer.path)
    first, second = (judged.evaluation for judged in windows)
    assert whole.scores["ndcg@1"].mean == 2.5 and whole.users == 6
    assert isinstance(first.per_user, PerUserFile)
    assert first.per_user["ndcg@1"].tolist() == [0, 1] and second.scores["ndcg@1"].mean == 3.5
    assert "ndcg@1" in first.per_user and "user_id" not in first.per_user


def test_an_interrupted_run_leaves_figures_as_they_were(tmp_path: Path) -> None:
    with PerUserWriter(tmp_path / "m.parquet") as writer:
        write_figures(writer, np.ones(3))
    before = writer.path.read_bytes()
    with contextlib.suppress(KeyboardInterrupt), PerUserWriter(tmp_path / "m.parquet") as writer:
        write_figures(writer, np.zeros(2))
        raise KeyboardInterrupt
    assert writer.path.read_bytes() == before and list(tmp_path.iterdir()) == [writer.path]


def test_wrong_arguments_are_one_message(saved: Path, run: Run, home: Path) -> None:
    assert run("evaluate", "run.toml", "--out", "o", "--version", "x")[0] == 2
    code, _, err = run("evaluate", "run.toml", "--out", "o", "--registry", "registry", "--version", "x")
    assert code == 2 and "no version 'x'" in err
    code, _, err = run("evaluate", "run.toml", "--out", "o", "--lists", "missing.csv")
    assert code == 2 and "missing.csv" in err
    assert not (home / "o").exists()


def test_earlier_nights_make_a_trend(saved: Path, run: Run, judged: dict[str, Any], home: Path) -> None:
    older = json.loads(json.dumps(judged))
    older["environment"]["created"] = "2020-01-01T00:00:00+00:00"
    older["data"]["profile"]["history_lengths"]["users"] = older["data"]["profile"]["history_lengths"]["users"][::-1]
    older["data"]["profile"]["top_items"] = older["data"]["profile"]["top_items"][:10]
    (home / "older").mkdir(exist_ok=True)
    (home / "older" / "evaluation.json").write_text(json.dumps(older))
    found = document(run, "--registry", "registry", "--earlier", "out", "--earlier", "older/evaluation.json", out="trend")
    first, second = found["earlier"]
    assert [first["name"], second["name"]] == ["older", "out"]
    assert second["drift"]["history_lengths"] == 0 and second["drift"]["top_items"] == 1
    now = judged["data"]["profile"]["history_lengths"]["users"]
    assert first["drift"]["history_lengths"] == pytest.approx(jensenshannon(now, now[::-1], 2) ** 2, abs=1e-6)
    assert first["drift"]["top_items"] == pytest.approx(10 / len(judged["data"]["profile"]["top_items"]))
    assert second["models"]["ease"] == judged["models"]["ease"]["metrics"]


@pytest.mark.parametrize("environment", [None, {}, {"created": 5}])
def test_the_contract_alone_is_an_earlier_night(run: Run, judged: dict[str, Any], home: Path, environment: Any) -> None:
    """As an older version of ours wrote it, without a profile of the data; of other data, perhaps."""
    contract = {
        "schema": 1,
        "data": {"users": 3, "items": 2, "interactions": 5, "digest": "sha256:0", "profile": None},
        "split": {"kind": "strong_generalization", "test_users": 0},
        "models": {"ease": {"metrics": {"ndcg@20": {"mean": 0.5, "se": 0.0, "ci95": [0.0, 0.0], "users": 0}}}},
        "environment": environment,
    }
    (home / "contract").mkdir(exist_ok=True)
    (home / "contract" / "evaluation.json").write_text(json.dumps(contract))
    first, second = document(run, "--registry", "registry", "--earlier", "out", "--earlier", "contract", out="since")["earlier"]
    assert (first["name"], second["name"]) == ("contract", "out")
    assert first["drift"] == {"history_lengths": None, "top_items": None, "users": 3, "items": 2, "interactions": 5}


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "no such file"), ("{", "not valid JSON"), ('{"schema": 7, "models": {}}', "found schema 7")],
)
def test_an_earlier_document_that_is_none_is_refused_before_the_work(
    run: Run, home: Path, content: str | None, expected: str
) -> None:
    path = home / "no.json"
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_text(content)
    code, _, err = run("evaluate", "run.toml", "--out", "refused", "--earlier", "no.json")
    assert code == 2 and "no.json" in err and expected in err
    assert not (home / "refused").exists()


def test_nothing_is_written_without_a_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    before = set(home.rglob("*.parquet"))
    config = load_config(home / "run.toml")
    found = evaluate_models(config.model_copy(update={"models": config.models[:1]}))
    assert list(found["models"]) == ["popularity"]
    assert {path for path in home.rglob("*.parquet") if path not in before} <= {home / "runs" / "log.parquet"}
