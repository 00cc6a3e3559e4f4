"""Files of API keys: made, read, changed; never a key in them; damaged ones refused."""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from recsys_ae.errors import ConfigError
from recsys_ae.keys import KeyRing, add_key, read_keys, remove_key


def test_a_key_is_found_by_its_bytes_and_the_file_holds_only_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    shop, job = add_key(path, "shop", ["read"]), add_key(path, "job", ["read", "write"])
    text = path.read_text()
    assert shop not in text and job not in text and hashlib.sha256(shop.encode()).hexdigest() in text
    assert path.stat().st_mode & 0o777 == 0o600
    ring = read_keys(path)
    found = ring.find(job.encode())
    assert found is not None and found.name == "job" and found.allows("write") and not found.allows("admin")
    for wrong in (b"", shop.encode()[:-1], shop.encode() + b"x", "é".encode(), b"\xff\xfe"):
        assert ring.find(wrong) is None
    remove_key(path, "shop")
    assert read_keys(path).find(shop.encode()) is None and read_keys(path).find(job.encode()) is not None


def test_admin_has_every_scope_and_an_empty_ring_lets_nobody_in(tmp_path: Path) -> None:
    key = add_key(tmp_path / "k", "a", ["admin"])
    found = read_keys(tmp_path / "k").find(key.encode())
    assert found is not None and all(found.allows(scope) for scope in ("read", "write", "admin"))
    assert KeyRing([]).find(key.encode()) is None


def test_the_rights_of_a_file_stay_as_they_are(tmp_path: Path) -> None:
    add_key(tmp_path / "k", "a", ["read"])
    os.chmod(tmp_path / "k", 0o640)
    add_key(tmp_path / "k", "b", ["read"])
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o640


def test_keys_made_at_once_are_all_kept(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: add_key(tmp_path / "k", f"n{n}", ["read"]), range(16)))
    ring = read_keys(tmp_path / "k")
    assert all(ring.find(key.encode()) for key in made)


@pytest.mark.parametrize(
    ("name", "scopes", "message"),
    [("a", ["read"], "has a key named a"), ("ü", ["read"], "expected a name"), ("b", [], "no scope"), ("b", ["rood"], "rood")],
)
def test_what_cannot_be_added(tmp_path: Path, name: str, scopes: list[str], message: str) -> None:
    add_key(tmp_path / "k", "a", ["read"])
    before = (tmp_path / "k").read_bytes()
    with pytest.raises(ConfigError, match=message):
        add_key(tmp_path / "k", name, scopes)
    assert (tmp_path / "k").read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"keys": 5}',
        '{"keys": [{"name": "a"}]}',
        '{"keys": [{"name": "a", "sha256": "00", "scopes": ["read"]}]}',
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "k").write_text(content)
    with pytest.raises(ConfigError, match="expected"):
        read_keys(tmp_path / "k")


def test_two_keys_of_one_name_and_a_missing_file_or_folder(tmp_path: Path) -> None:
    entry = {"name": "a", "sha256": "0" * 64, "scopes": ["read"]}
    (tmp_path / "k").write_text(json.dumps({"keys": [entry, entry]}))
    with pytest.raises(ConfigError, match="two keys are named a"):
        read_keys(tmp_path / "k")
    with pytest.raises(ConfigError, match="none: No such file"):
        read_keys(tmp_path / "none")
    with pytest.raises(ConfigError, match="folder"):
        add_key(tmp_path / "none" / "k", "a", ["read"])
    (tmp_path / "k").write_text(json.dumps({"keys": [entry]}))
    with pytest.raises(ConfigError, match="no key named b"):
        remove_key(tmp_path / "k", "b")
