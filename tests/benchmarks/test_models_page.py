"""The tables of the documentation are what the result files say, and those are of the models as they are."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import models_page, quality
from benchmarks.quality import BENCHMARKS
from recsys_ae.models import MODELS


def result(reference: str | None = "ease") -> dict[str, Any]:
    """A made-up file: model number n reaches 0.1 n in the first metric."""
    runs = {
        name: {
            "metrics": {"ndcg@100": 0.1 * n, "coverage@10": 0.5},
            "best_epoch": n,
            "fit_seconds": 2.0,
            "cpu_seconds": 3.0,
            "peak_bytes": 2**20,
            "less_reference": {"ndcg@100": {"mean": 0.1 * n - 0.3, "se": 0.0}},
        }
        for n, name in enumerate(MODELS)
    }
    entry = {"date": "2026-01-02", "machine": "a machine", "note": "not quiet"}
    return {
        "set": "some-set",
        "protocol": "some protocol",
        "data": {"users": 1000, "items": 20, "interactions": 3000},
        "metrics": ["ndcg@100", "coverage@10"],
        "reference": reference,
        "not_measured": {},
        "entries": {
            name: entry | {"config": MODELS[name].Config().model_dump(mode="json"), "seeds": {"0": run, "1": run}}
            for name, run in runs.items()
        },
    }


def test_pages_are_what_the_data_say_and_the_data_are_of_todays_defaults(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["models_page", "--check"])
    assert models_page.main() == 0, capsys.readouterr().out


def test_every_autoencoder_is_above_popularity_on_what_it_is_for() -> None:
    """conv_vae reads an order: of held-out sets it knows less than popularity does on movielens-small, as its page says."""
    for name in BENCHMARKS:
        content = models_page.results(name)
        entries = content["entries"]
        floor = models_page.mean(entries["popularity"], BENCHMARKS[name].metrics[0])
        trained = [name for name, kind in MODELS.items() if "latent" in kind.Config.model_fields]
        found = {entry["model"] for entry in entries.values()}
        assert set(trained) <= found | set(content["not_measured"]), name  # some stopped early, as their entries say
        for key, entry in entries.items():
            if entry["model"] in trained and (entry["model"] != "conv_vae" or name.endswith("-next")):
                assert models_page.mean(entry, BENCHMARKS[name].metrics[0]) > floor, (name, key)


def test_a_table_is_sorted_and_names_what_was_not_measured() -> None:
    content = result()
    del content["entries"]["popularity"]
    content["not_measured"]["popularity"] = "nobody had the time"
    lines = models_page.table(content).splitlines()
    best = list(MODELS)[-1]
    assert lines[2].startswith(f"| `{best}` | {0.1 * (len(MODELS) - 1):.4f} | 0.5000 |")
    assert any("`popularity` | not measured: nobody had the time" in line for line in lines)
    assert "2 splits; a machine; 2026-01-02; not quiet" in lines[-1]


def test_an_entry_of_other_settings_than_the_defaults_is_a_fault() -> None:
    content = result()
    assert models_page.faults("some-set", content) == []
    content["entries"]["ease"]["config"]["regularisation"] = 7.0
    del content["entries"]["als"]
    assert [fault.split(" was ")[0].split(" is ")[0] for fault in models_page.faults("some-set", content)] == [
        "some-set: als",
        "some-set: ease",
    ]


def test_seeds_merge_while_the_configuration_is_the_same(tmp_path: Path) -> None:
    path, head = tmp_path / "quality_some-set.json", {"set": "some-set"}
    quality.merge(path, copy.deepcopy(head), "ease", {"config": {"a": 1}, "seeds": {0: "first"}})
    quality.merge(path, copy.deepcopy(head), "ease", {"config": {"a": 1}, "seeds": {1: "second"}})
    assert json.loads(path.read_text())["entries"]["ease"]["seeds"] == {"0": "first", "1": "second"}
    quality.merge(path, copy.deepcopy(head), "ease", {"config": {"a": 2}, "seeds": {2: "third"}})
    assert json.loads(path.read_text())["entries"]["ease"]["seeds"] == {"2": "third"}


def test_entries_merge_and_other_data_are_refused(tmp_path: Path) -> None:
    path, head = tmp_path / "quality_some-set.json", {"set": "some-set", "data": {"digest": "one"}}
    quality.merge(path, copy.deepcopy(head), "ease", {"config": {"a": 1}, "seeds": {"0": 1}})
    quality.merge(path, copy.deepcopy(head), "als", {"config": {}, "seeds": {"0": 2}})
    quality.merge(path, copy.deepcopy(head), "ease", {"config": {"a": 2}, "seeds": {"0": 3}})
    content = json.loads(path.read_text())
    assert content["entries"] == {"ease": {"config": {"a": 2}, "seeds": {"0": 3}}, "als": {"config": {}, "seeds": {"0": 2}}}
    with pytest.raises(SystemExit, match="begin anew"):
        quality.merge(path, {"set": "some-set", "data": {"digest": "other"}}, "als", {})
