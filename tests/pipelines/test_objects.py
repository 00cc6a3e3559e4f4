"""A run on a store's objects is the run on the same files."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines.config import make_config
from pipelines.ingest import clean_source, split_dataset
from pipelines.paths import cache_of, digests, local_paths
from recsys_ae import datasets
from recsys_ae.errors import ConfigError, InputError, LogError
from recsys_ae.sealed import read_sealed
from tests.pipelines.conftest import Run
from tests.stores import Store

NIGHT = """
[log]
path = "{place}/events/*.csv.gz"
[items]
path = ["{place}/items.csv"]
title = "title"
[split]
by = "hash"
salt = "nights"
validation_users = 0.2
test_users = 0.3
[evaluation]
ks = [10]
map = "none"
[publish]
metric = "ndcg@10"
[score]
k = 5
exclude = "{place}/withdrawn.csv"
[[models]]
name = "ease"
[run]
device = "cpu"
precision = "float32"
folder = "{folder}"
[registry]
path = "{folder}/registry"
"""


@pytest.fixture
def home(s3: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same log in four parts, items and withdrawn items, in the folder `files` and in the bucket."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "files/events").mkdir(parents=True)
    events = datasets.synthetic(n_users=300, n_items=60, seed=3).events.to_pandas().sample(frac=1, random_state=0)
    for place in range(4):
        events.iloc[place::4].to_csv(f"files/events/{10 - place}.csv.gz", index=False)
    items = sorted(events["item_id"].unique())
    (tmp_path / "files/items.csv").write_text("item_id,title\n" + "".join(f"{item},Title of {item}\n" for item in items))
    (tmp_path / "files/withdrawn.csv").write_text(f"item_id\n{items[0]}\n")
    for path in (tmp_path / "files").rglob("*.*"):
        s3.put(str(path.relative_to(tmp_path / "files")), path.read_bytes())
    for place, folder in (("files", "local"), ("s3://shop", "remote")):
        Path(f"{folder}.toml").write_text(
            NIGHT.format(place=place, folder=folder).replace("score]", f'score]\npath = "{folder}/scores"')
        )
    s3.asked.clear()
    return tmp_path


def config_of(path: Any, **sections: Any) -> Any:
    return make_config({"log": {"path": path}, **sections})


def test_the_clean_log_is_that_of_the_files_byte_for_byte(s3: Store, home: Path) -> None:
    sources = {
        "plain": "files/events/*.csv.gz",
        "s3": "s3://shop/events/*.csv.gz",
        "file": f"file://{home}/files/events/*.csv.gz",
        "listed": ["files/events/10.csv.gz", "s3://shop/events/[78].csv.gz", "s3://shop/events/9.csv.gz"],
    }
    logs = {name: clean_source(config_of(path, run={"folder": name})) for name, path in sources.items()}
    assert len({(home / name / "log.parquet").read_bytes() for name in sources}) == 1
    assert len({json.dumps(found.log.counts) for found in logs.values()}) == 1
    assert not (home / "file/objects").exists()  # it is read where it is


@pytest.mark.slow
def test_whole_nights(s3: Store, home: Path, command: Run) -> None:
    told = {}
    for name in ("local", "remote"):
        code, out, err = command("nightly", f"{name}.toml", "--json")
        assert code == 0, err
        told[name] = json.loads(out)
    assert sorted(s3.fetched) == sorted([f"events/{n}.csv.gz" for n in (10, 7, 8, 9)] + ["items.csv", "withdrawn.csv"])
    one, other = (
        {part.name: part.read_bytes() for part in Path(told[name]["scores"]).glob("*.parquet")} for name in ("local", "remote")
    )
    assert one == other and one
    recorded = digests(config_of("s3://shop/events/*.csv.gz", run={"folder": "remote"}), "s3://shop/events/*.csv.gz")
    assert [*recorded] == [f"s3://shop/events/{n}.csv.gz" for n in (10, 7, 8, 9)]
    assert [*recorded.values()] == [*digests(config_of("x"), "files/events/*.csv.gz").values()]

    s3.asked.clear()
    code, out, err = command("nightly", "remote.toml", "--json")
    assert code == 0, err
    assert s3.fetched == [] and {"train ease", "publish", "score"} <= set(json.loads(out)["reused"])
    item = (home / "files/withdrawn.csv").read_text().split()[1]
    another = next(i for i in pq.read_table(told["remote"]["scores"])["item_id"].to_pylist() if str(i) != item)
    s3.put("withdrawn.csv", f"item_id\n{another}\n".encode())
    code, out, err = command("nightly", "remote.toml", "--json")
    assert code == 0, err
    done = json.loads(out)
    assert s3.fetched == ["withdrawn.csv"] and "score" not in done["reused"] and "publish" in done["reused"]
    assert another not in pq.read_table(done["scores"])["item_id"].to_pylist()


def test_a_split_of_two_objects(s3: Store, home: Path) -> None:
    s3.put("train.csv", b"user_id,item_id\n" + b"".join(b"%d,%d\n" % (u, i) for u in range(30) for i in range(u % 7, 12)))
    s3.put("test.csv", b"user_id,item_id\n" + b"".join(b"%d,%d\n" % (u, i) for u in range(30) for i in range(u % 7)))
    split, counts = split_dataset(
        make_config({"split": {"kind": "given", "train": "s3://shop/train.csv", "test": "s3://shop/test.csv"}})
    )
    assert split.kind == "given" and counts["read"] == 30 * 12 and len(split.test) == 25


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"user_id,item_id\n1,2\n3\n", "s3://shop/bad/log.csv, line 3"),
        (b"user_id,item_id,timestamp\n1,2,1\n3,4,soon\n", "s3://shop/bad/log.csv, row 2"),
        (b"user_id,thing\n1,2\n", "s3://shop/bad/log.csv: no column 'item_id'"),
        (b"", "s3://shop/bad/log.csv: is empty"),
        (b"a\0b", "s3://shop/bad/log.csv: is binary"),
    ],
)
def test_what_is_wrong_with_an_object_is_said_of_its_url(s3: Store, home: Path, content: bytes, said: str) -> None:
    s3.put("bad/log.csv", content)
    with pytest.raises(LogError) as caught:
        clean_source(config_of("s3://shop/bad/*.csv"))
    message = str(caught.value)
    assert message.startswith(said) and "objects/" not in message and "\n" not in message


def test_errors_are_one_message_with_exit_code_2(s3: Store, home: Path, command: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.put("events/x.csv.gz", b"no gzip")
    code, _, err = command("ingest", "remote.toml")
    assert code == 2 and "s3://shop/events/x.csv.gz" in err and "Traceback" not in err and "objects/" not in err
    s3.put("items.csv", b"id,name\n")
    s3.remove("events/x.csv.gz")
    code, _, err = command("nightly", "remote.toml")
    assert code == 2 and "s3://shop/items.csv: no column" in err
    assert "s3://shop/items.csv" in read_sealed(home / "remote/nightly/run.json")["error"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    code, _, err = command("ingest", "remote.toml")
    assert code == 2 and "s3://shop/events/*.csv.gz: cannot be read" in err and "Traceback" not in err


def test_the_driver_gets_the_settings_of_its_section(s3: Store, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    config = config_of("s3://shop/items.csv", storage={"s3": {"endpoint_url": s3.url}})
    (found,) = local_paths(config, config.log.path)
    assert Path(found).read_bytes() == (home / "files/items.csv").read_bytes() and cache_of(config) in Path(found).parents
    monkeypatch.setenv("RECSYS_AE__STORAGE__S3__ENDPOINT_URL", s3.url)
    assert config_of("s3://shop/items.csv").storage == {"s3": {"endpoint_url": s3.url}}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"log": {"path": "s3://key:hidden@shop/a.csv"}}, "[log] path: s3://key:***@shop/a.csv: has a key or password"),
        ({"log": {"path": ["a.csv", "s3://key:hidden@shop/a.csv"]}}, "[log] path: s3://key:***@shop/a.csv"),
        ({"log": {"path": ["s3://key:hidden@shop/a.csv", 3]}}, "[log] path"),
        ({"items": {"path": "s3://key:hidden@shop/a.csv"}}, "[items] path"),
        ({"split": {"kind": "given", "train": "s3://key:hidden@shop/a.csv", "test": "a"}}, "[split] train"),
        ({"score": {"exclude": "s3://key:hidden@shop/a.csv"}}, "[score] exclude"),
        ({"storage": {"s3": {"secret": "hidden"}}}, "storage: s3.secret is or has a secret"),
        ({"storage": {"s4": {}}}, "'s4'"),
    ],
)
def test_secrets_in_a_configuration_are_refused_and_not_told(content: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config({"log": {"dataset": "synthetic"}} | content, "run.toml")
    assert said in str(caught.value) and "hidden" not in str(caught.value)


def test_an_error_of_a_local_file_stays_as_it_is(home: Path) -> None:
    with pytest.raises(InputError, match=r"files/absent\.csv: does not exist"):
        clean_source(config_of("files/absent.csv"))


def test_a_name_with_a_bracket_is_told_like_any_other(tmp_path: Path) -> None:
    """It is a glob that matches nothing, and the file of that name is read."""
    path = tmp_path / "log[1].csv"
    path.write_text("user_id,item_id\n1,2\n")
    assert list(digests(config_of(str(path)), str(path))) == [str(path)]
    path.write_text("user_id,item_id\n1,3\n")
    assert digests(config_of(str(path)), str(path)) != {} and not digests(config_of("x"), str(tmp_path / "none.csv"))
