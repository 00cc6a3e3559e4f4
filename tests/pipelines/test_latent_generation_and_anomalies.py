"""`recsys-ae latent anomalies` and `latent generate`, the check of a night and the API's route: one answer, clear errors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from pipelines.__main__ import app
from pipelines.checks import anomalies as check
from pipelines.checks import tonight_of
from pipelines.config import make_config
from pipelines.ingest import clean_source, dataset
from recsys_ae.artifact import Artifact
from recsys_ae.errors import ConfigError, DataError, UnknownIdError
from recsys_ae.histories import Histories
from recsys_ae.ids import IdMap
from recsys_ae.items import ItemMetadata
from recsys_ae.preprocessing import Preprocessing
from recsys_ae.registry import Registry, StoredUsers
from service.app import create_app
from service.settings import Settings
from tests.service.conftest import InProcess, assert_problem
from tests.unit.test_latent_anomalies import N_ITEMS, model_of, ordinary, strange

USERS = 120
ITEMS = IdMap(tuple(f"i{n:03}" for n in range(N_ITEMS)))


def publish(folder: Path, name: str, log: Histories) -> None:
    registry = Registry(folder)
    artifact = Artifact(name, model_of(name, log), ITEMS, ItemMetadata.of(ITEMS, log, {}, {}), Preprocessing())
    registry.promote(registry.publish(artifact, name, StoredUsers(IdMap(tuple(range(len(log)))), log), {}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry, a log of 30 ordinary and 10 random users and one of unknown items, and an EASE."""
    made = tmp_path_factory.mktemp("latent")
    log = ordinary(USERS, 0)
    publish(made / "registry", "mult_vae", log)
    publish(made / "ease", "ease", log)
    popular = np.argsort(-np.bincount(log.items, minlength=N_ITEMS))
    judged = Histories.stack([ordinary(30, 1), strange("random", 10, popular)])
    rows = [(int(u), ITEMS.ids[i]) for u, i in zip(judged.rows, judged.items, strict=True)] + [(99, "new")]
    pd.DataFrame(rows, columns=["user_id", "item_id"]).to_parquet(made / "log.parquet")
    return made


def run(*arguments: object) -> Any:
    """The JSON that a command prints."""
    done = CliRunner().invoke(app, ["latent", *map(str, arguments), "--json"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_the_strangers_of_a_log_are_flagged(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "new/scores.parquet"
    common = ("anomalies", "--registry", folder / "registry", "--log", folder / "log.parquet", "--out", out)
    said = run(*common, "--false-positive-rate", 0.01)
    found = pq.read_table(out).to_pandas().set_index("user_id")
    assert list(found.columns) == ["score", "flagged"] and found.index.dtype == np.int64 and len(found) == 41
    assert found.flagged[list(range(30, 40))].mean() >= 0.9 and found.flagged[list(range(30))].mean() < 0.3
    assert np.isnan(found.score[99]) and not found.flagged[99]
    assert (said["users"], said["users_without_known_items"], said["unknown_items"]) == (41, 1, 1)
    assert said["flagged"] == found.flagged.sum() and (found.score > said["threshold"]).sum() == said["flagged"]
    run(*common)
    assert pq.read_table(out).column_names == ["user_id", "score"]
    run(*common, "--usual", folder / "log.parquet")
    assert not np.allclose(pq.read_table(out)["score"].to_numpy()[:40], found.score[:40])
    with pytest.raises(DataError, match=r"false positive rate of 0\.7"):
        run(*common, "--false-positive-rate", 0.7)


def test_a_log_of_synthetic_users_is_written(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "log.parquet"
    common = ("generate", "--registry", folder / "registry", "--out", out, "--users", 1_100)
    said = run(*common, "--seed", 3)
    first = pq.read_table(out)
    frame = first.to_pandas()
    assert first.column_names == ["user_id", "item_id"]
    assert frame.user_id.unique().tolist() == list(range(1, 1_101)) and set(frame.item_id) <= set(ITEMS.ids)
    assert not frame.duplicated().any() and said["interactions"] == len(frame) and 0.2 < said["temperature"] < 5
    run(*common, "--seed", 3)
    assert pq.read_table(out).equals(first)
    run(*common, "--seed", 4)
    assert not pq.read_table(out).equals(first)
    run(*common, "--from", "history", "--history", "i001,i005, i009", "--temperature", 1)
    taste = pq.read_table(out)["item_id"].to_pandas().str[1:].astype(int) % 4
    assert (taste == 1).mean() > 0.5


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (("--from", "history"), ConfigError, "belong together"),
        (("--history", "i001"), ConfigError, "belong together"),
        (("--from", "history", "--history", "nothing"), UnknownIdError, "120 items; found"),
        (("--temperature", "0"), DataError, "temperature of 0"),
    ],
)
def test_what_cannot_be_drawn_is_named(
    folder: Path, tmp_path: Path, arguments: tuple[str, ...], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        run("generate", "--registry", folder / "registry", "--out", tmp_path / "log.parquet", "--users", 5, *arguments)
    with pytest.raises(ConfigError, match="is a ease, which has no codes"):
        run("generate", "--registry", folder / "ease", "--out", tmp_path / "log.parquet", "--users", 5)
    assert not list(tmp_path.iterdir())


def test_a_night_of_attackers_is_found(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sections = {"log": {"path": str(folder / "log.parquet")}, "checks": {"anomalies": {"action": "stop"}}}
    config = make_config(sections | {"registry": {"path": str(folder / "registry")}})
    source = clean_source(config)
    tonight = tonight_of(config, dataset(config, source), source.log.counts, tmp_path)
    (found,) = check(config.checks.anomalies, tonight)
    assert not found.passed and found.action == "stop" and found.found is not None and found.found > 0.2
    assert "of 41 users" in found.message
    (none,) = check(config.checks.anomalies, type(tonight)(**vars(tonight) | {"registry": tmp_path / "none"}))
    assert none.passed and "no current version" in none.message
    current = json.loads((folder / "registry/current.json").read_text())
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "current.json").write_text(json.dumps(current)[:-3])
    (told,) = check(config.checks.anomalies, type(tonight)(**vars(tonight) | {"registry": damaged}))
    assert not told.passed and told.action == "warn"


def test_the_api_gives_the_score_that_the_command_gives(folder: Path, tmp_path: Path) -> None:
    _, stored = Registry(folder / "registry").load()
    rows = [(int(u), ITEMS.ids[i]) for u, i in zip(stored.histories.rows, stored.histories.items, strict=True)]
    pd.DataFrame(rows, columns=["user_id", "item_id"]).to_parquet(tmp_path / "log.parquet")
    run("anomalies", "--registry", folder / "registry", "--log", tmp_path / "log.parquet", "--out", tmp_path / "out.parquet")
    scores = pq.read_table(tmp_path / "out.parquet")["score"].to_pylist()
    api = InProcess(create_app(Settings(registry=folder / "registry")))
    for user in (0, 7, 100):
        answer = api.get(f"/v1/users/{user}/anomaly", params={"false_positive_rate": 0.3}).json()
        assert answer["score"] == pytest.approx(scores[user], rel=1e-4)
        assert answer["flagged"] == (answer["score"] > answer["threshold"]) and answer["false_positive_rate"] == 0.3
        assert set(answer["parts"]) == {"reconstruction", "lift", "spread", "code"}
    assert_problem(api.get("/v1/users/nobody/anomaly"), 404)
    for wrong in ("0", "0.6", "x"):
        assert_problem(api.get(f"/v1/users/0/anomaly?false_positive_rate={wrong}"), 422)
