"""tune: trials in one storage over processes and restarts, judged on the validation users; the winner is a configuration."""

import json
import re
import signal
import sqlite3
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import optuna
import pyarrow.parquet as pq
import pytest

from pipelines.__main__ import main
from pipelines.config import RunConfig, TuneSection, load_config, make_config
from pipelines.ingest import split_windows
from pipelines.tables import Standing
from pipelines.train import fit, train
from pipelines.tune import tune
from recsys_ae import MODELS, Histories, Holdout, datasets
from recsys_ae.evaluation import mean_metric
from recsys_ae.split import Split
from tests.worlds import cpu, small_config

HEAD = """
# what we listen to
seed = 3
[log]
path = "events.parquet"  # the export
[split]
validation_users = 40
test_users = 40
[run]
device = "cpu"
precision = "float32"
[publish]
metric = "ndcg@10"
"""
EASE = HEAD + '[[models]]\nname = "ease"\n\n# the gate\n[registry]\npath = "versions"\n[tune]\ntrials = 4\n'
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "events.parquet"
    pq.write_table(datasets.synthetic(n_users=200, n_items=60, seed=5).events, path)
    return path


@pytest.fixture
def home(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a log."""
    (tmp_path / "events.parquet").symlink_to(log)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def search(content: str, lines: list[str] | None = None) -> dict[str, Any]:
    """The job in this process."""
    Path("run.toml").write_text(content)

    def report(at: Standing) -> None:
        if lines is not None and at.line:
            lines.append(at.line)

    return tune(load_config(Path("run.toml")), Path("run.toml"), report)


def trials(key: str) -> list[optuna.trial.FrozenTrial]:
    """All trials of a model, read by Optuna from the file."""
    storage = optuna.storages.RDBStorage("sqlite:///tune.db")
    [name] = [name for name in optuna.get_all_study_names(storage) if name.startswith(f"{key}-")]
    found = optuna.load_study(study_name=name, storage=storage).trials
    storage.remove_session()
    storage.engine.dispose()
    return found


def exit_code(*arguments: str) -> int:
    """Of the command line, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["recsys-ae", *arguments])
        try:
            main()
        except SystemExit as stopped:
            return int(stopped.code or 0)
    return 0


def test_the_winner_is_a_configuration_that_trains_to_the_same_value_and_is_no_worse_than_the_defaults(home: Path) -> None:
    found = search(EASE)
    entry = found["models"]["ease"]
    values = [trial["value"] for trial in entry["complete"]]
    assert entry["trials"] == {"complete": 4}
    assert values == sorted(values, reverse=True)
    assert entry["best"]["value"] == values[0] >= entry["defaults"]
    first = next(trial for trial in entry["complete"] if trial["trial"] == 0)
    assert first["defaults"] and first["settings"] == {"regularisation": 500.0}

    text = (home / "tuned.toml").read_text()
    before, after = tomllib.loads(EASE), tomllib.loads(text)
    assert after == {key: value for key, value in before.items() if key != "tune"} | {
        "models": [{"name": "ease", **entry["best"]["settings"]}]
    }
    assert "# what we listen to" in text and "# the export" in text
    assert text.index("regularisation") < text.index("# the gate")
    [published], _ = train(load_config(home / "tuned.toml"), promote=True)
    assert published.metrics["ndcg@10"]["mean"] == pytest.approx(entry["best"]["value"], abs=1e-12)


@pytest.mark.slow
def test_a_search_in_two_parts_is_the_search_in_one(home: Path) -> None:
    content = HEAD + '[[models]]\nname = "item_knn"\n[tune]\ntrials = {}\nstorage = "{}"\n'
    lines: list[str] = []
    search(content.format(12, "whole.db"))
    search(content.format(5, "tune.db"))
    parts = search(content.format(12, "tune.db"), lines)
    whole = search(content.format(12, "whole.db"))  # nothing is left to do
    assert parts["models"] == whole["models"]
    assert whole["models"]["item_knn"]["trials"] == {"complete": 12}
    assert "goes on" in lines[0] and len(lines) == 8
    assert set(whole["models"]["item_knn"]["importance"]) == {"neighbours", "similarity", "score"}
    assert isinstance(whole["models"]["item_knn"]["best"]["settings"]["neighbours"], int)


def test_other_data_metric_or_fixed_keys_are_another_study_and_it_says_so(home: Path) -> None:
    lines: list[str] = []
    for content in (EASE, EASE.replace("ndcg@10", "recall@10"), EASE.replace("seed = 3", "seed = 4")):
        entry = search(content.replace("trials = 4", "trials = 1"), lines)["models"]["ease"]
        assert entry["trials"] == {"complete": 1}
    news = [line for line in lines if "new study" in line]
    assert len(news) == 3
    assert ["other data" in line for line in news] == [False, True, True]


def test_keys_of_the_configuration_are_not_searched_and_lists_pass_through(home: Path) -> None:
    model = '[[models]]\nname = "mult_dae"\nlatent = 8\nepochs = 1\nlearning_rate = 0.01\n'
    entry = search(HEAD + model + "[tune]\ntrials = 6\n")["models"]["mult_dae"]
    assert {"latent", "epochs", "learning_rate"}.isdisjoint(entry["best"]["settings"])
    seen = [trial["settings"]["hidden"] for trial in entry["complete"]]
    assert [600] in seen and [] in seen
    after = tomllib.loads((home / "tuned.toml").read_text())["models"][0]
    assert after == {"name": "mult_dae", **entry["fixed"], **entry["best"]["settings"]}


@pytest.mark.slow
def test_hopeless_trials_are_pruned(home: Path) -> None:
    model = '[[models]]\nname = "autorec"\nlatent = 8\nepochs = 12\nhidden = []\nbatch_size = 40\n[tune]\ntrials = 14\n'
    entry = search(HEAD + model)["models"]["autorec"]
    assert entry["trials"]["pruned"] > 0
    assert sum(entry["trials"].values()) == 14
    pruned = [trial for trial in trials("autorec") if trial.state.name == "PRUNED"]
    assert all(5 <= len(trial.intermediate_values) < 12 for trial in pruned)
    assert all(max(trial.intermediate_values.values()) <= entry["best"]["value"] for trial in pruned)


def test_a_fit_stopped_by_its_progress_leaves_nothing_behind(tastes: Histories, holdout: Holdout) -> None:
    model = MODELS["mult_dae"](small_config("mult_dae"), tastes.n_items)
    with pytest.raises(optuna.TrialPruned):
        model.fit(tastes, validation=holdout, run=cpu(progress=_prune))
    again = model.fit(tastes, validation=holdout, run=cpu())
    fresh = MODELS["mult_dae"](small_config("mult_dae"), tastes.n_items).fit(tastes, validation=holdout, run=cpu())
    assert again.validation == fresh.validation
    assert not any(tensor.requires_grad for tensor in model.tensors().values())


def _prune(_: object) -> None:
    raise optuna.TrialPruned


def test_settings_that_do_not_go_together_fail_one_trial_and_not_the_search(home: Path) -> None:
    model = '[[models]]\nname = "autorec"\nlatent = 8\nepochs = 1\nhidden = []\ndropout = 0.0\n'
    lines: list[str] = []
    entry = search(HEAD + model + "[tune]\ntrials = 6\n", lines)["models"]["autorec"]
    assert entry["trials"]["complete"] + entry["trials"]["failed"] == 6
    assert all(trial["settings"]["target"] == "all" for trial in entry["complete"])
    assert any("failed" in line and "leaves nothing to find" in line for line in lines)


def test_a_model_without_anything_to_search_has_one_trial(home: Path) -> None:
    lines: list[str] = []
    found = search(HEAD + '[[models]]\nname = "popularity"\n', lines)
    assert found["models"]["popularity"]["trials"] == {"complete": 1}
    assert "one trial" in lines[0]
    assert tomllib.loads((home / "tuned.toml").read_text())["models"] == [{"name": "popularity"}]


@pytest.mark.slow
def test_a_configuration_without_models_gets_the_default_one(home: Path) -> None:
    found = search(HEAD + "[tune]\ntrials = 1\ntimeout = 0.001\n")
    assert [model["name"] for model in tomllib.loads((home / "tuned.toml").read_text())["models"]] == ["mult_vae"]
    assert found["models"]["mult_vae"]["trials"] == {"complete": 1}


def test_of_several_windows_the_mean_is_taken(home: Path) -> None:
    content = EASE.replace("validation_users = 40\ntest_users = 40", 'kind = "by_time"\nwindows = 2')
    found = search(content.replace("trials = 4", "trials = 1"))
    config = load_config(Path("run.toml"))
    splits, _ = split_windows(config)
    models = [fit(config, config.models[0], split).model for split in splits]
    values = [mean_metric(model, split.validation, "ndcg@10") for model, split in zip(models, splits, strict=True)]
    assert found["windows"] == len(set(values)) == 2
    assert found["models"]["ease"]["best"]["value"] == pytest.approx(sum(values) / 2, abs=1e-12)


def test_the_test_users_are_never_looked_at(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_test(config: RunConfig) -> tuple[list[Split], dict[str, Any]]:
        splits, counts = split_windows(config)
        for split in splits:
            object.__setattr__(split, "test", None)
        return splits, counts

    monkeypatch.setattr("pipelines.tune.split_windows", without_test)
    assert search(EASE)["models"]["ease"]["trials"] == {"complete": 4}


@pytest.mark.slow
def test_processes_share_a_storage_and_no_trial_is_made_twice(home: Path) -> None:
    Path("run.toml").write_text(EASE.replace("trials = 4", "trials = 20"))
    command = [sys.executable, "-m", "pipelines", "tune", "run.toml", "--json"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in processes:
        told, said = process.communicate(timeout=200)
        assert process.returncode == 0, said
        assert json.loads(told)["models"]["ease"]["best"]["value"] > 0
    made = trials("ease")
    assert [trial.number for trial in made] == list(range(20))
    assert all(trial.state.name == "COMPLETE" for trial in made)
    assert len({trial.params["regularisation"] for trial in made}) == 20
    assert sum(trial.user_attrs.get("defaults", False) for trial in made) == 1
    best = max(made, key=lambda trial: trial.value or 0)
    assert tomllib.loads(Path("tuned.toml").read_text())["models"][0]["regularisation"] == best.params["regularisation"]


@pytest.mark.slow
def test_a_killed_process_blocks_nothing_and_its_trial_is_replaced(home: Path) -> None:
    Path("run.toml").write_text(EASE)
    script = (
        "import os, sys, pipelines.tune as tune\n"
        f"tune.objective = lambda *_: os.kill(os.getpid(), {int(signal.SIGKILL)})\n"
        "sys.argv = ['recsys-ae', 'tune', 'run.toml']\n"
        "from pipelines.__main__ import main\n"
        "main()\n"
    )
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=100, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [trial.state.name for trial in trials("ease")] == ["RUNNING"]
    entry = search(EASE)["models"]["ease"]
    assert entry["trials"] == {"stopped": 1, "complete": 4}
    assert entry["defaults"] is not None


def test_what_is_interrupted_by_hand_is_replaced_too(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> float:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pipelines.tune.objective", interrupted)
        (home / "run.toml").write_text(EASE)
        assert exit_code("tune", "run.toml") == 130
    assert search(EASE)["models"]["ease"]["trials"] == {"stopped": 1, "complete": 4}


def _database(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE events (id)")
    connection.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ('storage = "text"', ["[tune] storage", "text", "not a database"]),
        ('storage = "other.db"', ["other.db", "something else"]),
        ('storage = "folder"', ["[tune] storage", "folder"]),
        ('storage = "text/tune.db"', ["[tune] storage", "text"]),
        ('out = "folder"', ["[tune] out", "is a folder"]),
        ('out = "text/tuned.toml"', ["[tune] out", "text"]),
        ('out = "run.toml"', ["[tune] out", "the configuration itself"]),
        ("timeout = 0", ["[tune] timeout", "0"]),
        ("trails = 4", ["[tune] trails", "unknown key", "trials"]),
    ],
)
def test_bad_input_is_one_message(home: Path, capsys: pytest.CaptureFixture[str], change: str, said: list[str]) -> None:
    (home / "folder").mkdir()
    (home / "text").write_text("nothing that a database would begin with, and long enough to be read as one\n" * 20)
    _database(home / "other.db")
    (home / "run.toml").write_text(f"{EASE}{change}\n")
    assert exit_code("tune", "run.toml") == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "Traceback" not in message
    for part in said:
        assert part in message
    assert not (home / "tuned.toml").exists()


def test_a_search_without_a_single_value_fails_with_the_reason(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = '[[models]]\nname = "mult_dae"\nlatent = 8\nhidden = []\nepochs = 2\nlearning_rate = 1e38\n[tune]\ntrials = 2\n'
    (home / "run.toml").write_text(HEAD + model)
    assert exit_code("tune", "run.toml") == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert "none of 2 trials" in message and "diverged" in message
    assert not (home / "tuned.toml").exists()


def test_every_key_of_tune_is_documented() -> None:
    page = (ROOT / "docs/tuning.md").read_text()
    for key in TuneSection.model_fields:
        assert f"`{key}`" in page, key
    for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL):
        make_config({"log": {"dataset": "synthetic"}, **tomllib.loads(block)})
