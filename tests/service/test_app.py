"""The application in this process: an empty registry, limits, failures, the schema. The command: what it says and its codes."""

import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from recsys_ae.errors import ArtifactError
from service.app import create_app
from service.settings import Settings
from tests.service.conftest import World, ask, assert_problem, running

HISTORY = {"history": [{"item_id": 100}]}


def test_without_a_version_the_service_lives_but_is_not_ready(tmp_path: Path) -> None:
    app = create_app(Settings(registry=tmp_path))
    assert ask(app, "GET", "/health/live").status_code == 200
    for path in ("/health/ready", "/v1/model", "/v1/users/1/recommendations", "/v1/items/1/similar"):
        assert_problem(ask(app, "GET", path), 503)
    assert_problem(ask(app, "POST", "/v1/recommendations", json=HISTORY), 503)


def test_limits_are_settings(integers: World) -> None:
    app = create_app(Settings(registry=integers.path, largest_k=5, largest_history=2, largest_body_bytes=200, threads=1))
    assert len(ask(app, "POST", "/v1/recommendations", json={**HISTORY, "k": 5}).json()["items"]) == 5
    assert_problem(ask(app, "POST", "/v1/recommendations", json={**HISTORY, "k": 6}), 422)
    assert_problem(ask(app, "POST", "/v1/recommendations", json={"history": HISTORY["history"] * 3}), 422)
    assert_problem(ask(app, "POST", "/v1/recommendations", json={**HISTORY, "exclude": [1] * 3}), 422)
    assert_problem(ask(app, "POST", "/v1/recommendations", json={**HISTORY, "exclude": [1] * 100}), 413)
    assert_problem(ask(app, "GET", "/v1/users/1/recommendations?k=6"), 422)
    assert_problem(ask(app, "GET", "/v1/items/100/similar?k=6"), 422)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RECSYS_AE__SERVICE__LARGEST_K", "7")
    assert Settings(registry=tmp_path).largest_k == 7
    with pytest.raises(ValidationError):
        Settings(registry=tmp_path, threads=0)


def test_a_failure_inside_is_a_problem_that_tells_nothing(integers: World, caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(Settings(registry=integers.path))

    def fail(*_: object) -> None:
        raise RuntimeError("the password is 1234")

    app.state.live.now.main.for_history = fail
    answer = ask(app, "POST", "/v1/recommendations", json=HISTORY, headers={"X-Request-ID": "mine"})
    problem = assert_problem(answer, 500)
    assert "password" not in answer.text and problem["request_id"] == "mine"
    assert "mine" in caplog.text and "password" in caplog.text


def damaged(world: World, registry: Path) -> Path:
    """A copy of a registry with one bit of its current version flipped."""
    shutil.copytree(world.path, registry)
    tensors = registry / world.version / "model.safetensors"
    content = bytearray(tensors.read_bytes())
    content[-1] ^= 1
    tensors.write_bytes(content)
    return registry


def test_a_damaged_version_is_refused_at_the_start(integers: World, tmp_path: Path) -> None:
    registry = damaged(integers, tmp_path / "registry")
    with pytest.raises(ArtifactError, match=r"model\.safetensors: is damaged"):
        create_app(Settings(registry=registry))


def test_the_schema_describes_every_answer(integers: World) -> None:
    app = create_app(Settings(registry=integers.path))
    assert ask(app, "GET", "/docs").status_code == 200
    schema = ask(app, "GET", "/openapi.json").json()
    operations = [operation for path in schema["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names) and all(name.isidentifier() for name in names)
    assert {"recommend_to_user", "recommend_from_history", "recommend_in_batch", "similar", "rank", "model"} <= set(names)
    for operation in operations:
        assert operation["description"] and operation["summary"]
        for status, response in operation["responses"].items():
            if status == "204":
                assert "content" not in response
                continue
            kind = "application/json" if status == "200" else "application/problem+json"
            assert list(response["content"]) == [kind]
            assert "$ref" in response["content"][kind]["schema"]
    assert set(schema["paths"]["/v1/recommendations"]["post"]["responses"]) == {
        *("200", "400", "401", "403", "408", "413", "415", "422", "429", "503")
    }
    assert "HTTPValidationError" not in schema["components"]["schemas"]
    for name in ("RecommendationRequest", "BatchRequest", "RankRequest"):
        posted = schema["components"]["schemas"][name]
        assert posted["additionalProperties"] is False and posted["examples"]
        assert all("description" in field for field in posted["properties"].values())
    requests = schema["components"]["schemas"]["BatchRequest"]["properties"]["requests"]
    assert requests["items"] == {"$ref": "#/components/schemas/RecommendationRequest"}
    for path in schema["paths"].values():
        for parameter in (p for operation in path.values() for p in operation.get("parameters", [])):
            assert parameter["description"], parameter["name"]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m service`, which is expected to end by itself."""
    return subprocess.run([sys.executable, "-m", "service", *arguments], capture_output=True, text=True, timeout=60)


def test_a_busy_port_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        ended = command("--registry", str(tmp_path), "--port", str(port))
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: cannot listen at 127.0.0.1:{port}: ") and ended.stderr.count("\n") == 1


def test_a_missing_registry_is_one_clear_line(tmp_path: Path) -> None:
    ended = command("--registry", str(tmp_path / "none"))
    assert ended.returncode == 2
    assert ended.stderr == f"error: {tmp_path / 'none'}: no such folder; expected a registry\n"


@pytest.mark.parametrize("arguments", [[], ["--registry", ".", "--port", "65536"]])
def test_bad_arguments(arguments: list[str]) -> None:
    ended = command(*arguments)
    assert ended.returncode == 2 and "error: " in ended.stderr and "Traceback" not in ended.stderr


@pytest.mark.slow
def test_an_empty_registry_is_served(tmp_path: Path) -> None:
    with running(tmp_path, "--host", "localhost") as url:
        assert httpx.get(f"{url}/health/ready", trust_env=False).status_code == 503


def test_the_service_stops_in_good_order(tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "service", "--registry", str(tmp_path), "--port", "0"]
    process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None and process.stderr.readline().startswith("serving no version at http://127.0.0.1:")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
        assert process.stderr.read() == "no API keys: this machine alone is served\n"
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_the_service_loads_no_training_data_code() -> None:
    code = """
import sys, service.app
unwanted = {"duckdb", "pandas", "pyarrow", *(f"recsys_ae.{name}" for name in ("log", "dataset", "split", "datasets"))}
print(sorted(unwanted & set(sys.modules)))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ended.stdout, ended.stderr) == ("[]\n", "")
