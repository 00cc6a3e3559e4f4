"""`train` by a Ray cluster publishes what `train` by one process does: the same data, losses and figures."""

from pathlib import Path

import pyarrow.csv
import pytest

from pipelines.config import load_config
from pipelines.train import train
from recsys_ae import datasets
from recsys_ae.registry import Registry
from tests.extras.conftest import NEEDS_RAY
from tests.pipelines.test_cluster import CONFIG

pytestmark = NEEDS_RAY


def test_the_same_version(cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = datasets.synthetic(n_users=200, n_items=80, seed=3).events
    half = len(table) // 2
    pyarrow.csv.write_csv(table.slice(0, half), "events0.csv")
    pyarrow.csv.write_csv(table.slice(half), "events1.csv")
    found = {}
    for engine, keys in (("local", ""), ("ray", f'address = "{cluster}"')):
        config = CONFIG.replace("events.parquet", "events*.csv")
        Path("run.toml").write_text(f'{config}[cluster]\nengine = "{engine}"\n{keys}\n[registry]\npath = "{engine}"\n')
        (published,), counts = train(load_config(Path("run.toml")), promote=True)
        found[engine] = Registry(Path(engine)).load(published.version)[0].manifest | {"counts": counts}
        assert Path("runs/log.parquet").is_dir() == (engine == "ray")
    one, several = found["local"], found["ray"]
    assert several["data"] == one["data"] and several["counts"] == one["counts"]
    assert several["fit"]["losses"] == pytest.approx(one["fit"]["losses"], rel=1e-4)
    assert several["metrics"]["ndcg@10"]["mean"] == pytest.approx(one["metrics"]["ndcg@10"]["mean"], rel=0.02)
    config = Path("run.toml").read_text().replace(f'engine = "ray"\naddress = "{cluster}"', 'engine = "local"')
    Path("run.toml").write_text(config)
    train(load_config(Path("run.toml")), promote=True)  # a log in parts gives way to a file
    assert Path("runs/log.parquet").is_file()
