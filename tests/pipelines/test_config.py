"""Configuration: TOML and environment become a validated RunConfig; a fault is one clear message."""

from pathlib import Path

import pytest

from pipelines.config import load_config, make_config
from recsys_ae.errors import ConfigError
from recsys_ae.preprocessing import Preprocessing

MINIMAL = {"log": {"dataset": "synthetic"}}


def test_defaults_are_those_of_the_contract() -> None:
    config = make_config(MINIMAL)
    assert (config.log.user, config.log.item, config.log.timestamp, config.log.weight) == (
        "user_id",
        "item_id",
        "timestamp",
        "weight",
    )
    assert config.log.min_user_interactions == config.log.min_item_interactions == 1
    assert config.split.kind == "strong_generalization"
    assert config.split.held_out_fraction == 0.2
    assert config.ks == (10, 20, 50, 100)
    assert str(config.run.folder) == "runs"
    assert config.log.preprocessing == Preprocessing()


def test_environment_wins_over_the_file_key_by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_AE__SEED", "7")
    monkeypatch.setenv("RECSYS_AE__LOG__MIN_WEIGHT", "3.5")
    config = make_config({**MINIMAL, "seed": 1, "log": {"dataset": "synthetic", "min_weight": 1.0, "item": "movie"}})
    assert config.seed == 7
    assert config.log.min_weight == 3.5
    assert config.log.item == "movie"


def test_a_publish_metric_outside_ks_is_added() -> None:
    assert make_config({**MINIMAL, "publish": {"metric": "recall@7"}}).ks == (7, 10, 20, 50, 100)


def test_a_named_column_is_required_and_a_default_one_is_not() -> None:
    assert make_config(MINIMAL).log.columns.required == {"user", "item"}
    named = make_config({"log": {"dataset": "synthetic", "weight": "rating"}})
    assert named.log.columns.required == {"user", "item", "weight"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"seed": -1, **MINIMAL}, ["seed", "-1"]),
        ({"sead": 1, **MINIMAL}, ["sead", "unknown key", "seed"]),
        ({"log": {"dataset": "synthetic", "usr": "u"}}, ["[log] usr", "unknown key", "user"]),
        ({"log": {"dataset": "movielens-huge"}}, ["movielens-huge", "movielens-small"]),
        ({}, ["[log]", "path", "dataset"]),
        ({"log": {"dataset": "synthetic", "path": "a.csv"}}, ["path and dataset"]),
        ({"log": {"url": "sqlite:///a.db", "path": "a.csv"}}, ["path and url"]),
        ({"log": {"url": "sqlite:///a.db"}}, ["either a query or a table", "neither"]),
        ({"log": {"url": "sqlite:///a.db", "table": "t", "query": "select"}}, ["query and table"]),
        ({"log": {"path": "a.csv", "table": "t"}}, ["table", "url"]),
        ({**MINIMAL, "split": {"kind": "by_moon"}}, ["[split] kind", "by_moon", "by_time"]),
        ({**MINIMAL, "split": {"kind": "given"}}, ["train and test"]),
        ({**MINIMAL, "split": {"test_users": 1.5}}, ["test_users", "1.5"]),
        ({**MINIMAL, "split": {"kind": "item_hold_out", "test_items": 0}}, ["test_items", "0", "number of items"]),
        ({**MINIMAL, "split": {"test_items": 0.2}}, ["split: test_items", "strong_generalization", "item_hold_out"]),
        ({**MINIMAL, "split": {"kind": "by_time", "windows": 0}}, ["[split] windows", "0"]),
        ({**MINIMAL, "split": {"windows": 3}}, ["windows", "'strong_generalization'", "'by_time'"]),
        ({**MINIMAL, "split": {"salt": "a"}}, ["salt", 'by = "hash"']),
        ({**MINIMAL, "split": {"by": "hash"}}, ['by = "hash"', "salt"]),
        ({**MINIMAL, "split": {"by": "hash", "salt": ""}}, ["[split] salt"]),
        ({**MINIMAL, "split": {"by": "moon"}}, ["[split] by", "moon", "hash"]),
        ({**MINIMAL, "split": {"kind": "leave_last_out", "by": "hash", "salt": "a"}}, ["by ", "'leave_last_out'"]),
        ({**MINIMAL, "models": [{"name": "mult_vea"}]}, ["mult_vea", "mult_vae"]),
        ({**MINIMAL, "models": [{"name": "mult_vae", "latant": 3}]}, ["mult_vae", "latant", "latent"]),
        ({**MINIMAL, "models": [{"name": "mult_vae", "dropout": 1.5}]}, ["dropout", "1.5"]),
        ({**MINIMAL, "models": [{"name": "ease"}, {"name": "ease"}]}, ["'ease'", "id"]),
        ({**MINIMAL, "models": [{"name": "ease", "id": "../x"}]}, ["id"]),
        ({**MINIMAL, "publish": {"metric": "ndgc@10"}}, ["ndgc@10", "ndcg"]),
        ({**MINIMAL, "log": {"dataset": "synthetic", "min_weight": float("nan")}}, ["min_weight"]),
    ],
)
def test_a_fault_names_place_found_and_expected(content: dict[str, object], said: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config(content, "run.toml")
    message = str(caught.value)
    assert message.startswith("run.toml: ")
    assert "\n" not in message
    for part in said:
        assert part in message


def test_files_that_are_no_toml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load_config(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="folder"):
        load_config(tmp_path)
    broken = tmp_path / "broken.toml"
    broken.write_text("[log\n")
    with pytest.raises(ConfigError, match=r"broken\.toml.*TOML"):
        load_config(broken)
    broken.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="TOML"):
        load_config(broken)


def test_a_databases_url_is_kept_secret() -> None:
    config = make_config({"log": {"url": "postgresql://me:secret@here/shop", "table": "events"}})
    assert "secret" not in f"{config!r} {config.model_dump_json()}"
    assert config.log.url is not None and "secret" in config.log.url.get_secret_value()


@pytest.mark.parametrize("name", [".", "..", ".hidden"])
def test_the_id_of_a_model_is_no_way_out_of_its_folder(name: str) -> None:
    with pytest.raises(ConfigError, match="id"):
        make_config({"log": {"path": "x.csv"}, "models": [{"name": "ease", "id": name}]})


@pytest.mark.parametrize(
    ("key", "value", "said"), [("test_users", 300, "expected a fraction"), ("test_users", 0.95, "below 1")]
)
def test_shares_by_hash_are_looked_at_before_the_log_is_read(key: str, value: object, said: str) -> None:
    with pytest.raises(ConfigError, match=f"split.*{key}.*{said}"):
        make_config({"log": {"path": "x.csv"}, "split": {"by": "hash", "salt": "s", key: value}})


@pytest.mark.parametrize("password", ["hunter2@secretpart", "hunter2/secretpart"])
@pytest.mark.parametrize("section", ["log", "score"])
def test_a_password_that_should_be_encoded_is_refused_and_not_told(
    section: str, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"RECSYS_AE__{section.upper()}__URL", f"postgresql://postgres:{password}@127.0.0.1/test")
    with pytest.raises(ConfigError, match=rf"\[{section}\] url: .*percent-encoded") as raised:
        make_config({section: {"table": "events"}})
    assert "hunter2" not in str(raised.value) and "secretpart" not in str(raised.value)
    encoded = password.replace("@", "%40").replace("/", "%2F")
    monkeypatch.setenv(f"RECSYS_AE__{section.upper()}__URL", f"postgresql://postgres:{encoded}@127.0.0.1/test")
    config = make_config({"log": {"dataset": "synthetic"} if section == "score" else {}, section: {"table": "events"}})
    assert "secretpart" in getattr(config, section).url.get_secret_value()
