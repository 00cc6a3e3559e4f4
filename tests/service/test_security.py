"""API keys: who may ask what, rotation while the service runs, and that beyond this machine keys are asked for."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from recsys_ae.keys import add_key, remove_key
from service.security import scope_of
from tests.service.conftest import Service, World, assert_problem, service
from tests.service.test_app import HISTORY, command

LIST = "/v1/users/1/recommendations"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    return path, {scope: add_key(path, f"the-{scope}", [scope]) for scope in ("read", "write", "admin")}


@pytest.fixture(scope="module")
def guarded(integers: World, keys: tuple[Path, dict[str, str]]) -> Iterator[Service]:
    with service(integers.path, "--keys", str(keys[0])) as started:
        yield started


def test_a_known_key_opens_in_either_header(guarded: Service, keys: tuple[Path, dict[str, str]]) -> None:
    with guarded.client() as client:
        for headers in ({"Authorization": f"Bearer {keys[1]['read']}"}, {"X-API-Key": keys[1]["admin"]}):
            assert client.get(LIST, headers=headers).status_code == 200
            assert client.post("/v1/recommendations", json=HISTORY, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {}, {"X-API-Key": b""}, {"X-API-Key": b"rae_wrong"}, {"X-API-Key": b"\xff\xfe"}, {"Authorization": b"Bearer"},
        {"Authorization": "Bearer é".encode()}, {"Authorization": b"Basic cmFlOg=="}, {"Authorization": b"x" * 5_000},
    ],
)  # fmt: skip
def test_no_known_key_is_401(guarded: Service, headers: dict[str, bytes]) -> None:
    with guarded.client() as client:
        for method, path in (("GET", LIST), ("POST", "/v1/recommendations"), ("GET", "/v1/none"), ("GET", "/metrics")):
            answer = client.request(method, path, headers=headers)  # type: ignore[arg-type]
            assert_problem(answer, 401)
            assert answer.headers["www-authenticate"].startswith("Bearer")


def test_two_keys_are_401_and_a_lacking_scope_is_403(guarded: Service, keys: tuple[Path, dict[str, str]]) -> None:
    read, write = keys[1]["read"], keys[1]["write"]
    with guarded.client() as client:
        assert_problem(client.get(LIST, headers={"X-API-Key": read, "Authorization": f"Bearer {read}"}), 401)
        assert_problem(client.get(LIST, headers={"X-API-Key": write}), 403)
        answer = client.get("/metrics", headers={"X-API-Key": read})
        assert_problem(answer, 403)
        assert 'scope="admin"' in answer.headers["www-authenticate"]
        assert_problem(client.delete("/v1/users/1", headers={"X-API-Key": read}), 403)
        assert client.get("/metrics", headers={"X-API-Key": keys[1]["admin"]}).status_code == 200


def test_probes_and_documentation_are_open(guarded: Service) -> None:
    with guarded.client() as client:
        for path in ("/health/live", "/health/ready", "/docs", "/openapi.json"):
            assert client.get(path).status_code == 200


@pytest.mark.slow
def test_keys_are_changed_while_the_service_runs(integers: World, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    old = add_key(path, "old", ["read"])
    with service(integers.path, "--keys", str(path)) as started, started.client() as client:

        def status(key: str) -> int:
            return client.get(LIST, headers={"X-API-Key": key}).status_code

        assert status(old) == 200
        new = add_key(path, "new", ["read"])
        remove_key(path, "old")
        waited = time.monotonic() + 10
        while status(old) == 200 and time.monotonic() < waited:
            time.sleep(0.05)
        assert (status(old), status(new)) == (401, 200)
        path.write_text("damaged")
        time.sleep(0.7)
        assert status(new) == 200
    assert any("the keys stay as they were" in line for line in started.lines)
    assert not any(key in line for line in started.lines for key in (old, new))


@pytest.mark.slow
def test_beyond_this_machine_keys_are_asked_for(integers: World, tmp_path: Path) -> None:
    ended = command("--registry", str(integers.path), "--port", "0", "--host", "0.0.0.0")
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1
    assert "--keys FILE, or --without-keys" in ended.stderr
    with service(integers.path, "--host", "0.0.0.0", "--without-keys") as started:
        port = started.url.rpartition(":")[2]
        assert httpx.get(f"http://127.0.0.1:{port}{LIST}", trust_env=False).status_code == 200
    assert started.lines[0] == "no API keys: whoever reaches the port may all\n"
    ended = command("--registry", str(integers.path), "--keys", str(tmp_path / "none"))
    assert ended.returncode == 2 and "expected a file of keys" in ended.stderr


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", "/v1/model", "read"), ("POST", "/v1/rank", "read"), ("POST", "/v1/recommendations/batch", "read"),
        ("POST", "/v1/interactions", "write"), ("DELETE", "/v1/users/1", "write"), ("PUT", "/v1/items/1", "write"),
        ("POST", "/v1/of-another-year", "write"), ("GET", "/metrics", "admin"), ("GET", "/health/ready", None),
        ("GET", "/", None), ("POST", "/v1/recommendations/", "write"), ("GET", "/v1", "read"), ("GET", "/v1x", None),
    ],
)  # fmt: skip
def test_scopes(method: str, path: str, scope: str | None) -> None:
    assert scope_of(method, path) == scope
