"""Bad input is a 4xx problem document, never a 500, and never an echo of what was sent."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.service.conftest import Server, problem


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{}", "history"),
        ("[]", "body"),
        ("null", "body"),
        ('{"history": 3}', "history"),
        ('{"history": [{}]}', "item_id"),
        ('{"history": [{"item_id": true}]}', "item_id"),
        ('{"history": [{"item_id": null}]}', "item_id"),
        ('{"history": [{"item_id": 1.5}]}', "item_id"),
        ('{"history": [{"item_id": NaN}]}', "item_id"),
        ('{"history": [{"item_id": "' + "x" * 201 + '"}]}', "200"),
        ('{"history": [{"item_id": "\\ud800"}]}', "Unicode"),
        ('{"history": [{"item_id": 100, "weight": NaN}]}', "finite"),
        ('{"history": [{"item_id": 100, "weight": -Infinity}]}', "finite"),
        ('{"history": [{"item_id": 100, "weight": 1e400}]}', "finite"),
        ('{"history": [{"item_id": 100, "weight": ' + "9" * 400 + "}]}", "finite"),
        ('{"history": [{"item_id": 100, "weight": 0}]}', "greater"),
        ('{"history": [{"item_id": 100, "weight": true}]}', "number"),
        ('{"history": [{"item_id": 100, "weight": "5"}]}', "number"),
        ('{"history": [{"item_id": 100, "timestamp": 1.5}]}', "timestamp"),
        ('{"history": [{"item_id": 100, "timestamp": 99999999999999}]}', "timestamp"),
        ('{"history": [{"item_id": 100, "timestamp": 1}, {"item_id": 101}]}', "all or none"),
        ('{"history": [], "k": 0}', "k"),
        ('{"history": [], "k": 1001}', "1000"),
        ('{"history": [], "k": ' + "9" * 300 + "}", "k"),
        ('{"history": [], "k": true}', "k"),
        ('{"history": [], "k": "5"}', "k"),
        ('{"history": [], "exclud": [1]}', "exclud"),
        ('{"history": [], "explain": true}', "explain"),
        ('{"history": [], "diversity": 0.5}', "diversity"),
        ('{"history": [], "categories": [1]}', "categories"),
        ('{"history": [], "\\ud800": 1}', "body"),
    ],
)
def test_a_wrong_body_is_named(server: Server, body: str, said: str) -> None:
    assert said in str(problem(server.raw(body), 422))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000, b"\0", b'{"history": [}'])
def test_a_body_that_is_no_json(server: Server, content: bytes) -> None:
    response = server.raw(content)
    assert response.status_code in (400, 422), response.text
    problem(response, response.status_code)


def test_other_media_types(server: Server) -> None:
    response = server.raw(b"history=1", "application/x-www-form-urlencoded")
    problem(response, response.status_code)
    assert 400 <= response.status_code < 500


def test_large_bodies_and_histories(server: Server) -> None:
    problem(server.raw(b" " * (2 * 2**20 + 1)), 413)
    chunks = (b" " * 65_536 for _ in range(40))
    problem(server.client.post("/v1/recommendations", content=chunks, headers={"Content-Type": "application/json"}), 413)
    assert "10001" in str(problem(server.post(history=[{"item_id": 100}] * 10_001), 422))
    assert server.post(history=[{"item_id": 100}] * 10_000, k=1).status_code == 200


def test_secrets_are_not_echoed(server: Server) -> None:
    assert "hunter2" not in server.raw('{"history": [{"item_id": {"password": "hunter2"}}]}').text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/users/999/recommendations", 404),
        ("/v1/users/bob/recommendations", 404),
        ("/v1/users/%00/recommendations", 404),
        ("/v1/users/%ff/recommendations", 404),
        ("/v1/users/" + "9" * 4000 + "/recommendations", 404),
        ("/v1/users/1/recommendations?k=0", 422),
        ("/v1/users/1/recommendations?k=1001", 422),
        ("/v1/users/1/recommendations?k=" + "9" * 400, 422),
        ("/v1/users/1/recommendations?k=ten", 422),
        ("/v1/users/1/recommendations?k=1&k=2", 422),
        ("/v1/users/1/recommendations?K=1", 422),
        ("/v1/users/1/recommendations?include_seen=perhaps", 422),
        ("/v1/items/none/similar", 404),
        ("/v1/items/101/similar?k=-1", 422),
        ("/v1/nothing", 404),
        ("/v1/recommendations", 405),
    ],
)
def test_wrong_paths_and_queries(server: Server, path: str, status: int) -> None:
    problem(server.client.get(path), status)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["history", "k", "exclude", "allow", "categories", "include_seen", "user_id", "explain", "x"])
EVENTS = st.lists(
    st.dictionaries(st.sampled_from(["item_id", "weight", "timestamp", "x"]), JSON | st.integers(98, 126), max_size=3),
    max_size=4,
)


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(KEYS, JSON, max_size=5), EVENTS | JSON)
def test_no_json_is_a_server_error(server: Server, body: dict[str, object], history: object) -> None:
    response = server.raw(json.dumps({**body, "history": history}))
    assert response.status_code == 200 or problem(response, 422)


def test_an_empty_registry_is_alive_but_not_ready(empty: Server) -> None:
    assert empty.client.get("/health/live").status_code == 200
    for path in ("/health/ready", "/v1/model", "/v1/users/1/recommendations", "/v1/items/1/similar"):
        problem(empty.client.get(path), 503)
    problem(empty.post(history=[]), 503)


def started(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "service", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_wrong_start_is_one_line_and_code_2(server: Server, tmp_path: Path) -> None:
    none = started("--registry", str(tmp_path / "none"))
    assert none.returncode == 2
    assert "no such registry" in none.stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = started("--registry", str(tmp_path), "--port", str(taken.getsockname()[1]))
    assert busy.returncode == 2
    assert busy.stderr.count("\n") == 1
    assert "cannot listen" in busy.stderr


def test_a_damaged_model_is_not_served(server: Server, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(server.registry.path, tmp_path / "registry")
    weights = next((tmp_path / "registry").glob("*/model.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    done = started("--registry", str(tmp_path / "registry"))
    assert done.returncode == 1
    assert "model.safetensors" in done.stderr
    assert "damaged" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_service_loads_no_training_data_code() -> None:
    code = (
        "import sys, service.app\n"
        "bad = {'duckdb', 'pyarrow', 'pandas', 'implicit', 'recsys_ae.log', 'recsys_ae.dataset', 'recsys_ae.split'}\n"
        "sys.exit(str(sorted(bad & set(sys.modules))) if bad & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
