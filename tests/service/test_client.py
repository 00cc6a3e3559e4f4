"""The client against a real server: every route, ids of any signs, errors as ApiError; and it loads no server code."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from pydantic import ValidationError

from recsys_ae.ranking import rank_top_k, similar_items
from service.app import create_app
from service.client import ApiError, Client
from service.schemas import Event, Problem, RecommendationRequest, Recommendations
from service.schemas_store import Interaction
from service.settings import Settings
from tests.service.conftest import N_ITEMS, World, post, running


@pytest.fixture
def client(api: httpx.Client) -> Iterator[Client]:
    with Client(str(api.base_url)) as client:
        yield client


HISTORY = [Event(item_id=100), Event(item_id=103, weight=5)]


def listed(found: Recommendations) -> list[dict[str, object]]:
    """Its items as the API gives them."""
    return [item.model_dump() for item in found.items]


def test_recommendations(client: Client, integers: World) -> None:
    assert listed(client.recommend(HISTORY, k=4)) == integers.expected([0, 3], 4)
    found = client.recommend(HISTORY, k=4, exclude=[101], explain=True, diversity=0.5)
    assert 101 not in [item.item_id for item in found.items]
    assert all({reason.item_id for reason in item.because or []} == {100, 103} for item in found.items)
    own = integers.stored.histories.take(np.array([4]))
    allowed = np.arange(N_ITEMS) < 12
    allowed[2] = False
    expected = integers.described(rank_top_k(integers.artifact.model, own, 3, allow=allowed))
    assert listed(client.recommend_to_user(5, k=3, categories=["first"], exclude=[102])) == expected
    assert client.recommend_to_user(5, explain=True, calibration=0.5).items[0].because


def test_batch_and_rank(client: Client, api: httpx.Client, integers: World) -> None:
    good, bad = RecommendationRequest(history=HISTORY, k=2), RecommendationRequest(history=HISTORY, k=5_000)
    first, second = client.recommend_in_batch([good, bad])
    assert isinstance(first, Recommendations) and listed(first) == integers.expected([0, 3], 2)
    assert isinstance(second, Problem) and second.errors[0].place == "body/requests/1/k"
    ranked = client.rank(HISTORY, [120, 101, "?"])
    expected = [i["item_id"] for i in integers.expected([0, 3], N_ITEMS) if i["item_id"] in (101, 120)]
    assert [item.item_id for item in ranked.items] == expected and ranked.unknown_items == ["?"]
    assert post(api, [0, 3], integers, k=2)["items"] == listed(first)


def test_model_and_probes(client: Client, integers: World) -> None:
    assert client.model().version == client.ready().model_version == integers.version
    assert client.live().status == "live"


def test_ids_of_any_signs(string_api: httpx.Client, strings: World) -> None:
    with Client(str(string_api.base_url)) as client:
        for column in range(4):
            expected = strings.described(similar_items(strings.artifact.model, column, N_ITEMS, 5))
            assert listed(client.similar(strings.id(column), k=5)) == expected
        assert client.recommend_to_user("user 4").items


def test_a_problem_is_an_error_that_says_where(client: Client) -> None:
    with pytest.raises(ApiError, match=r"422 .*body/k: .*1000.*\(request ") as raised:
        client.recommend(HISTORY, k=1_001)
    assert (raised.value.status, raised.value.errors[0].place) == (422, "body/k")
    with pytest.raises(ApiError, match="404"):
        client.recommend_to_user("nobody")
    with pytest.raises(ValidationError, match="no_such_wish"):
        client.recommend(HISTORY, no_such_wish=1)


def test_the_key_is_sent_and_what_is_no_api_is_said_so() -> None:
    seen: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization"))
        return httpx.Response(200 if request.url.path == "/v1/model" else 502, text="<html>")

    for key, sent in ((None, None), ("s3cret", "Bearer s3cret")):
        client = Client("http://elsewhere", api_key=key, transport=httpx.MockTransport(answer))
        for ask, status in ((client.model, 200), (client.ready, 502)):
            with pytest.raises(ApiError, match=f"{status} .*is this the API") as raised:
                ask()
            assert "s3cret" not in str(raised.value) and seen.pop() == sent


def test_there_is_a_method_for_every_route(integers: World) -> None:
    paths = create_app(Settings(registry=integers.path)).openapi()["paths"]
    names = {operation["operationId"] for path in paths.values() for operation in path.values()}
    assert names - {"recommend_from_history"} <= set(dir(Client)), "a route without a method"


def test_the_client_loads_no_server_code() -> None:
    code = "import sys, service.client; print(sorted({'fastapi', 'starlette', 'uvicorn', 'torch'} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (ended.stdout, ended.stderr) == ("[]\n", "")


@pytest.mark.slow
def test_what_users_do_and_what_items_are_called(integers: World, tmp_path: Path) -> None:
    with running(integers.path, store=f"sqlite:///{tmp_path}/events.db") as url, Client(url) as client:
        first, second = integers.id(0), integers.id(1)
        events = [Interaction(event_id=f"e{n}", user_id="new", item_id=item) for n, item in enumerate((first, second))]
        assert client.post_interactions(events).accepted == 2
        assert client.post_interactions(events).duplicates == 2
        assert [event.event_id for event in client.interactions_of_user("new").events] == ["e0", "e1"]
        best = client.recommend_to_user("new", k=1).items[0].item_id
        assert client.put_item(best, title="Another title").title == "Another title"
        assert client.recommend_to_user("new", k=1).items[0].title == "Another title"
        client.switch_off_item(best)
        assert client.recommend_to_user("new", k=1).items[0].item_id != best
        client.erase_user("new")
        with pytest.raises(ApiError, match="404"):
            client.recommend_to_user("new")
        assert "recsys_ae" in client.metrics()
