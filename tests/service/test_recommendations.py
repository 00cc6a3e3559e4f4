"""Lists over HTTP are those of `rank_top_k`, from the history that ingest would have made."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest

from recsys_ae.histories import Histories
from recsys_ae.ranking import rank_top_k, similar_items
from tests.service.conftest import N_ITEMS, N_USERS, REFERENCE_TIME, World, post

DAY = 86_400


def test_a_posted_history_gives_the_list_of_rank_top_k(api: httpx.Client, integers: World) -> None:
    answer = post(api, [0, 3, 5], integers, k=7, user_id="anyone", session_id=9, diversity=0, explain=False)
    assert answer["items"] == integers.expected([0, 3, 5], 7)
    assert all(item["item_id"] < 112 for item in answer["items"])  # the planted taste
    assert (answer["source"], answer["unknown_items"]) == ("model", [])
    assert answer["model_version"] == integers.version and answer["request_id"]
    assert set(answer) == {"items", "source", "unknown_items", "model_version", "request_id"}


def test_a_title_that_is_not_known_is_null(api: httpx.Client, integers: World) -> None:
    items = post(api, [3, 5], integers, k=N_ITEMS)["items"]
    assert {item["item_id"]: item["title"] for item in items} == {
        integers.id(c): None if c == 0 else f"Title of {integers.id(c)}" for c in range(N_ITEMS) if c not in (3, 5)
    }


@pytest.mark.parametrize("user", range(0, N_USERS, 7))
def test_a_stored_user_gets_the_list_of_rank_top_k(api: httpx.Client, integers: World, user: int) -> None:
    history = integers.stored.histories.take(np.array([user]))
    for include_seen in (False, True):
        answer = api.get(f"/v1/users/{user + 1}/recommendations", params={"k": 9, "include_seen": include_seen}).json()
        ranking = rank_top_k(integers.artifact.model, history, 9, exclude_seen=not include_seen)
        assert answer["items"] == integers.described(ranking)


@pytest.mark.parametrize(
    "path", ["6/recommendations", "6/recommendations?k=7", "6/recommendations?k=0", "6/recommendations?k=+7"]
)
@pytest.mark.parametrize("user", ["", "no", "%00"])
def test_a_plain_list_is_what_the_routes_would_have_given(api: httpx.Client, path: str, user: str) -> None:
    """A plain query is answered before the routes, any other by them: lists and refusals are the same."""
    apart = {"X-Request-ID": "the-same"}
    plain = api.get(f"/v1/users/{user}{path}", headers=apart)
    routed = api.get(f"/v1/users/{user}{path}{'&' if '?' in path else '?'}explain=false", headers=apart)
    assert (plain.status_code, plain.json()) == (routed.status_code, routed.json())
    assert plain.headers["content-type"] == routed.headers["content-type"]


def test_a_stored_user_of_a_string_catalogue(string_api: httpx.Client, strings: World) -> None:
    answer = string_api.get("/v1/users/user%204/recommendations").json()
    ranking = rank_top_k(strings.artifact.model, strings.stored.histories.take(np.array([4])), 10)
    assert answer["items"] == strings.described(ranking)


def test_the_same_history_stored_and_posted_gives_the_same_list(api: httpx.Client, integers: World) -> None:
    stored = api.get("/v1/users/6/recommendations").json()["items"]
    assert post(api, integers.stored.histories.row(5).tolist(), integers)["items"] == stored


def test_filters_of_a_posted_history(api: httpx.Client, integers: World) -> None:
    excluded = Histories.from_rows([[1, 2]], N_ITEMS)
    assert post(api, [0], integers, exclude=[101, "102", 99_999, "x"])["items"] == integers.expected([0], 10, exclude=excluded)
    allow = np.isin(np.arange(N_ITEMS), [4, 15])
    assert post(api, [0], integers, allow=[104, 115, 100, 5])["items"] == integers.expected([0], 10, allow=allow)
    even_or_second = (np.arange(N_ITEMS) % 2 == 0) | (np.arange(N_ITEMS) >= 12)
    expected = integers.expected([0], N_ITEMS, allow=even_or_second)
    assert post(api, [0], integers, categories=["even", "second", "none"], k=N_ITEMS)["items"] == expected
    assert [i["item_id"] for i in post(api, [0], integers, categories=["even"], allow=[104, 105])["items"]] == [104]
    for nothing in ({"categories": ["none"]}, {"categories": []}, {"allow": []}, {"allow": [100]}):
        assert post(api, [0], integers, **nothing)["items"] == []
    assert post(api, [0], integers, include_seen=True, k=N_ITEMS)["items"] == integers.expected(
        [0], N_ITEMS, exclude_seen=False
    )


def test_filters_of_a_stored_user(api: httpx.Client, integers: World) -> None:
    params = [
        ("k", "50"),
        ("exclude", "101"),
        ("exclude", "103"),
        ("exclude", "zz"),
        ("category", "even"),
        ("category", "first"),
    ]
    answer = api.get("/v1/users/2/recommendations", params=params).json()
    columns = np.arange(N_ITEMS)
    ranking = rank_top_k(
        integers.artifact.model,
        integers.stored.histories.take(np.array([1])),
        50,
        exclude=Histories.from_rows([[1, 3]], N_ITEMS),
        allow=(columns % 2 == 0) | (columns < 12),
    )
    assert answer["items"] == integers.described(ranking)


@pytest.mark.parametrize(("k", "excluded", "length"), [(1, 0, 1), (20, 3, 18), (1_000, 3, 18), (1_000, 21, 0)])
def test_as_many_items_as_are_eligible(api: httpx.Client, integers: World, k: int, excluded: int, length: int) -> None:
    exclude = [integers.id(column) for column in range(3, 3 + excluded)]
    items = post(api, [0, 1, 2], integers, k=k, exclude=exclude)["items"]
    assert len(items) == length
    assert [item["rank"] for item in items] == list(range(1, length + 1))


def test_unknown_items_are_named_in_order_once_each(api: httpx.Client, integers: World) -> None:
    ids = [7, "abc", 100, "7", "\0", -(2**63), "abc", ""]
    answer = api.post("/v1/recommendations", json={"history": [{"item_id": id_} for id_ in ids]}).json()
    assert answer["unknown_items"] == [7, "abc", "\0", -(2**63), ""]
    assert answer["items"] == integers.expected([0], 10)


def test_an_integer_catalogue_takes_digits_and_a_string_catalogue_no_integers(
    api: httpx.Client, string_api: httpx.Client, integers: World, strings: World
) -> None:
    answer = api.post("/v1/recommendations", json={"history": [{"item_id": "100"}, {"item_id": "103"}]}).json()
    assert answer["items"] == integers.expected([0, 3], 10)
    answer = string_api.post("/v1/recommendations", json={"history": [{"item_id": 7}, {"item_id": "7"}]}).json()
    assert answer["unknown_items"] == [7]
    assert answer["items"] == strings.expected([2], 10)


def events(*rows: tuple[int, float | None, int | None]) -> list[dict[str, Any]]:
    """Events of (item id, weight, timestamp)."""
    return [{"item_id": item, "weight": weight, "timestamp": time} for item, weight, time in rows]


@pytest.mark.parametrize(
    ("history", "columns"),
    [
        (events((100, 4.0, None), (101, 3.9, None)), [0]),  # below min_weight
        (events((100, None, None), (101, 0, None), (102, -1, None)), [0]),  # none stated passes, not positive does not
        (events((100, 5, None), (103, 5, None), (100, 1, None)), [3]),  # the last by place does not pass
        (events((100, 1, None), (103, 5, None), (100, 5, None)), [3, 0]),
        (events((100, 1, 20), (103, 5, 10), (100, 5, 10)), [3]),  # the last by time does not pass
        (events((100, 5, 20), (103, 5, 10), (100, 1, 10)), [3, 0]),
        (events((100, 5, 10), (103, 5, 10), (100, 1, 10)), [3]),  # of the same second the last by place
        (events(("100", 5, None), (103, 5, None), (100, 1, None)), [3]),  # one item, two spellings
    ],
)
def test_events_are_treated_as_in_ingest(
    api: httpx.Client, integers: World, history: list[dict[str, Any]], columns: list[int]
) -> None:
    answer = api.post("/v1/recommendations", json={"history": history}).json()
    assert (answer["source"], answer["items"]) == ("model", integers.expected(columns, 10))


def test_weights_and_age_go_through_the_preprocessing_of_the_artefact(string_api: httpx.Client, strings: World) -> None:
    history = [
        {"item_id": "item-14", "weight": 3, "timestamp": REFERENCE_TIME},
        {"item_id": "a/b", "weight": 2.5, "timestamp": REFERENCE_TIME - 10 * DAY},
        {"item_id": "item-5", "timestamp": REFERENCE_TIME - 20 * DAY},
    ]
    answer = string_api.post("/v1/recommendations", json={"history": history}).json()
    row = Histories.from_rows([[5, 0, 14]], N_ITEMS, [[0.25, 1.25, 3.0]])
    assert answer["items"] == strings.described(rank_top_k(strings.artifact.model, row, 10))


@pytest.mark.parametrize("history", [[], [{"item_id": "nope"}], [{"item_id": 100, "weight": 1}]])
def test_without_a_usable_event_the_most_popular_items_are_returned(
    api: httpx.Client, integers: World, history: list[dict[str, Any]]
) -> None:
    popularity = np.array(integers.artifact.metadata.popularity)
    best = [column for column in np.argsort(-popularity, kind="stable").tolist() if column >= 12 and column != 13][:5]
    body = {"history": history, "k": 5, "exclude": [113], "categories": ["second"]}
    answer = api.post("/v1/recommendations", json=body).json()
    assert answer["source"] == "popularity"
    assert [(i["item_id"], i["score"]) for i in answer["items"]] == [(integers.id(c), popularity[c]) for c in best]


@pytest.mark.parametrize("column", [0, 1, 2, 20])
def test_similar_items(api: httpx.Client, string_api: httpx.Client, integers: World, strings: World, column: int) -> None:
    for client, world in ((api, integers), (string_api, strings)):
        path = f"/v1/items/{quote(str(world.id(column)), safe='')}/similar"
        answer = client.get(path, params={"k": 6}).json()
        assert answer["items"] == world.described(similar_items(world.artifact.model, column, N_ITEMS, 6))
        assert len(answer["items"]) == 6


def test_parallel_calls_give_what_single_ones_give(api: httpx.Client, integers: World) -> None:
    histories = [[n % N_ITEMS, (n * 5 + 1) % N_ITEMS] for n in range(20)]
    serial = [post(api, history, integers)["items"] for history in histories]
    with ThreadPoolExecutor(20) as pool:
        parallel = list(pool.map(lambda history: post(api, history, integers), histories))
    assert [answer["items"] for answer in parallel] == serial
    assert len({answer["request_id"] for answer in parallel}) == 20


def test_the_longest_history_is_served(api: httpx.Client, integers: World) -> None:
    history = [{"item_id": 100 + n % 5} for n in range(10_000)]
    answer = api.post("/v1/recommendations", json={"history": history})
    assert answer.json()["items"] == integers.expected([0, 1, 2, 3, 4], 10)
    history.append({"item_id": 100})
    assert api.post("/v1/recommendations", json={"history": history}).status_code == 422


def test_model(api: httpx.Client, integers: World) -> None:
    about = api.get("/v1/model").json()
    assert about.pop("trained_at").startswith("20")
    assert about == {
        "version": integers.version,
        "model": "ease",
        "data_digest": "sha256:planted",
        "metrics": {"ndcg@10": {"mean": 0.5}},
        "items": N_ITEMS,
        "users": N_USERS,
        "index": None,
        "arms": [],
    }


def test_health(api: httpx.Client, integers: World) -> None:
    assert api.get("/health/live").json() == {"status": "live"}
    assert api.get("/health/ready").json() == {"status": "ready", "model_version": integers.version}
