"""Explanation, diversity, calibration, batch and rank over HTTP: what the library gives, and as many items as there are."""

import json
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_ae import calibrate, diversify, explain
from recsys_ae.beyond import category_shares
from recsys_ae.histories import Histories
from recsys_ae.ranking import rank_top_k
from recsys_ae.reranking import candidates
from service.app import create_app
from service.settings import Settings
from tests.service.conftest import N_ITEMS, World, ask, assert_problem, post
from tests.service.test_problems import BODIES

COLUMNS = [0, 3, 15]


def history(world: World, columns: list[int]) -> list[dict[str, Any]]:
    """Events of the items of those columns."""
    return [{"item_id": world.id(column)} for column in columns]


def plain(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A list without its explanations."""
    return [{key: value for key, value in item.items() if key != "because"} for item in items]


def test_an_explained_list_names_the_items_that_its_scores_hang_on(api: httpx.Client, integers: World) -> None:
    items = post(api, COLUMNS, integers, k=8, explain=True)["items"]
    assert plain(items) == integers.expected(COLUMNS, 8)
    weights = integers.artifact.model.tensors()["weights"].numpy()
    for item in items:
        own = [(integers.id(c), weights[c, item["item_id"] - 100]) for c in COLUMNS]
        expected = sorted(own, key=lambda pair: -pair[1])
        assert [because["item_id"] for because in item["because"]] == [id_ for id_, _ in expected]
        assert [because["influence"] for because in item["because"]] == pytest.approx([w for _, w in expected], abs=1e-6)
        assert sum(because["influence"] for because in item["because"]) == pytest.approx(item["score"], abs=1e-6)


def test_a_stored_users_list_is_explained_by_at_most_five_items(api: httpx.Client, integers: World) -> None:
    own = integers.stored.histories.take(np.array([6]))
    items = api.get("/v1/users/7/recommendations", params={"explain": True, "k": 4}).json()["items"]
    ranking = rank_top_k(integers.artifact.model, own, 4)
    assert plain(items) == integers.described(ranking)
    influences = explain(integers.artifact.model, own, ranking.row(0)[0])
    for place, item in enumerate(items):
        expected = [{"item_id": integers.id(c), "influence": value} for c, value in influences.strongest(place, 5)]
        assert item["because"] == expected and len(expected) == 5


def test_popularity_has_no_reasons_and_an_unexplained_list_does_not_speak_of_any(api: httpx.Client, integers: World) -> None:
    answer = post(api, [], integers, explain=True, k=3)
    assert answer["source"] == "popularity" and [item["because"] for item in answer["items"]] == [[]] * 3
    assert all("because" not in item for item in post(api, COLUMNS, integers)["items"])
    assert all("because" not in item for item in api.get("/v1/users/7/recommendations").json()["items"])


def test_limits_of_explanations_and_batches_are_settings(integers: World) -> None:
    app = create_app(Settings(registry=integers.path, largest_because=2, largest_explained=3, largest_batch=2, largest_k=5))
    three, four = ({"history": history(integers, COLUMNS + more), "explain": True, "k": 5} for more in ([], [4]))
    answer = ask(app, "POST", "/v1/recommendations", json=three)
    assert [len(item["because"]) for item in answer.json()["items"]] == [2] * 5
    problem = assert_problem(ask(app, "POST", "/v1/recommendations", json=four), 422)
    assert [error["place"] for error in problem["errors"]] == ["body/explain"]
    problem = assert_problem(ask(app, "GET", "/v1/users/1/recommendations?explain=true&k=5"), 422)
    assert [error["place"] for error in problem["errors"]] == ["query/explain"]
    results = ask(app, "POST", "/v1/recommendations/batch", json={"requests": [four, three]}).json()["results"]
    assert results[0]["errors"][0]["place"] == "body/requests/0/explain" and len(results[1]["items"]) == 5
    problem = assert_problem(ask(app, "POST", "/v1/recommendations/batch", json={"requests": [three] * 3}), 422)
    assert problem["errors"][0]["place"] == "body/requests"
    problem = assert_problem(ask(app, "POST", "/v1/rank", json={"history": [], "items": [1] * 6}), 422)
    assert problem["errors"][0]["place"] == "body/items"


@pytest.mark.parametrize("diversity", [0, 0.3, 1])
def test_a_diverse_list_is_that_of_maximal_marginal_relevance(api: httpx.Client, integers: World, diversity: float) -> None:
    row = Histories.from_rows([COLUMNS], N_ITEMS)
    ranking = rank_top_k(integers.artifact.model, row, candidates(5))
    expected = integers.described(diversify(integers.artifact.model, ranking, 5, diversity))
    assert post(api, COLUMNS, integers, k=5, diversity=diversity)["items"] == expected
    if diversity == 0:
        assert expected == integers.expected(COLUMNS, 5)
    own = rank_top_k(integers.artifact.model, integers.stored.histories.take(np.array([1])), candidates(5))
    answer = api.get("/v1/users/2/recommendations", params={"k": 5, "diversity": diversity}).json()
    assert answer["items"] == integers.described(diversify(integers.artifact.model, own, 5, diversity))


def test_a_calibrated_list_shares_the_categories_of_the_history(api: httpx.Client, integers: World) -> None:
    row = Histories.from_rows([COLUMNS], N_ITEMS)
    shares = category_shares(integers.artifact.metadata.categories)[1]
    ranking = calibrate(rank_top_k(integers.artifact.model, row, candidates(6)), row, shares, 6, 0.95)
    answer = post(api, COLUMNS, integers, k=6, calibration=0.95)
    assert answer["items"] == integers.described(ranking)
    assert sum(item["item_id"] >= 112 for item in answer["items"]) == 2  # as one item of three was
    assert answer["items"] != integers.expected(COLUMNS, 6)


@pytest.mark.parametrize("shape", [{"diversity": 0.7}, {"calibration": 0.7}, {"diversity": 1, "explain": True}])
@pytest.mark.parametrize(("k", "excluded", "length"), [(1, 0, 1), (20, 3, 18), (1_000, 3, 18), (1_000, 21, 0)])
def test_a_rearranged_list_is_as_long_as_any(
    api: httpx.Client, integers: World, shape: dict[str, Any], k: int, excluded: int, length: int
) -> None:
    exclude = [integers.id(column) for column in range(3, 3 + excluded)]
    for columns in ([0, 1, 2], []):
        items = post(api, columns, integers, k=k, exclude=[*exclude, 100, 101, 102], **shape)["items"]
        assert len({item["item_id"] for item in items}) == len(items) == length
        assert [item["rank"] for item in items] == list(range(1, length + 1))


def test_ties_are_in_the_order_of_the_catalogue(api: httpx.Client, integers: World) -> None:
    popularity = np.array(integers.artifact.metadata.popularity)
    assert len(set(popularity)) < N_ITEMS
    expected = [integers.id(column) for column in np.argsort(-popularity, kind="stable").tolist()]
    assert [item["item_id"] for item in post(api, [], integers, k=N_ITEMS)["items"]] == expected
    for k in range(1, N_ITEMS):
        assert [item["item_id"] for item in post(api, [], integers, k=k)["items"]] == expected[:k]


def test_a_batch_is_its_requests_one_by_one(api: httpx.Client, integers: World) -> None:
    requests: list[Any] = [
        {"history": history(integers, COLUMNS), "k": 3, "explain": True},
        {"history": [], "k": 2, "categories": ["second"]},
        {"history": history(integers, [4]), "diversity": 0.4},
        {"history": [{"item_id": "nope"}], "k": 1},
    ]
    results = api.post("/v1/recommendations/batch", json={"requests": requests}).json()["results"]
    for request, result in zip(requests, results, strict=True):
        alone = api.post("/v1/recommendations", json=request).json()
        assert {**result, "request_id": ""} == {**alone, "request_id": ""}
    assert len({result["request_id"] for result in results}) == 1
    assert api.post("/v1/recommendations/batch", json={"requests": []}).json() == {"results": []}


def test_a_wrong_request_of_a_batch_takes_no_other_with_it(api: httpx.Client, integers: World) -> None:
    good = {"history": history(integers, COLUMNS), "k": 3}
    wrong: list[Any] = [None, {"history": [{"item_id": True}]}, good | {"k": 1_001}, good | {"s3cret": "s3cret"}]
    answer = api.post("/v1/recommendations/batch", json={"requests": [*wrong, good]})
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert results[-1]["items"] == integers.expected(COLUMNS, 3)
    places = ["body/requests/0", "body/requests/1/history/0/item_id", "body/requests/2/k", "body/requests/3/s3cret"]
    for result, place in zip(results, places, strict=False):
        assert result["status"] == 422 and result["title"] and result["detail"]
        assert result["request_id"] == answer.headers["x-request-id"]
        assert [error["place"] for error in result["errors"]] == [place]
    assert "items" not in results[0]


@pytest.mark.parametrize(
    "body", [{}, {"requests": None}, {"requests": {}}, {"requests": [], "k": 3}, [], {"requests": [{"history": []}] * 101}]
)
def test_a_batch_that_is_none(api: httpx.Client, body: Any) -> None:
    assert_problem(api.post("/v1/recommendations/batch", json=body), 422)


def test_candidates_are_ranked_as_the_whole_catalogue_is(api: httpx.Client, integers: World) -> None:
    whole = [item for item in integers.expected(COLUMNS, N_ITEMS, exclude_seen=False) if item["item_id"] % 3 == 1]
    posted = sorted((item["item_id"] for item in whole), key=lambda id_: -id_)
    body = {"history": history(integers, COLUMNS), "items": [*posted, "x", str(posted[0]), posted[1], 7, "7"]}
    answer = api.post("/v1/rank", json=body).json()
    assert [(i["item_id"], i["score"]) for i in answer["items"]] == [(i["item_id"], i["score"]) for i in whole]
    assert {integers.id(column) for column in COLUMNS} < {item["item_id"] for item in answer["items"]}
    assert [item["rank"] for item in answer["items"]] == list(range(1, len(whole) + 1))
    assert (answer["source"], answer["unknown_items"]) == ("model", ["x", 7])
    assert answer["model_version"] == integers.version


def test_candidates_without_a_history_are_ranked_by_popularity(api: httpx.Client, integers: World) -> None:
    popularity = np.array(integers.artifact.metadata.popularity)
    answer = api.post("/v1/rank", json={"history": [{"item_id": "?"}], "items": [115, 101, 120]}).json()
    expected = sorted([1, 15, 20], key=lambda column: (-popularity[column], column))
    assert [item["item_id"] for item in answer["items"]] == [integers.id(column) for column in expected]
    assert (answer["source"], answer["unknown_items"]) == ("popularity", ["?"])
    for nothing in ([], ["?"]):
        answer = api.post("/v1/rank", json={"history": [], "items": nothing}).json()
        assert (answer["items"], answer["unknown_items"]) == ([], nothing)


@pytest.mark.parametrize(
    "body",
    [
        {"items": [1]},
        {"history": []},
        {"history": [], "items": None},
        {"history": [], "items": [True]},
        {"history": [], "items": [1], "k": 3},
        {"history": [], "items": [1] * 1_001},
        {"history": [{"item_id": 1}, {"item_id": 2, "timestamp": 3}], "items": [1]},
    ],
)
def test_a_ranking_that_is_none(api: httpx.Client, body: Any) -> None:
    assert_problem(api.post("/v1/rank", json=body), 422)


@settings(max_examples=40, deadline=None)
@given(bodies=st.lists(BODIES, max_size=4))
def test_no_batch_makes_the_service_fail(api: httpx.Client, bodies: list[Any]) -> None:
    answer = api.post(
        "/v1/recommendations/batch",
        content=json.dumps({"requests": bodies}).encode(),
        headers={"content-type": "application/json"},
    )
    if answer.status_code == 200:
        assert len(answer.json()["results"]) == len(bodies)
        assert all(result.get("status", 422) == 422 for result in answer.json()["results"])
    else:
        assert_problem(answer, 400)  # not strict JSON
