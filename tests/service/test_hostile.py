"""Hostile input: over 300 requests and what schemathesis makes of the schema. No 5xx, and nothing of it in the log."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from pydantic import SecretStr
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from recsys_ae.keys import add_key
from service.app import create_app
from service.settings import Settings
from tests.service.conftest import Service, World, service

MARK = "s3cret"
POST = "POST /v1/recommendations HTTP/1.1\r\nHost: a\r\n"
VALUES: list[str] = [
    "null", "true", "false", "0", "-1", "1.0", "2.5", "1e999", "-1e999", "1e400", "NaN", "Infinity", "-Infinity", "0x10", "01",
    "9" * 19, "-" + "9" * 40, "9" * 4_000, f'"{MARK}"', '""', '"\\u0000"', '"\\ud800"', '"\\udfff\\ud800"', '"\\uffff"', '"5"',
    f'"{MARK * 100}"', "[]", "{}", f'["{MARK}"]', f'{{"{MARK}": 1}}', "[null]", "[[[[]]]]", "[" * 500, "[" * 60_000,
    '{"a":' * 60_000,
    "[" + "1," * 5_000 + "1]", '"2024-01-01"',
]  # fmt: skip
FIELDS = ("history", "k", "exclude", "allow", "categories", "include_seen", "diversity", "explain", "user_id", "session_id")
EVENT_FIELDS = ("item_id", "weight", "timestamp", "event_type")
ODD = [
    f"{MARK}\0",
    f"{MARK}\n",
    "é" + MARK,
    "\U0001f600" + MARK,
    f"../{MARK}",
    f"{MARK}/x",
    f"';{MARK}--",
    MARK * 1_000,
    "%",
    " ",
]
BYTES = [
    b"",
    b"\0",
    b"\xff\xfe",
    b"{",
    b"}",
    MARK.encode(),
    b'{"history":[]}' + b"\0",
    '{"history":[]}'.encode("utf-16"),
    b"\xef\xbb\xbf{}",
]


def corpus() -> Iterator[dict[str, Any]]:
    """Requests as httpx takes them."""
    json_type = {"Content-Type": "application/json"}
    for value in VALUES:
        bodies = [value, *(f'{{"history": [], "{field}": {value}}}' for field in FIELDS)]
        for body in bodies:
            yield {"method": "POST", "url": "/v1/recommendations", "content": body.encode(), "headers": json_type}
        for field in EVENT_FIELDS:
            body = f'{{"history": [{{"item_id": 100, "{field}": {value}}}]}}'
            yield {"method": "POST", "url": "/v1/recommendations", "content": body.encode(), "headers": json_type}
        for name in ("k", "exclude", "include_seen", "explain", MARK):
            yield {"method": "GET", "url": f"/v1/users/1/recommendations?{name}={quote(value[:3_000])}"}
    for text in ODD:
        for path in (
            "/v1/users/{}/recommendations",
            "/v1/items/{}/similar",
            "/v1/items/{}",
            "/v1/users/{}",
            "/{}",
            "/v1/{}",
            "/docs/{}",
        ):
            for method in ("GET", "DELETE", "PUT", "POST"):
                yield {"method": method, "url": path.format(quote(text, safe="")[:8_000])}
        for name in ("X-API-Key", "Authorization", "X-Request-ID", "Content-Type", "Accept", "Cookie", "Origin"):
            value = text.encode().replace(b"\0", b"").replace(b"\n", b"").strip()
            if name == "X-Request-ID":  # a fit one is the caller's own, and meant for the log
                value = b"\xff" + value
            yield {"method": "GET", "url": "/v1/model", "headers": {name: value}}
    for content in BYTES:
        for kind in ("application/json", "text/plain", f"application/{MARK}", "multipart/form-data; boundary=x"):
            yield {"method": "POST", "url": "/v1/recommendations", "content": content, "headers": {"Content-Type": kind}}
    for method in ("TRACE", "OPTIONS", "HEAD", "PATCH", MARK.upper()):
        for path in ("/v1/model", "/v1/recommendations", "/metrics", "/health/live", "/"):
            yield {"method": method, "url": path}


@pytest.fixture(scope="module")
def target(integers: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with service(integers.path, store=f"sqlite:///{tmp_path_factory.mktemp('hostile')}/events.db") as started:
        yield started


def assert_silent(lines: list[str]) -> None:
    """No line speaks of what was sent or of a fault."""
    text = "".join(lines)
    assert MARK not in text.lower() and "Traceback" not in text


def test_the_corpus(target: Service) -> None:
    asked = 0
    with target.client() as client:
        for request in corpus():
            answer = client.request(**request)
            assert answer.status_code < 500, request
            if answer.status_code >= 400 and request["method"] != "HEAD":
                assert answer.headers["content-type"] == "application/problem+json", request
                assert json.loads(answer.content.decode("ascii"))["status"] == answer.status_code
            asked += 1
        assert client.get("/health/ready").status_code == 200
    assert asked >= 300
    assert_silent(target.lines)


@pytest.mark.parametrize(
    "sent",
    [
        f"{MARK}\r\n\r\n", f"GET /{MARK} HTTP/9.9\r\n\r\n", f"GET / HTTP/1.1\r\n{MARK}\r\n\r\n", "GET / HTTP/1.1\r\n\r\n",
        f"{POST}Content-Length: -5\r\n\r\n{MARK}",
        f"{POST}Content-Length: {MARK}\r\n\r\n",
        f"{POST}Content-Length: {'9' * 30}\r\nContent-Type: application/json\r\n\r\n",
        f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{MARK}",
        f"{POST}Transfer-Encoding: chunked\r\n\r\nZZ\r\n{MARK}\r\n",
        f"GET / HTTP/1.1\r\nHost: a\r\nX: {MARK * 20_000}\r\n\r\n", "\0" * 100, "\x16\x03\x01\x02\x00\x01",
    ],
)  # fmt: skip
def test_what_is_hardly_http(target: Service, sent: str) -> None:
    host, port = target.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(sent.encode("latin-1"))
        connection.shutdown(socket.SHUT_WR)
        try:
            answer = connection.recv(65_536)
        except ConnectionResetError:
            answer = b""
    assert not answer.startswith(b"HTTP/1.1 5")
    assert httpx.get(f"{target.url}/health/live", trust_env=False).status_code == 200
    assert_silent(target.lines)


@pytest.mark.slow
def test_a_key_that_is_not_ascii_says_nothing(integers: World, tmp_path: Path) -> None:
    add_key(tmp_path / "k", "a", ["read"])
    with service(integers.path, "--keys", str(tmp_path / "k")) as started, started.client() as client:
        for text in ODD:
            value = text.encode().replace(b"\0", b"").replace(b"\n", b"").strip()
            answer = client.get("/v1/model", headers={"X-API-Key": value})  # type: ignore[dict-item]
            assert answer.status_code == 401
    assert_silent(started.lines)


def conforming(world: World, examples: int, folder: Path) -> None:
    """Ask what the schema permits, and what it does not, `examples` times for each route."""
    app = create_app(Settings(registry=world.path, access_log=False, store=SecretStr(f"sqlite:///{folder}/events.db")))
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]

    for result in schema.get_all_operations():
        operation = result.ok()

        @settings(
            max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=True
        )
        @given(case=operation.as_strategy())
        def holds(case: Any) -> None:
            case.call_and_validate(checks=checks)

        holds()


@pytest.mark.slow
def test_the_schema_is_true(integers: World, tmp_path: Path) -> None:
    conforming(integers, 8, tmp_path)


@pytest.mark.slow
def test_the_schema_is_true_of_more_than_a_thousand(integers: World, tmp_path: Path) -> None:
    conforming(integers, 200, tmp_path)
