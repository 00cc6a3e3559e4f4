"""recsys-ae keys: the key is printed once, then only names, scopes and dates."""

import json
import sys
from pathlib import Path

import pytest

from pipelines.__main__ import main
from recsys_ae.keys import read_keys


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["recsys-ae", "keys", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_add_list_remove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    file = ("--file", str(tmp_path / "keys.json"))
    assert run(monkeypatch, "add", "shop", "--scopes", "read,write", *file) == 0
    key = capsys.readouterr().out.strip()
    found = read_keys(tmp_path / "keys.json").find(key.encode())
    assert found is not None and found.scopes == ("read", "write")
    assert run(monkeypatch, "list", "--json", *file) == 0
    listed = capsys.readouterr().out
    assert json.loads(listed) == [{"name": "shop", "scopes": ["read", "write"], "created": found.created}]
    assert key not in listed and found.sha256 not in listed
    assert run(monkeypatch, "remove", "shop", *file) == 0
    assert read_keys(tmp_path / "keys.json").keys == ()


def test_a_wrong_scope_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "add", "shop", "--scopes", "all", "--file", str(tmp_path / "k")) == 2
    assert "found all; expected scopes of read, write, admin" in capsys.readouterr().err
    assert not (tmp_path / "k").exists()
