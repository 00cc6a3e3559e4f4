"""A log cleaned by a Ray cluster is that which this process makes of the same files, row by row and count by count."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from benchmarks.killing import killing
from pipelines.config import make_config
from pipelines.ingest import clean_source, source_files
from pipelines.paths import source_digests
from recsys_ae import objects
from recsys_ae.cleaning import Cleaning
from recsys_ae.cluster.ingest import read_log_on_ray
from recsys_ae.dataset import Dataset
from recsys_ae.errors import ConfigError, LogError
from recsys_ae.log import read_log
from recsys_ae.preprocessing import Preprocessing
from tests.extras.conftest import NEEDS_RAY
from tests.stores import Store

pytestmark = NEEDS_RAY

N_EVENTS = 6_000


def events(seed: int = 0, text: bool = False) -> pa.Table:
    """Events of users and items of all lengths, many at the same time, some twice, some without an id or of no weight."""
    rng = np.random.default_rng(seed)
    users = rng.zipf(1.3, N_EVENTS) % 400
    items = rng.zipf(1.2, N_EVENTS) % 150
    times = 1_600_000_000 + rng.integers(0, 300, N_EVENTS) * 86_400
    weights = rng.integers(0, 6, N_EVENTS).astype(np.float64)
    columns: dict[str, Any] = {"user_id": users.tolist(), "item_id": items.tolist()}
    if text:
        columns = {"user_id": [f"u{u}é" if u % 3 else f"U{u}" for u in users], "item_id": [f"i{i}" for i in items]}
    for row in rng.integers(0, N_EVENTS, 40):
        columns["user_id" if row % 2 else "item_id"][row] = None
    return pa.table(columns | {"timestamp": times, "weight": weights})


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The same kind of log in five Parquet files of integers, and in three CSV files of text."""
    folder = tmp_path_factory.mktemp("logs")
    table, texts = events(), events(1, text=True)
    for n in range(5):
        pq.write_table(table.slice(n * 1_200, 1_200), folder / f"part{n}.parquet")
    for n in range(3):
        pyarrow.csv.write_csv(texts.slice(n * 2_000, 2_000), folder / f"part{n}.csv")
    return {"parquet": str(folder / "*.parquet"), "csv": str(folder / "*.csv")}


CLEANINGS = {
    "all": Cleaning(),
    "long users": Cleaning(Preprocessing(repeats="sum", min_weight=2.0), min_user_interactions=4),
    "core": Cleaning(Preprocessing(), min_user_interactions=4, min_item_interactions=12),
    "idle and core": Cleaning(Preprocessing(max_item_idle_days=40, max_history=30), 3, 4),
}


@pytest.mark.parametrize(
    ("kind", "rules"), [("parquet", "all"), ("csv", "long users"), ("csv", "core"), ("parquet", "idle and core")]
)
def test_the_same_rows_in_the_same_order(cluster: str, logs: dict[str, str], tmp_path: Path, kind: str, rules: str) -> None:
    cleaning = CLEANINGS[rules]
    one = read_log(logs[kind], cleaning=cleaning, into=tmp_path / "one.parquet")
    many = read_log_on_ray(logs[kind], cleaning=cleaning, into=tmp_path / "many", address=cluster, rows_per_part=1_500)
    parts = sorted(path.name for path in (tmp_path / "many").iterdir())
    assert 3 <= len(parts) <= 4 and all(name.startswith("part-") for name in parts)  # and no leftovers
    assert many.counts == one.counts
    assert list(many.counts["dropped"]) == list(one.counts["dropped"])
    assert many.table().equals(one.table())
    assert many.kept == one.kept and many.last_time() == one.last_time()
    assert Dataset.from_log(many).digest == Dataset.from_log(one).digest
    if rules == "core":
        assert one.dropped["item_below_min_interactions"] > 0 < one.dropped["user_below_min_interactions"]
    if rules == "idle and core":
        assert one.dropped["item_idle"] > 0
    for a, b in zip(parts, parts[1:], strict=False):  # by ranges of users
        last, first = (pq.read_table(tmp_path / "many" / part)["user_id"] for part in (a, b))
        assert last[-1].as_py() < first[0].as_py()


@pytest.mark.slow
def test_workers_that_are_killed_cost_nothing_of_the_log(cluster: str, logs: dict[str, str], tmp_path: Path) -> None:
    cleaning = CLEANINGS["core"]
    one = read_log(logs["csv"], cleaning=cleaning, into=tmp_path / "one.parquet")
    with killing(3, "ray::", least=0.5, most=3.0) as killed:
        many = read_log_on_ray(logs["csv"], cleaning=cleaning, into=tmp_path / "many", address=cluster, rows_per_part=1_500)
    assert killed
    assert many.counts == one.counts and many.table().equals(one.table())


@pytest.mark.parametrize(
    ("second", "what"),
    [
        ("user_id,item_id\nann,2\n", "expected"),
        ("user_id,item_id,timestamp\n1,2,yesterday\n", "yesterday"),
        ("user_id,thing\n1,2\n", "no column 'item_id'"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_of_it(cluster: str, tmp_path: Path, second: str, what: str) -> None:
    (tmp_path / "a.csv").write_text("user_id,item_id\n1,2\n3,4\n")
    (tmp_path / "b.csv").write_text(second)
    with pytest.raises(LogError) as found:
        read_log_on_ray(str(tmp_path / "*.csv"), into=tmp_path / "clean", address=cluster)
    assert "b.csv" in str(found.value) and what in str(found.value)
    assert not (tmp_path / "clean").exists() and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    "cleaning", [Cleaning(Preprocessing(min_weight=50.0), 2, 2), Cleaning(min_user_interactions=3_000, min_item_interactions=2)]
)
def test_a_log_that_cleaning_empties_is_said_to_be_empty(
    cluster: str, logs: dict[str, str], tmp_path: Path, cleaning: Cleaning
) -> None:
    with pytest.raises(LogError, match="no interaction is left of 6000 read"):
        read_log_on_ray(logs["parquet"], cleaning=cleaning, into=tmp_path / "new" / "clean", address=cluster)


def test_parts_are_as_small_as_a_memory_limit_asks(
    cluster: str, logs: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recsys_ae.cluster.ingest.BYTES_A_ROW", 100_000)
    many = read_log_on_ray(logs["parquet"], into=tmp_path / "many", address=cluster, memory_limit=150_000_000)
    assert len(list((tmp_path / "many").iterdir())) == 4  # of 6,000 rows 1,500 each
    assert many.table().equals(read_log(logs["parquet"]).table())


def test_a_log_of_nothing_is_refused_and_the_one_before_stays(cluster: str, logs: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user_id,item_id\n1,2\n,4\n")
    (tmp_path / "b.csv").write_text("user_id,item_id\n")
    kept = read_log_on_ray(str(tmp_path / "*.csv"), into=tmp_path / "clean", address=cluster)
    assert kept.counts == {"read": 2, "kept": 1, "dropped": kept.dropped} and kept.dropped["missing_id"] == 1
    with pytest.raises(LogError, match="no interaction is left of 2 read"):
        read_log_on_ray(
            str(tmp_path / "*.csv"), cleaning=Cleaning(min_user_interactions=2), into=tmp_path / "clean", address=cluster
        )
    assert kept.table()["user_id"].to_pylist() == [1]


def test_a_cluster_that_is_not_there_is_one_message(tmp_path: Path) -> None:
    import ray

    if ray.is_initialized():
        pytest.skip("this process is in a cluster already")
    (tmp_path / "a.csv").write_text("user_id,item_id\n1,2\n")
    with pytest.raises(ConfigError, match="cannot be joined"):
        read_log_on_ray(str(tmp_path / "a.csv"), into=tmp_path / "clean", address="127.0.0.1:9")


@pytest.fixture
def of_the_store(cluster: str, s3: Store) -> Iterator[Store]:
    """A store whose credentials are those of this process' tasks on the cluster."""
    import ray

    ray.init(address=cluster, runtime_env={"env_vars": s3.environment()}, log_to_driver=False)
    yield s3
    ray.shutdown()


def test_objects_are_fetched_by_the_tasks(
    of_the_store: Store, cluster: str, logs: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in sorted(Path(logs["csv"]).parent.glob("*.csv")):
        of_the_store.put(f"log/{file.name}", file.read_bytes())
    config = make_config(
        {"log": {"path": "s3://shop/log/*.csv"}, "run": {"folder": "runs"}, "cluster": {"engine": "ray", "address": cluster}}
    )
    monkeypatch.setattr(objects, "fetch", None)  # of this process
    found = clean_source(config).log
    one = read_log(logs["csv"], into=tmp_path / "one.parquet")
    assert found.counts == one.counts and found.table().equals(one.table())
    assert sorted({key.removeprefix("log/") for key in of_the_store.fetched}) == ["part0.csv", "part1.csv", "part2.csv"]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["log.parquet"]
    marks = source_digests(config, source_files(config).paths)
    assert list(marks) == [f"s3://shop/log/part{n}.csv" for n in range(3)] and all(mark["etag"] for mark in marks.values())
    of_the_store.put("log/part1.csv", b"user_id,item_id,timestamp,weight\n1,2,yesterday,3\n")
    changed = source_digests(config, source_files(config).paths)
    assert [url for url in marks if marks[url] != changed[url]] == ["s3://shop/log/part1.csv"]
    with pytest.raises(LogError, match=r"s3://shop/log/part1.csv, row 1 .*yesterday") as error:
        clean_source(config)
    assert "/tmp" not in str(error.value)
    assert found.table().equals(one.table())  # what was there stays
