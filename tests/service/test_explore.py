"""explore over HTTP: a draw that the request's id decides, refused where the model has nothing to draw from."""

from typing import Any

import httpx
import numpy as np
import pytest

from recsys_ae.artifact import Artifact
from recsys_ae.ids import IdMap
from recsys_ae.items import ItemMetadata
from recsys_ae.latent.content import extend
from recsys_ae.latent.features import ItemFeatures
from recsys_ae.preprocessing import Preprocessing
from recsys_ae.registry import Registry, StoredUsers
from service.app import create_app
from service.client import Client
from service.settings import Settings
from tests.service.conftest import N_ITEMS, InProcess, World, assert_problem, planted
from tests.worlds import fitted

EVENTS = [{"item_id": 100}, {"item_id": 103}]
NEW = N_ITEMS  # the column of an item that nobody has met, of the first taste


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> InProcess:
    """A variational autoencoder on the planted histories, with a cold item of either taste."""
    histories = planted()
    items = IdMap(tuple(range(100, 100 + N_ITEMS)))
    model = fitted("mult_vae", histories, epochs=12, learning_rate=1e-2)
    artifact = Artifact("mult_vae", model, items, ItemMetadata.of(items, histories, {}, {}), Preprocessing())
    taste = (np.arange(N_ITEMS + 2) // 12).clip(max=1)
    taste[N_ITEMS:] = [0, 1]
    features = ItemFeatures(IdMap(tuple(range(100, 102 + N_ITEMS))), np.eye(2, dtype=np.float32)[taste])
    extended = extend(artifact, features, {100 + NEW: "New"}).artifact
    registry = Registry(tmp_path_factory.mktemp("explored"))
    stored = StoredUsers(IdMap(tuple(range(len(histories)))), histories.remap(np.arange(N_ITEMS), N_ITEMS + 2))
    registry.promote(registry.publish(extended, "mult_vae", stored, {}))
    return InProcess(create_app(Settings(registry=registry.path)))


def asked(api: InProcess, request_id: str, **body: Any) -> list[dict[str, Any]]:
    answer = api.post("/v1/recommendations", json={"history": EVENTS, **body}, headers={"X-Request-ID": request_id})
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]  # type: ignore[no-any-return]


def test_the_same_request_id_explores_alike_and_another_elsewhere(api: InProcess) -> None:
    first, again, other = (asked(api, name, k=N_ITEMS, explore=1.0) for name in ("a" * 8, "a" * 8, "b" * 8))
    assert first == again and [i["score"] for i in first] != [i["score"] for i in other]
    assert [i["score"] for i in first] == sorted((i["score"] for i in first), reverse=True)
    assert asked(api, "a" * 8, explore=0.0) == asked(api, "b" * 8)


def test_a_little_exploring_moves_the_scores_a_little(api: InProcess) -> None:
    plain, some, whole = (
        {i["item_id"]: i["score"] for i in asked(api, "c" * 8, k=N_ITEMS, explore=e)} for e in (0.0, 0.25, 1.0)
    )
    for item, score in plain.items():
        assert some[item] == pytest.approx(score + 0.25 * (whole[item] - score), abs=1e-4)


def test_a_stored_users_explored_list_is_not_kept(api: InProcess) -> None:
    path = "/v1/users/3/recommendations?explore=1&k=10"
    first, again, other = (api.get(path, headers={"X-Request-ID": name}).json() for name in ("d" * 8, "d" * 8, "e" * 8))
    assert first["items"] == again["items"] != other["items"]
    kept = [api.get("/v1/users/3/recommendations?k=10", headers={"X-Request-ID": name}).json()["items"] for name in "de"]
    assert kept[0] == kept[1]


def test_requests_of_a_batch_explore_apart(api: InProcess) -> None:
    one = {"history": EVENTS, "explore": 1.0}
    results = api.post("/v1/recommendations/batch", json={"requests": [one, one]}).json()["results"]
    assert [i["score"] for i in results[0]["items"]] != [i["score"] for i in results[1]["items"]]


def test_without_a_history_popularity_answers_and_nothing_is_explored(api: InProcess) -> None:
    answers = [api.post("/v1/recommendations", json={"history": [], "explore": e}).json() for e in (0.0, 1.0)]
    assert answers[0]["source"] == answers[1]["source"] == "popularity" and answers[0]["items"] == answers[1]["items"]


def test_a_model_without_a_posterior_refuses_to_explore(integers: World) -> None:
    ease = InProcess(create_app(Settings(registry=integers.path)))
    body = {"history": EVENTS, "explore": 0.5}
    problem = assert_problem(ease.post("/v1/recommendations", json=body), 422)
    assert problem["errors"][0]["place"] == "body/explore" and "no posterior" in problem["errors"][0]["message"]
    problem = assert_problem(ease.get("/v1/users/1/recommendations?explore=0.5"), 422)
    assert problem["errors"][0]["place"] == "query/explore"
    results = ease.post("/v1/recommendations/batch", json={"requests": [body, {"history": EVENTS}]}).json()["results"]
    assert results[0]["errors"][0]["place"] == "body/requests/0/explore" and results[1]["items"]
    assert ease.post("/v1/recommendations", json=body | {"explore": 0}).status_code == 200


@pytest.mark.parametrize("wrong", [-0.1, 1.1, True, "1", None])
def test_explore_is_a_share(api: InProcess, wrong: Any) -> None:
    problem = assert_problem(api.post("/v1/recommendations", json={"history": EVENTS, "explore": wrong}), 422)
    assert problem["errors"][0]["place"] == "body/explore"
    assert_problem(api.get("/v1/users/1/recommendations?explore=nan"), 422)


def test_a_cold_item_is_recommended_by_its_taste_and_counts_in_a_history(api: InProcess) -> None:
    of_first, of_second = {"item_id": 100 + NEW}, {"item_id": 101 + NEW}
    ranked = api.post("/v1/rank", json={"history": EVENTS, "items": [101 + NEW, 100 + NEW]}).json()["items"]
    assert [i["item_id"] for i in ranked] == [100 + NEW, 101 + NEW] and ranked[0]["title"] == "New"
    for event, taste in ((of_first, 0), (of_second, 1)):
        answer = api.post("/v1/recommendations", json={"history": [event], "k": 5}).json()
        assert answer["source"] == "model" and answer["unknown_items"] == []
        assert [min((i["item_id"] - 100) // 12, 1) for i in answer["items"]] == [taste] * 5


def test_the_client_explores(api: InProcess) -> None:
    with Client("http://test", transport=_Bridge(api)) as client:
        assert client.recommend_to_user(3, explore=1.0).items and client.recommend([], explore=0.5).items


class _Bridge(httpx.BaseTransport):
    """The application in this process as the client's server."""

    def __init__(self, api: InProcess) -> None:
        self._api = api

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        from tests.service.conftest import ask

        found = ask(
            self._api.app, request.method, request.url.raw_path.decode(), content=request.read(), headers=dict(request.headers)
        )
        return httpx.Response(found.status_code, content=found.content, headers=found.headers)
