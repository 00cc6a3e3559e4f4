"""What is let in: slow and large bodies, too many at once, answers that take too long; and how the service stops."""

import asyncio
import json
import signal
import socket
import threading
import time

import httpx
import pytest

from service.app import create_app
from service.settings import Settings
from tests.service.conftest import Service, World, ask, assert_problem, service
from tests.service.test_app import HISTORY


def raw(url: str, *parts: bytes, wait: float = 0) -> bytes:
    """What the service answers to bytes sent as they are, the parts one after the other."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(wait)
        answer = b""
        while more := connection.recv(65_536):
            answer += more
    return answer


HEAD = b"POST /v1/recommendations HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"


@pytest.mark.slow
def test_a_slow_body_is_408_and_holds_up_nobody(integers: World) -> None:
    with service(integers.path, body_seconds="1", largest_in_flight="1") as started, started.client() as client:
        answers: list[bytes] = []
        slow = threading.Thread(target=lambda: answers.append(raw(started.url, HEAD + b"Content-Length: 50\r\n\r\n", b"{")))
        slow.start()
        time.sleep(0.3)  # it is let in first: the other one is at work then, and fills the service
        assert client.post("/v1/recommendations", json=HISTORY).status_code == 200
        slow.join()
    assert answers[0].startswith(b"HTTP/1.1 408 ") and b"within 1 seconds" in answers[0]
    assert b"connection: close" in answers[0].lower()


def test_a_client_that_sends_20_mb_hears_why_it_is_refused(api: httpx.Client) -> None:
    body = b'{"history": [' + b" " * (20 * 2**20)
    answer = api.post("/v1/recommendations", content=body, headers={"Content-Type": "application/json"})
    assert "4194304 bytes" in assert_problem(answer, 413)["detail"]


def test_a_client_that_asks_before_it_sends_is_refused_before(api: httpx.Client) -> None:
    answer = raw(str(api.base_url), HEAD + b"Expect: 100-continue\r\nContent-Length: 20000000\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_beyond_the_limit_requests_are_shed_at_once_and_probes_are_not(integers: World) -> None:
    app = create_app(Settings(registry=integers.path, largest_in_flight=2))
    release = threading.Event()
    engine, real = app.state.live.now.main, app.state.live.now.main.for_history
    engine.for_history = lambda *arguments: release.wait(20) and real(*arguments)

    async def walk() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            held = [asyncio.create_task(client.post("/v1/recommendations", json=HISTORY)) for _ in range(2)]
            while app.state.metrics.in_flight._value.get() < 2:
                await asyncio.sleep(0.01)
            shed = [await client.post("/v1/recommendations", json=HISTORY), await client.get("/v1/model")]
            probes = [await client.get(path) for path in ("/health/ready", "/metrics")]
            release.set()
            answered = [*await asyncio.gather(*held), await client.get("/v1/model")]
            return [*shed, *probes, *answered]

    answers = asyncio.run(walk())
    assert [answer.status_code for answer in answers] == [503, 503, 200, 200, 200, 200, 200]
    assert answers[0].headers["retry-after"] == "1" and assert_problem(answers[0], 503)
    assert 'recsys_ae_requests_refused_total{reason="shed"} 2.0' in answers[3].text
    assert "recsys_ae_requests_in_flight 2.0" in answers[3].text


def test_an_answer_that_takes_too_long_is_503(integers: World) -> None:
    app = create_app(Settings(registry=integers.path, request_seconds=0.1, threads=1))
    release = threading.Event()
    app.state.live.now.main.for_history = lambda *_: release.wait(20)
    answer = ask(app, "POST", "/v1/recommendations", json=HISTORY)
    release.set()
    assert "within 0.1 seconds" in assert_problem(answer, 503)["detail"]
    assert answer.headers["retry-after"] == "1"


def stop_under_load(started: Service, wait: float) -> None:
    """Clients go on, each over its connection and then over new ones, until they are told to close: none loses a thing."""
    faults: list[str] = []
    counts = [0] * 8

    def go_on(who: int) -> None:
        with started.client() as client:
            while True:
                try:
                    answer = client.post("/v1/recommendations", json=HISTORY)
                except httpx.HTTPError as error:
                    faults.append(repr(error))
                    return
                counts[who] += 1
                if answer.status_code != 200:
                    faults.append(answer.text)
                if answer.headers.get("connection") == "close":
                    return

    threads = [threading.Thread(target=go_on, args=(who,)) for who in range(len(counts))]
    for thread in threads:
        thread.start()
    with started.client() as client:
        while min(counts) == 0 and not faults:
            time.sleep(0.01)
        time.sleep(wait)
        started.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        assert_problem(client.get("/health/ready"), 503)
        assert client.get("/health/live").status_code == 200
    for thread in threads:
        thread.join(20)
    assert started.process.wait(20) in (0, -signal.SIGTERM)
    assert faults == [] and min(counts) > 1


@pytest.mark.slow
@pytest.mark.parametrize("turn", range(2))
def test_no_accepted_request_is_dropped_when_the_service_stops(integers: World, turn: int) -> None:
    with service(integers.path) as started:
        stop_under_load(started, 0.1 * turn)


def lines_of(started: Service) -> list[dict[str, object]]:
    """The lines of the access log."""
    return [json.loads(line) for line in started.lines if '"event": "request"' in line]


@pytest.mark.slow
def test_the_log_and_the_figures_know_routes_and_no_ids(integers: World) -> None:
    with service(integers.path, cors_origins='["https://shop.example"]') as started, started.client() as client:
        client.get("/v1/users/7/recommendations?exclude=secret-item", headers={"X-Request-ID": "mine"})
        client.get("/v1/users/secret-user/recommendations")
        client.post("/v1/recommendations", json={"history": [{"item_id": "secret-item"}]})
        client.request("SECRET", "/secret-path")  # no method that the server reads
        client.request("PROPFIND", "/secret-path")
        figures = client.get("/metrics").text
        answer = client.get("/v1/model", headers={"Origin": "https://shop.example"})
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"
        other = client.get("/v1/model", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers
        assert other.headers["x-content-type-options"] == "nosniff" and other.headers["cache-control"] == "no-store"
        assert other.headers["referrer-policy"] == "no-referrer" and "content-security-policy" not in other.headers
        assert "object-src 'none'" in client.get("/docs").headers["content-security-policy"]
    lines = lines_of(started)
    first = lines[0]
    assert (first["method"], first["route"], first["status"]) == ("GET", "/v1/users/{user_id:id}/recommendations", 200)
    assert (first["request_id"], first["key"], first["model_version"]) == ("mine", None, integers.version)
    assert [line["status"] for line in lines[:4]] == [200, 404, 200, 404]
    assert not any("secret" in line.lower() for line in started.lines)
    for source in ("model", "popularity"):
        assert f'recsys_ae_lists_total{{arm="",source="{source}",version="{integers.version}"}} 1.0' in figures
    assert f'recsys_ae_model_info{{model="ease",version="{integers.version}"}} 1.0' in figures
    assert 'route="/v1/recommendations",status="200"} 1.0' in figures and "recsys_ae_model_age_seconds" in figures


def test_no_origin_is_let_in_unless_configured(api: httpx.Client) -> None:
    answer = api.get("/v1/model", headers={"Origin": "https://shop.example"})
    assert "access-control-allow-origin" not in answer.headers
