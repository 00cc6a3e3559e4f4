"""Every kind of split through the command line, on a small log: the document it makes, and what it says to wrong input."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines.config import load_config
from pipelines.ingest import split_dataset
from recsys_ae import datasets
from recsys_ae.evaluation import Z95
from recsys_ae.registry import Registry
from tests.pipelines.conftest import Run
from tests.worlds import N_ITEMS, N_TASTES, tastes

MODELS = """
[[models]]
name = "popularity"
[[models]]
name = "ease"
[[models]]
name = "mult_dae"
latent = 8
epochs = 2
"""


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 users, 60 items, with times."""
    path = tmp_path_factory.mktemp("log") / "events.parquet"
    pq.write_table(datasets.synthetic(n_users=150, n_items=60, seed=5).events, path)
    return path


@pytest.fixture
def run(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch, command: Run) -> Run:
    """A command with a `[split]`, in this process and a folder of its own: exit code, stdout, stderr."""

    def run(split: str, name: str, *arguments: str, path: Path = log) -> tuple[int, str, str]:
        (tmp_path / "run.toml").write_text(f'[log]\npath = "{path}"\n[split]\n{split}\n{MODELS}')
        monkeypatch.chdir(tmp_path)
        return command(name, "run.toml", *arguments)

    return run


def document_of(run: Run, split: str) -> dict[str, Any]:
    code, out, err = run(split, "evaluate", "--out", "report", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert set(found["models"]) == {"popularity", "ease", "mult_dae"}
    return found


@pytest.mark.parametrize(
    ("split", "kind"),
    [
        ('by = "hash"\nsalt = "tonight"', "strong_generalization"),
        ('kind = "leave_last_out"', "leave_last_out"),
        ('kind = "item_hold_out"\nvalidation_items = 6\ntest_items = 0.2', "item_hold_out"),
        ('kind = "item_hold_out"\nby = "hash"\nsalt = "tonight"', "item_hold_out"),
        ('kind = "by_time"\nvalidation_fraction = 0.2\ntest_fraction = 0.2', "by_time"),
    ],
)
def test_every_kind_makes_the_same_document(run: Run, split: str, kind: str) -> None:
    found = document_of(run, split)
    sides = found["split"]
    assert sides["kind"] == kind
    assert "windows" not in sides
    assert all("windows" not in model for model in found["models"].values())
    score = found["models"]["mult_dae"]["metrics"]["ndcg@100"]
    assert score["users"] == sides["test_users"] > 5
    assert 0 <= score["mean"] <= 1
    assert ("test_candidates" in sides) == (kind == "item_hold_out")


def test_the_last_is_left_out_of_every_user(run: Run, log: Path) -> None:
    table = pq.read_table(log)
    counts = table["user_id"].value_counts().to_pylist()
    found = document_of(run, 'kind = "leave_last_out"')
    longer = sum(entry["counts"] >= 3 for entry in counts)
    dropped = found["split"]["dropped"]
    assert dropped["users_with_fewer_than_3_interactions"] == len(counts) - longer
    assert found["split"]["test_users"] == longer - dropped["test_users_without_target"]
    means = {key: model["metrics"]["ndcg@100"]["mean"] for key, model in found["models"].items()}
    assert means["ease"] > means["popularity"]


def test_cold_items_alone_are_listed(run: Run) -> None:
    found = document_of(run, 'kind = "item_hold_out"\nvalidation_items = 6\ntest_items = 0.2')
    assert (found["split"]["validation_candidates"], found["split"]["test_candidates"]) == (6, 12)
    assert found["split"]["train_items"] == found["data"]["items"] == 60
    for model in found["models"].values():
        assert model["metrics"]["recall@20"]["mean"] == 1  # a list of all twelve


WINDOWS = 'kind = "by_time"\nwindows = 3\ntest_fraction = 0.3'


@pytest.mark.slow
def test_windows_are_fitted_and_judged_one_by_one_and_pooled(run: Run) -> None:
    found = document_of(run, WINDOWS)
    windows = found["split"]["windows"]
    assert len(windows) == 3
    assert found["split"]["test_users"] == sum(window["test_users"] for window in windows)
    assert [w["test_from"] for w in windows[1:]] == [w["test_until"] for w in windows[:-1]]
    assert windows[0]["train_interactions"] < windows[1]["train_interactions"] < windows[2]["train_interactions"]
    for key, model in found["models"].items():
        assert len(model["windows"]) == 3
        for window, side in zip(model["windows"], windows, strict=True):
            assert {name: window[name] for name in ("validation_from", "test_from", "test_until")} == {
                name: side[name] for name in ("validation_from", "test_from", "test_until")
            }
            assert window["users"] == window["metrics"]["ndcg@100"]["users"] == side["test_users"]
            assert window["fit"]["epochs"] == (2 if key == "mult_dae" else window["fit"]["epochs"])
        whole, parts = model["metrics"]["ndcg@100"], [window["metrics"]["ndcg@100"] for window in model["windows"]]
        assert whole["users"] == found["split"]["test_users"]
        assert whole["mean"] == pytest.approx(sum(p["mean"] * p["users"] for p in parts) / whole["users"])
        assert whole["ci95"] == pytest.approx([whole["mean"] - Z95 * whole["se"], whole["mean"] + Z95 * whole["se"]])
        assert model["fit"] == model["windows"][-1]["fit"]
        assert model["cost"]["fit_seconds"] > 0


@pytest.mark.slow
def test_windows_repeat_to_the_bit_but_for_costs_and_show_their_spread(run: Run, tmp_path: Path) -> None:
    documents = []
    for _ in range(2):
        code, out, err = run(WINDOWS, "evaluate", "--out", "report")
        assert code == 0, err
        assert " test users in 3 windows, by_time" in out
        documents.append(json.loads((tmp_path / "report" / "evaluation.json").read_text()))
        means = [window["metrics"]["ndcg@100"]["mean"] for window in documents[-1]["models"]["ease"]["windows"]]
        assert f"{min(means):.4f} to {max(means):.4f}" in out
        documents[-1].pop("environment")
        for model in documents[-1]["models"].values():
            model.pop("cost")
    assert json.dumps(documents[0]) == json.dumps(documents[1])


@pytest.mark.slow
def test_train_fits_the_last_window_and_publishes_all_rows(run: Run, tmp_path: Path, log: Path) -> None:
    windows = document_of(run, WINDOWS)["split"]["windows"]
    code, out, err = run(WINDOWS, "train", "--json")
    assert code == 0, err
    version = json.loads(out)["versions"][0]
    assert version["metrics"]["ndcg@100"]["users"] == windows[-1]["validation_users"]
    artifact, _ = Registry(tmp_path / "registry").load()
    assert artifact.manifest["data"]["interactions"] == pq.read_metadata(log).num_rows
    assert not list((tmp_path / "runs").rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ('kind = "by_time"\nwindows = 0', "[split] windows: Input should be greater than 0; found 0"),
        ('kind = "by_time"\nwindows = 3', "by_time needs times, and the log has none; expected a timestamp column"),
        ('salt = "a"', 'salt needs by = "hash"'),
        ('by = "hash"', 'by = "hash" needs a salt'),
        ('by = "hash"\nsalt = "a"\ntest_users = 2', 'test_users is 2; with by = "hash" expected a fraction'),
        ('by = "hash"\nsalt = "a"\ntest_users = 0.0001', "of 4 users no hash falls within the test fraction 0.0001"),
        ('kind = "leave_last_out"', "no user has a validation target: 0 of 4 users have three interactions or more"),
        ('kind = "item_hold_out"\ntest_items = 9', "1 validation and 9 test items of 3 items that anyone met"),
        ("test_users = 4", "1 validation and 4 test users of 4 users"),
    ],
)
def test_wrong_input_is_one_message_and_code_2(run: Run, tmp_path: Path, split: str, said: str) -> None:
    path = tmp_path / "small.csv"
    path.write_text("user_id,item_id\n1,1\n1,2\n2,2\n2,3\n3,1\n3,3\n4,1\n")
    code, out, err = run(split, "evaluate", "--out", "report", path=path)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert said in err
    assert not (tmp_path / "report").exists()


@pytest.fixture
def kinds(tmp_path: Path) -> Path:
    """150 users of three tastes and what each item's taste is, as a table that says nothing else."""
    histories = tastes(150, weighted=False)
    log = tmp_path / "tastes.csv"
    rows = zip(histories.rows.tolist(), histories.items.tolist(), strict=True)
    log.write_text("user_id,item_id\n" + "".join(f"{user},{item}\n" for user, item in rows))
    lines = "".join(f"{item},No {item} of kind{item % N_TASTES}\n" for item in range(N_ITEMS))
    (tmp_path / "kinds.csv").write_text(f"item_id,title\n{lines}")
    return log


COLD = 'kind = "item_hold_out"\nvalidation_items = 0.2\ntest_items = 0.3\n[evaluation]\nks = [5]\nmap = "none"\n'
CONTENT = '[items]\npath = "kinds.csv"\ntitle = "title"\n[content]\n'
JUDGED = """[publish]
metric = "ndcg@5"
[[models]]
name = "mult_dae"
latent = 8
epochs = 40
patience = 40
learning_rate = 0.02
batch_size = 25
[[models]]
name = "user_knn"
"""


def judged_cold(tmp_path: Path, command: Run, log: Path, content: str) -> dict[str, Any]:
    (tmp_path / "run.toml").write_text(f'[log]\npath = "{log}"\n[split]\n{COLD}{content}{JUDGED}')
    code, out, err = command("evaluate", "run.toml", "--out", "out", "--json")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def test_cold_items_are_judged_where_their_features_put_them(
    tmp_path: Path, kinds: Path, monkeypatch: pytest.MonkeyPatch, command: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    bare, placed = (judged_cold(tmp_path, command, kinds, content) for content in ("", CONTENT))
    reached = [found["models"]["mult_dae"]["metrics"]["recall@5"]["mean"] for found in (bare, placed)]
    assert reached[1] > 0.75 > 0.5 > reached[0], reached
    fits = [found["models"]["mult_dae"]["fit"]["validation"] for found in (bare, placed)]
    assert max(fits[1]) > max(fits[0]) + 0.1, fits  # early stopping too sees them there
    assert placed["split"]["placed_by"] == ["titles"] and "placed_by" not in bare["split"]
    # who keeps no rows of items guesses as before, and it is said
    same = [found["models"]["user_knn"]["metrics"] for found in (bare, placed)]
    assert same[0] == same[1]
    assert "not placed" in placed["models"]["user_knn"]["warnings"][0]
    assert not placed["models"]["mult_dae"]["warnings"] and not bare["models"]["user_knn"]["warnings"]


def test_content_that_knows_no_cold_item_is_refused(
    tmp_path: Path, kinds: Path, monkeypatch: pytest.MonkeyPatch, command: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    told = f'[log]\npath = "{kinds}"\n[split]\n{COLD}'
    (tmp_path / "run.toml").write_text(f"{told}{JUDGED}")
    train = split_dataset(load_config(tmp_path / "run.toml"))[0].train
    (tmp_path / "run.toml").write_text(f"{told}{CONTENT}{JUDGED}")
    warm = {train.items.ids[column] for column in train.histories.items}
    for known, what in ((warm, "[content] knows none of the 2"), ({900, 901}, "no titles, categories or images")):
        (tmp_path / "kinds.csv").write_text("item_id,title\n" + "".join(f"{item},a film\n" for item in known))
        code, _, err = command("evaluate", "run.toml", "--out", "out")
        assert code == 2 and what in err


def test_content_of_items_of_which_nothing_is_known_is_refused_before_anything_is_fitted(
    tmp_path: Path, kinds: Path, monkeypatch: pytest.MonkeyPatch, command: Run
) -> None:
    """Whatever the split: it is the publishing that needs them, at the very end."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kinds.csv").write_text("item_id,title\n900,a film\n")
    told = f'[log]\npath = "{kinds}"\n'
    dae, knn = JUDGED.split('[[models]]\nname = "user_knn"')[0], JUDGED
    monkeypatch.setattr("pipelines.train.fit", None)
    for content, models, what in (
        (CONTENT, dae, "[content]: the items have no titles, categories or images to place them by"),
        (f'{CONTENT}images = "nowhere"\n', dae, "[content] images = 'nowhere' is no folder"),
        (CONTENT, knn, "[content] with the model 'user_knn', which keeps no rows of items"),
    ):
        (tmp_path / "run.toml").write_text(f"{told}{content}{models}")
        code, _, err = command("train", "run.toml")
        assert code == 2 and what in err
