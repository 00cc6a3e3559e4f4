"""What is posted is in the next answer; what is erased or switched off is in none, whatever is restarted or published."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from recsys_ae.events import RawEvent, history_of
from recsys_ae.histories import Histories
from recsys_ae.preprocessing import Preprocessing
from recsys_ae.ranking import rank_top_k
from service.app import create_app
from service.settings import Settings
from service.store import NewEvent, Store
from service.users import KnownUsers
from tests.service.conftest import N_ITEMS, REFERENCE_TIME, World, ask, assert_problem, client_of, post

Api = httpx.Client


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'events.db'}"


@pytest.fixture(scope="module")
def writable(integers: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One server for many tests, each with users and event ids of its own."""
    with client_of(integers, f"sqlite:///{tmp_path_factory.mktemp('store') / 'events.db'}") as client:
        yield client


def write(api: Api, *events: dict[str, Any]) -> dict[str, Any]:
    answer = api.post("/v1/interactions", json={"events": list(events)})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def items_of(api: Api, user: str, **params: Any) -> list[int]:
    answer = api.get(f"/v1/users/{user}/recommendations", params={"k": N_ITEMS, **params})
    assert answer.status_code == 200, answer.text
    return [item["item_id"] for item in answer.json()["items"]]


def test_somebody_new_is_served_from_what_was_just_posted(writable: Api, integers: World) -> None:
    assert_problem(writable.get("/v1/users/new/recommendations"), 404)
    events = [{"event_id": f"e{c}", "user_id": "new", "item_id": 100 + c, "weight": 5.0} for c in (0, 3)]
    assert write(writable, *events) == {"accepted": 2, "duplicates": 0, "conflicts": []}
    answer = writable.get("/v1/users/new/recommendations", params={"k": 7}).json()
    assert answer["items"] == integers.expected([0, 3], 7) and answer["source"] == "model"
    changed = events[0] | {"weight": 4.0}
    assert write(writable, changed, events[1]) == {"accepted": 0, "duplicates": 2, "conflicts": ["e0"]}
    write(writable, {"event_id": 7, "user_id": "new", "item_id": "105"})
    assert writable.get("/v1/users/new/recommendations", params={"k": 7}).json()["items"] == integers.expected([0, 3, 5], 7)
    low = {"event_id": "low", "user_id": "new", "item_id": 105, "weight": 1.0}  # the last rating counts, below min_weight
    write(writable, low)
    assert writable.get("/v1/users/new/recommendations", params={"k": 7}).json()["items"] == integers.expected([0, 3], 7)


def test_a_stored_history_goes_on_with_the_events_of_the_store(writable: Api, integers: World) -> None:
    columns = integers.stored.histories.row(5).tolist()
    new = next(c for c in range(N_ITEMS) if c not in columns)
    write(writable, {"event_id": "a", "user_id": 6, "item_id": 100 + new})
    answer = writable.get("/v1/users/6/recommendations", params={"k": 9}).json()
    assert answer["items"] == integers.expected([*columns, new], 9) == post(writable, [*columns, new], integers, k=9)["items"]
    disliked = {"event_id": "b", "user_id": "6", "item_id": 100 + columns[0], "weight": 1.0}
    write(writable, disliked)
    answer = writable.get("/v1/users/6/recommendations", params={"k": 9}).json()
    assert answer["items"] == integers.expected([*columns[1:], new], 9)


@pytest.mark.slow
def test_aged_weights_of_a_stored_history_come_out_as_they_went_in(strings: World, store: str) -> None:
    """Linear weights that halve every ten days: the same as all raw events at once."""
    rules = strings.artifact.preprocessing
    row = strings.stored.histories.take(np.array([4]))
    assert row.times is not None
    raw = [
        RawEvent(item, weight, time)
        for item, weight, time in zip(
            strings.artifact.items.at(row.items), rules.raw(row.weights, row.times), row.times.tolist(), strict=True
        )
    ]
    raw.append(RawEvent("é?&#", 3.0, REFERENCE_TIME - 86_400))
    history, _ = history_of(raw, strings.artifact.items, rules)
    with client_of(strings, store) as api:
        event = {"event_id": "a", "user_id": "user 4", "item_id": "é?&#", "weight": 3.0, "timestamp": REFERENCE_TIME - 86_400}
        write(api, event)
        found = api.get("/v1/users/user%204/recommendations").json()["items"]
    expected = strings.described(rank_top_k(strings.artifact.model, history, 10))
    assert [i["item_id"] for i in found] == [i["item_id"] for i in expected]
    assert [i["score"] for i in found] == pytest.approx([i["score"] for i in expected], rel=1e-5)


@pytest.mark.parametrize("transform", ["binary", "linear", "log1p"])
@pytest.mark.parametrize("half_life", [None, 10])
def test_raw_weights_are_found_again(transform: Any, half_life: float | None) -> None:
    rules = Preprocessing(weight_transform=transform, half_life_days=half_life, reference_time=REFERENCE_TIME, min_weight=2.0)
    times = REFERENCE_TIME - 86_400 * np.array([0, 3, 400, 4_000])
    raw = np.array([2.0, 2.5, 7.0, 1e6])
    found = rules.raw(rules.weights(raw, times), times)
    assert found.min() >= 2.0
    if transform == "binary":
        assert (found == rules.neutral_weight).all()
    elif half_life is None:
        assert found == pytest.approx(raw, rel=1e-5)
    else:
        assert found[:3] == pytest.approx(raw[:3], rel=1e-4)


def test_what_is_stored_of_a_user_page_by_page(writable: Api, integers: World) -> None:
    published = [
        {"item_id": integers.id(c), "weight": 1.0, "timestamp": t}
        for c, t in zip(integers.stored.histories.row(0).tolist(), range(-7, 0), strict=True)
    ]
    first = writable.get("/v1/users/1/interactions").json()
    assert (first["events"], first["next"]) == ([], None)
    assert [p["item_id"] for p in first["published"]] == [p["item_id"] for p in published]
    write(writable, *({"event_id": f"page {n}", "user_id": 1, "item_id": 100 + n, "event_type": "view"} for n in range(5)))
    found, params = [], {"limit": 2}
    while True:
        page = writable.get("/v1/users/1/interactions", params=params).json()
        found += page["events"]
        if page["next"] is None:
            break
        params["after"] = page["next"]
    assert [(e["event_id"], e["item_id"], e["event_type"], e["weight"]) for e in found] == [
        (f"page {n}", 100 + n, "view", None) for n in range(5)
    ]
    assert page["published"] == []
    assert_problem(writable.get("/v1/users/nobody/interactions"), 404)
    assert_problem(writable.get("/v1/users/1/interactions?limit=0"), 422)


@pytest.mark.slow
def test_an_erased_user_stays_out_after_a_restart_and_begins_anew(integers: World, store: str) -> None:
    with client_of(integers, store) as api:
        write(api, {"event_id": "a", "user_id": 3, "item_id": 100})
        assert api.delete("/v1/users/3").status_code == 204
        assert api.delete("/v1/users/3").status_code == 204
        assert_problem(api.get("/v1/users/3/recommendations"), 404)
        assert_problem(api.get("/v1/users/3/interactions"), 404)
        assert api.get("/v1/users/4/recommendations").status_code == 200
    with client_of(integers, store) as api:
        assert_problem(api.get("/v1/users/3/recommendations"), 404)
        write(api, {"event_id": "b", "user_id": 3, "item_id": 115})
        assert api.get("/v1/users/3/recommendations").json()["items"] == integers.expected([15], 10)
        assert api.get("/v1/users/3/interactions").json()["published"] == []


def test_items_change_from_the_next_answer_on(writable: Api, integers: World) -> None:
    listed = items_of(writable, "5")
    first, second = listed[:2]
    answer = writable.put(f"/v1/items/{second}", json={"title": "New", "categories": ["fresh"]})
    assert answer.json() == {"title": "New", "categories": ["fresh"], "available": True, "known": True}
    found = writable.get("/v1/users/5/recommendations", params={"k": 2}).json()["items"]
    assert found[1]["title"] == "New" and found[0]["title"] == f"Title of {first}"
    assert items_of(writable, "5", category="fresh") == [second]
    assert second not in items_of(writable, "5", category=["first", "second", "even"])
    assert writable.delete(f"/v1/items/{first}").status_code == 204
    assert items_of(writable, "5") == [i for i in listed if i != first]
    assert first not in [i["item_id"] for i in post(writable, [3], integers, k=N_ITEMS, allow=[first, second])["items"]]
    similar = writable.get(f"/v1/items/{second}/similar", params={"k": N_ITEMS}).json()["items"]
    assert first not in [i["item_id"] for i in similar] and len(similar) == N_ITEMS - 2
    assert writable.put(f"/v1/items/{first}", json={}).json()["known"]
    assert items_of(writable, "5") == listed
    writable.put(f"/v1/items/{second}", json={})
    unknown = writable.put("/v1/items/not-there-yet", json={"title": "Soon", "available": False}).json()
    assert unknown == {"title": "Soon", "categories": None, "available": False, "known": False}


@pytest.mark.slow
def test_an_integer_of_a_string_catalogue_is_that_text(strings: World, store: str) -> None:
    with client_of(strings, store) as api:
        write(api, {"event_id": "a", "user_id": 12, "item_id": 7})
        assert api.get("/v1/users/12/recommendations").json()["items"][0]["item_id"] != "7"
        assert api.get("/v1/users/12/recommendations").json()["source"] == "model"
        assert api.get("/v1/users/12/interactions").json()["events"][0]["item_id"] == "7"


def test_without_a_store_nothing_is_written_and_all_else_works(api: Api, integers: World) -> None:
    event = {"event_id": "a", "user_id": 1, "item_id": 100}
    for answer in (
        api.post("/v1/interactions", json={"events": [event]}),
        api.delete("/v1/users/1"),
        api.put("/v1/items/100", json={}),
        api.delete("/v1/items/100"),
    ):
        assert "no store of events is configured" in assert_problem(answer, 503)["detail"]
    assert len(api.get("/v1/users/1/interactions").json()["published"]) == 7


EVENT = {"event_id": "bad", "user_id": 9, "item_id": 100}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"events": EVENT},
        {"events": [{"user_id": 1, "item_id": 100}]},
        {"events": [{**EVENT, "user_id": ""}]},
        {"events": [{**EVENT, "item_id": " x"}]},
        {"events": [{**EVENT, "user_id": "a\0b"}]},
        {"events": [{**EVENT, "user_id": True}]},
        {"events": [{**EVENT, "event_id": None}]},
        {"events": [{**EVENT, "event_id": "x" * 201}]},
        {"events": [{**EVENT, "timestamp": 10**15}]},
        {"events": [{**EVENT, "timestamp": 1.5}]},
        {"events": [{**EVENT, "weight": 1e13}]},
        {"events": [{**EVENT, "request_id": 5}]},
        {"events": [{**EVENT, "more": 5}]},
        {"events": [EVENT, {**EVENT, "event_type": "\0"}]},
    ],
)
def test_bad_events_are_problems_and_nothing_is_stored(writable: Api, body: Any) -> None:
    assert_problem(writable.post("/v1/interactions", json=body), 422)
    assert writable.get("/v1/users/9/interactions").json()["events"] == []


def test_bad_items_and_paths_are_problems(writable: Api) -> None:
    for body in ({"title": 5}, {"available": "yes"}, {"categories": "x"}, {"titel": "x"}, {"title": "a\0b"}):
        assert_problem(writable.put("/v1/items/100", json=body), 422)
    for path in ("/v1/users/a%00b", "/v1/items/%20", f"/v1/users/{'x' * 201}"):
        assert_problem(writable.delete(path), 422)
    assert_problem(writable.get("/v1/users/a%00b/recommendations"), 404)
    assert_problem(writable.post("/v1/interactions", content=b"[", headers={"content-type": "application/json"}), 400)


def test_the_batch_has_a_limit(integers: World, store: str) -> None:
    app = create_app(Settings(registry=integers.path, store=store, largest_events=2))
    events = [{**EVENT, "event_id": str(n)} for n in range(3)]
    assert_problem(ask(app, "POST", "/v1/interactions", json={"events": events}), 422)
    assert ask(app, "POST", "/v1/interactions", json={"events": events[:2]}).json()["accepted"] == 2
    app.state.store.close()


def test_events_are_taken_while_no_model_is_published(tmp_path: Path, store: str) -> None:
    app = create_app(Settings(registry=tmp_path, store=store))
    assert ask(app, "POST", "/v1/interactions", json={"events": [EVENT]}).json()["accepted"] == 1
    assert ask(app, "GET", "/v1/users/9/interactions").json()["events"][0]["item_id"] == 100
    app.state.store.close()


def test_a_database_that_fails_is_a_deliberate_503(integers: World, store: str, caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(Settings(registry=integers.path, store=store))
    app.state.store.add([NewEvent("known", "Ferdinand", 100)])  # of whom there is something to be read
    with app.state.store._database.writing() as connection:
        connection.exec_driver_sql("drop table recsys_events")
    secret = {**EVENT, "user_id": "Ferdinand"}
    for answer in (
        ask(app, "POST", "/v1/interactions", json={"events": [secret]}),
        ask(app, "GET", "/v1/users/Ferdinand/recommendations"),
    ):
        assert_problem(answer, 503)
        assert answer.headers["retry-after"] == "1"
    assert "Ferdinand" not in caplog.text and "no such table" in caplog.text
    assert ask(app, "POST", "/v1/recommendations", json={"history": [{"item_id": 100}]}).status_code == 200
    app.state.store.close()


def test_histories_that_have_no_times_come_first(integers: World, store: str) -> None:
    """`max_history` keeps the last: the store's events."""

    artifact, stored = integers.artifact, integers.stored
    plain = stored.histories
    untimed = Histories(plain.indptr, plain.items, plain.weights, plain.n_items)
    capped = artifact.preprocessing.model_copy(update={"max_history": 2})

    opened = Store(store)
    known = KnownUsers(replace(artifact, preprocessing=capped), replace(stored, histories=untimed), opened)
    row = plain.row(0).tolist()
    new = [c for c in range(N_ITEMS) if c not in row][:2]
    opened.add([NewEvent("a", "1", 100 + new[0], None, 2_000), NewEvent("b", "1", 100 + new[1], None, 1_000)])
    assert known.history(1).items.tolist() == [new[1], new[0]]
    opened.close()
