"""[cluster]: a training by several processes publishes what a training by one does."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from recsys_ae import Registry, datasets
from tests.pipelines.conftest import Run

CONFIG = """
[log]
path = "events.parquet"
[split]
validation_users = 0.2
test_users = 0.2
[evaluation]
ks = [10]
map = "none"
[run]
precision = "float32"
[publish]
metric = "ndcg@10"
[[models]]
name = "mult_dae"
latent = 16
epochs = 3
"""


@pytest.mark.slow
def test_several_processes_publish_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Run) -> None:
    monkeypatch.chdir(tmp_path)
    pq.write_table(datasets.synthetic(n_users=200, n_items=80, seed=3).events, "events.parquet")
    found = []
    for engine in ("local", "torchrun"):
        Path("run.toml").write_text(CONFIG + f'[cluster]\nengine = "{engine}"\n[registry]\npath = "{engine}"\n')
        code, out, err = command("train", "run.toml", "--json")
        assert code == 0, err
        json.loads(out)
        registry = Registry(Path(engine))
        found.append(registry.load(registry.current() or "")[0].manifest)
    one, several = found
    assert several["fit"]["losses"] == pytest.approx(one["fit"]["losses"], rel=1e-4)
    assert several["metrics"]["ndcg@10"]["mean"] == pytest.approx(one["metrics"]["ndcg@10"]["mean"], rel=0.02)
    assert several["softmax"] == "exact"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ('engine = "spark"', "'local', 'torchrun' or 'ray'"),
        ('address = "auto"', 'address means nothing to engine = "local"; expected engine = "ray"'),
        ('engine = "torchrun"\ncpus = 2', 'cpus means nothing to engine = "torchrun"; expected engine = "ray"'),
        ('engine = "ray"\nmin_workers = 3', "min_workers = 3 is more than workers = 2; expected at most as many"),
        ('engine = "ray"\nmin_workers = 1\nshare = "items"', 'min_workers means nothing to share = "items"'),
        (
            'engine = "ray"\nmin_workers = 1\ncpus = 0.2',
            "min_workers with cpus = 0.2 and gpus = 0; expected whole numbers of both",
        ),
        ('engine = "ray"\ngpus = 1.5', "gpus = 1.5; expected a whole number, or a part of one below 1"),
    ],
)
def test_an_engine_that_is_not_there_is_refused(
    keys: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.toml").write_text(CONFIG + f"[cluster]\n{keys}\n")
    code, _, err = command("train", "run.toml")
    assert code == 2
    assert "cluster" in err and expected in err
