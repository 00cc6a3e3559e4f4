"""Every bad input is a problem document of status 4xx; nothing that a client sends makes a 500 or comes back in an error."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.schemas import RecommendationRequest
from tests.service.conftest import World, assert_problem

JSON = {"content-type": "application/json"}
EVENT = {"item_id": 100}


def send(api: httpx.Client, content: bytes, headers: dict[str, str] = JSON) -> httpx.Response:
    return api.post("/v1/recommendations", content=content, headers=headers)


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"not json",
        b'{"history": [{"item_id": 100, "weight": NaN}]}',
        b'{"history": [{"item_id": 100, "weight": Infinity}]}',
        b'{"history": [{"item_id": 100, "weight": -Infinity}]}',
        b'{"history": [{"item_id": "\\ud800"}]}',
        b'{"history": [], "\\udfff": 1}',
        b'{"history": [{"item_id": "\xff\xfe"}]}',
        b'{"history": [{"item_id": ' + b"9" * 5_000 + b"}]}",
        b"[" * 100_000,
        b'{"history": ' + b'{"a":' * 50_000,
        '{"history": []}'.encode("utf-16"),
        b'{"history": []} {}',
        b"\0",
    ],
)
def test_a_body_that_is_no_strict_json(api: httpx.Client, content: bytes) -> None:
    assert_problem(send(api, content), 400)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"5",
        b'{"history": [{"item_id": 100, "weight": 1e400}]}',
        b'{"history": [{"item_id": ' + b"9" * 4_000 + b"}]}",
        b'{"history": [], "k": ' + b"9" * 4_000 + b"}",
        b'{"history": [{"item_id": 100, "timestamp": 1' + b"0" * 30 + b"}]}",
    ],
)
def test_a_body_that_is_json_but_no_request(api: httpx.Client, content: bytes) -> None:
    assert assert_problem(send(api, content), 422)["errors"]


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({}, "history"),
        ({"history": None}, "history"),
        ({"history": {}}, "history"),
        ({"history": "abc"}, "history"),
        ({"history": [100]}, "history/0"),
        ({"history": [{}]}, "history/0/item_id"),
        ({"history": [{"item_id": True}]}, "history/0/item_id"),
        ({"history": [{"item_id": 1.0}]}, "history/0/item_id"),
        ({"history": [{"item_id": None}]}, "history/0/item_id"),
        ({"history": [{"item_id": [1]}]}, "history/0/item_id"),
        ({"history": [EVENT, {"item_id": 2**63}]}, "history/1/item_id"),
        ({"history": [{"item_id": "x" * 201}]}, "history/0/item_id"),
        ({"history": [EVENT | {"weight": True}]}, "history/0/weight"),
        ({"history": [EVENT | {"weight": "5"}]}, "history/0/weight"),
        ({"history": [EVENT | {"weight": 1e300}]}, "history/0/weight"),
        ({"history": [EVENT | {"timestamp": True}]}, "history/0/timestamp"),
        ({"history": [EVENT | {"timestamp": 1.5}]}, "history/0/timestamp"),
        ({"history": [EVENT | {"timestamp": "2024-01-01"}]}, "history/0/timestamp"),
        ({"history": [EVENT | {"timestamp": 4_102_444_801}]}, "history/0/timestamp"),
        ({"history": [EVENT | {"timestamp": -2_208_988_801}]}, "history/0/timestamp"),
        ({"history": [EVENT, EVENT | {"timestamp": 5}]}, "history"),
        ({"history": [EVENT | {"extra": 1}]}, "history/0/extra"),
        ({"history": [], "extra": 1}, "extra"),
        ({"history": [], "k": 0}, "k"),
        ({"history": [], "k": -1}, "k"),
        ({"history": [], "k": 1_001}, "k"),
        ({"history": [], "k": True}, "k"),
        ({"history": [], "k": 2.0}, "k"),
        ({"history": [], "k": "5"}, "k"),
        ({"history": [], "k": None}, "k"),
        ({"history": [], "exclude": None}, "exclude"),
        ({"history": [], "exclude": 5}, "exclude"),
        ({"history": [], "exclude": [False]}, "exclude/0"),
        ({"history": [], "exclude": [1] * 10_001}, "exclude"),
        ({"history": [], "allow": [None]}, "allow/0"),
        ({"history": [], "allow": [1] * 10_001}, "allow"),
        ({"history": [], "allow": [1] * 100_001}, "allow"),
        ({"history": [], "categories": [1]}, "categories/0"),
        ({"history": [], "categories": "drama"}, "categories"),
        ({"history": [], "include_seen": 1}, "include_seen"),
        ({"history": [], "include_seen": "true"}, "include_seen"),
        ({"history": [], "diversity": 1.01}, "diversity"),
        ({"history": [], "diversity": -0.1}, "diversity"),
        ({"history": [], "diversity": "0.5"}, "diversity"),
        ({"history": [], "calibration": 2}, "calibration"),
        ({"history": [], "calibration": None}, "calibration"),
        ({"history": [], "calibration": 0.5, "diversity": 0.5}, "calibration"),
        ({"history": [], "diversity": True}, "diversity"),
        ({"history": [], "explain": 1}, "explain"),
        ({"history": [], "user_id": True}, "user_id"),
        ({"history": [], "session_id": {}}, "session_id"),
    ],
)
def test_each_wrong_value_is_named(api: httpx.Client, body: dict[str, Any], place: str) -> None:
    errors = assert_problem(api.post("/v1/recommendations", json=body), 422)["errors"]
    assert [error["place"] for error in errors] == [f"body/{place}"]


def test_an_error_never_echoes_a_value(api: httpx.Client) -> None:
    secret = "s3cret-value"
    body = {"history": [{"item_id": [secret], "weight": secret, "timestamp": secret}], "k": secret, "explain": secret}
    assert secret not in api.post("/v1/recommendations", json=body).text
    assert secret not in send(api, b'{"' + secret.encode()).text
    for path in (f"/v1/users/{secret}/recommendations", f"/v1/items/{secret}/similar", f"/{secret}", f"/v1/model?x={secret}"):
        assert secret not in api.get(path).text


@pytest.mark.parametrize(
    "headers",
    [{}, {"content-type": "text/plain"}, {"content-type": "application/x-www-form-urlencoded"}, {"content-type": "a/b;;=\xff"}],
)
def test_a_body_of_another_type(api: httpx.Client, headers: dict[str, str]) -> None:
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    assert_problem(api.post("/v1/recommendations", content=b'{"history": []}', headers=encoded), 415)  # type: ignore[arg-type]


def test_a_body_with_a_charset_is_json(api: httpx.Client) -> None:
    assert send(api, b'{"history": []}', {"content-type": "Application/JSON; charset=utf-8"}).status_code == 200


def test_a_body_that_is_too_large(api: httpx.Client) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(5):
            yield b" " * 2**20

    assert_problem(send(api, b" " * (4 * 2**20 + 1)), 413)
    assert_problem(api.post("/v1/recommendations", content=chunks(), headers=JSON), 413)
    assert api.get("/health/live").status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "k=0", "k=-1", "k=1001", "k=", "k=ten", "k=1.5", "k=NaN", "k=true", "k=" + "9" * 5_000, "k=5&k=6", "include_seen=maybe",
        "include_seen=true&include_seen=true", "explain=2", "explain=false&explain=false", "unknown=1", "%FF=%FF&%FF",
        "exclude=" + "x" * 201, "category=" + "x" * 201, "diversity=2",
        "diversity=0.1&diversity=0.1", "diversity=nan", "calibration=x", "calibration=-1", "diversity=0.1&calibration=0.1",
    ],
)  # fmt: skip
def test_bad_queries(api: httpx.Client, query: str) -> None:
    errors = assert_problem(api.get(f"/v1/users/1/recommendations?{query}"), 422)["errors"]
    assert errors[0]["place"].startswith("query/")
    if query.startswith("k="):
        assert_problem(api.get(f"/v1/items/100/similar?{query}"), 422)


@pytest.mark.parametrize(
    "id_", ["999", "0", "abc", "%00", "%FF%FE", "%ED%A0%80", "9" * 30, "x" * 5_000, "a%2Fb", "%0A", "1.0", "True"]
)
def test_unknown_ids_of_a_path(api: httpx.Client, id_: str) -> None:
    assert_problem(api.get(f"/v1/users/{id_}/recommendations"), 404)
    assert_problem(api.get(f"/v1/items/{id_}/similar"), 404)


@pytest.mark.parametrize("path", ["/v1", "/v1/model/", "/nothing", "/v1/recommendations/none", "/%2e%2e/etc/passwd"])
def test_unknown_paths(api: httpx.Client, path: str) -> None:
    assert_problem(api.get(path), 404)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/recommendations"), ("DELETE", "/v1/recommendations"), ("POST", "/v1/model"), ("PUT", "/health/live")],
)
def test_wrong_methods(api: httpx.Client, method: str, path: str) -> None:
    answer = api.request(method, path)
    assert_problem(answer, 405)
    assert answer.headers["allow"]


@pytest.mark.parametrize(
    ("given_id", "kept"),
    [("abc-123_X.y:z", True), ("x" * 128, True), ("x" * 129, False), ("a b", False), ("", False), ("é", False)],
)
def test_request_ids(api: httpx.Client, given_id: str, kept: bool) -> None:
    for path in ("/v1/users/1/recommendations", "/v1/users/none/recommendations"):
        answer = api.get(path, headers={"X-Request-ID": given_id.encode()})  # type: ignore[dict-item]
        assert answer.json()["request_id"] == answer.headers["x-request-id"]
        assert (answer.headers["x-request-id"] == given_id) is kept


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([100, "100", 104, 5.0, 1_700_000_000])
)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
EVENTS = st.fixed_dictionaries({"item_id": LEAVES}, optional={"weight": LEAVES, "timestamp": LEAVES})
BODIES = ANYTHING | st.fixed_dictionaries(
    {"history": st.lists(EVENTS, max_size=4) | ANYTHING},
    optional={name: ANYTHING for name in RecommendationRequest.model_fields if name != "history"},
)


@settings(max_examples=100, deadline=None)
@given(body=BODIES)
def test_no_body_makes_the_service_fail(api: httpx.Client, integers: World, body: Any) -> None:
    answer = send(api, json.dumps(body).encode())
    if answer.status_code == 200:
        assert answer.json()["model_version"] == integers.version
    else:
        assert_problem(answer, 400, 422)
