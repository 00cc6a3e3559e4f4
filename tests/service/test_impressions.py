"""Lists that are shown are logged, by nobody's waiting; none stands of a user who was erased since, and none is too old."""

import asyncio
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from pipelines.clicks import Asked, clicks
from pipelines.config import make_config
from recsys_ae.errors import StoreError
from service.app import create_app
from service.impressions import AT_ONCE, Impressions
from service.settings import Settings
from service.store import NewEvent, Shown, Store, listed
from service.store.store import SETTLING_SECONDS
from service.store.tables import impressions
from tests.service.conftest import World, service
from tests.service.test_store import opened

NOW = int(time.time())


def shown(n: int, user: str | None = "u", **changes: Any) -> Shown:
    return Shown(f"r{n}", 0, user, "v1", None, "model", listed((100 + n, "x")), NOW)._replace(**changes)


def rows(store: Store) -> list[dict[str, Any]]:
    with store._database.reading() as connection:
        found = connection.execute(sa.select(impressions).order_by(impressions.c.sequence)).mappings()
        return [{**row, "items": json.loads(row["items"])} for row in found]


def users(store: Store) -> list[str | None]:
    return [row["user_id"] for row in rows(store)]


# --- the store --------------------------------------------------------------------------------------------------------------


def test_a_list_comes_back_as_it_was_shown(store: Store) -> None:
    store.add_shown([shown(1), shown(2, None, place=3, arm="b", source="popularity", items=listed(["é\U0001f600'"]))])
    first, second = rows(store)
    del first["sequence"], second["sequence"]
    assert first == {**shown(1)._asdict(), "items": ["101", "x"]}  # ids as events have them
    assert second == {**shown(2, None, place=3, arm="b", source="popularity")._asdict(), "items": ["é\U0001f600'"]}


def test_an_erasure_takes_the_lists_and_those_that_come_late(store: Store) -> None:
    """Of whenever they are written: what was shown before the erasure, or while it was under way, is not there after it."""
    store.add_shown([shown(1), shown(2, "other"), shown(3, None)])
    store.erase("u")
    assert users(store) == ["other", None]
    late = [shown(4), shown(5, shown_at=NOW + SETTLING_SECONDS), shown(6, "other"), shown(7, None)]
    store.add_shown(late)
    store.add_shown(late[:1])
    assert users(store) == ["other", None, "other", None]
    store.add_shown([shown(8, shown_at=int(time.time()) + SETTLING_SECONDS + 60)])  # of a user who came back
    assert users(store)[-1] == "u"


def test_no_list_of_before_outlives_an_erasure_that_writers_race(store: Store) -> None:
    """Whoever comes first: once the erasure has come back, none is there, and none appears."""
    with ThreadPoolExecutor(4) as pool:
        for n in range(10):
            user = f"u{n}"
            writing = [pool.submit(store.add_shown, [shown(i, user), shown(i, "other")]) for i in range(6)]
            pool.submit(store.erase, user).result()
            assert user not in users(store)
            for each in writing:
                each.result()
            assert user not in users(store)
    assert users(store) == ["other"] * 60


def test_old_lists_are_dropped_a_few_at_a_time(store: Store) -> None:
    store.add_shown([shown(n, shown_at=n) for n in range(10)])
    assert [store.drop_shown(7, 4) for _ in range(3)] == [4, 3, 0]
    assert [row["shown_at"] for row in rows(store)] == [7, 8, 9]


def version_1(url: str) -> None:
    """Makes a store what the release before made of it."""
    store = Store(url)
    store.add([NewEvent("old", "u", 5)])
    with store._database.writing() as connection:
        impressions.drop(connection)
        connection.execute(sa.text("update recsys_schema set version = 1"))
    store.close()


def test_a_store_of_version_1_is_brought_up_by_several_at_once(url: str) -> None:
    version_1(url)
    with ThreadPoolExecutor(3) as pool:  # each with connections of its own, as processes have
        assert sum(pool.map(opened, [url] * 3, range(1, 4))) == 3 * 20 + 20
    store = Store(url)
    with store._database.reading() as connection:
        assert connection.execute(sa.text("select version from recsys_schema")).scalars().all() == [2]
        indexes = {index["name"] for index in sa.inspect(connection).get_indexes("recsys_impressions")}
    assert indexes == {"recsys_impressions_of_user", "recsys_impressions_by_time"}
    assert "old" in [e.event_id for e in store.of_user("u").events]
    store.add_shown([shown(1)])
    assert len(rows(store)) == 1
    store.close()


# --- the queue --------------------------------------------------------------------------------------------------------------


class Broken(Store):
    """A store that fails as told, and remembers how much each transaction was given."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.given: list[int] = []

    def add_shown(self, shown: Sequence[Shown]) -> None:
        self.given.append(len(shown))
        if self.error is not None:
            raise self.error

    def drop_shown(self, before: int, most: int) -> int:
        self.before = before
        return 0


def test_what_the_store_does_not_take_is_counted_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    lost: list[int] = []
    broken = Broken()
    log = Impressions(broken, 30, lost.append)
    log.take(shown(1))
    log.write()
    assert not lost and not caplog.records
    for error in (StoreError("the store of events cannot be used"), StoreError("in another way"), ValueError("Ferdinand")):
        broken.error = error
        log.take(shown(1))
        log.take(shown(2))
        log.write()
    assert lost == [2, 2, 2]
    assert [r.getMessage() for r in caplog.records] == [
        "lists that are shown are not logged: the store of events cannot be used"
    ]
    broken.error = None
    for _ in range(2):
        log.take(shown(3))
        log.write()
    assert [r.getMessage() for r in caplog.records][1:] == ["lists that are shown are logged again"]
    broken.error = ValueError("Ferdinand")
    for n in range(AT_ONCE + 1):
        log.take(shown(n))
    log.write()
    assert lost[3:] == [AT_ONCE]  # told before the next is tried
    assert caplog.records[-1].getMessage().endswith("not logged: ValueError") and "Ferdinand" not in caplog.text


def test_a_full_queue_turns_away_and_never_waits(caplog: pytest.LogCaptureFixture) -> None:
    lost: list[int] = []
    broken = Broken()
    log = Impressions(broken, 30, lost.append, most_waiting=3)
    for n in range(8):
        log.take(shown(n))
    assert sum(lost) == 5
    log.write()
    assert broken.given == [3]
    assert ["more than 3 wait" in r.getMessage() for r in caplog.records] == [True]
    log.write()
    assert caplog.records[-1].getMessage().endswith("logged again") and len(caplog.records) == 2


def test_many_are_written_in_several_transactions() -> None:
    broken = Broken()
    log = Impressions(broken, 30, lambda _: None)
    for n in range(2 * AT_ONCE + 7):
        log.take(shown(n))
    log.write()
    assert broken.given == [AT_ONCE, AT_ONCE, 7]


def test_old_lists_are_looked_for_now_and_then(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'events.db'}")
    old = int(time.time()) - 2 * 86_400
    store.add_shown([shown(1, shown_at=old - 60), shown(2, shown_at=old + 600)])
    log = Impressions(store, 2, lambda _: None)
    log.write()
    assert [row["request_id"] for row in rows(store)] == ["r2"]
    store.add_shown([shown(3, shown_at=old - 60)])
    log.write()  # ten minutes have not passed
    assert [row["request_id"] for row in rows(store)] == ["r2", "r3"]
    store.close()


def test_a_stop_writes_what_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.impressions.EVERY_SECONDS", 60)
    store = Store(f"sqlite:///{tmp_path / 'events.db'}")
    with Impressions(store, 30, lambda _: None) as log:
        for n in range(700):
            log.take(shown(n))
    assert len(rows(store)) == 700
    store.close()


def test_a_stop_does_not_wait_for_a_store_that_hangs(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("service.impressions.STOP_SECONDS", 0.1)
    broken, release = Broken(), threading.Event()
    monkeypatch.setattr(broken, "add_shown", lambda _: release.wait(20))
    with Impressions(broken, 30, lambda _: None) as log:
        log.take(shown(1))
        began = time.monotonic()
    assert time.monotonic() - began < 5 and "the store does not answer" in caplog.text
    release.set()


# --- the service ------------------------------------------------------------------------------------------------------------


def asked(app: FastAPI, talk: Callable[[httpx.AsyncClient], Any]) -> None:
    """Talk to the application while it runs, from its start to its stop, without a socket."""

    async def whole() -> None:
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
        ):
            await talk(client)

    asyncio.run(whole())


@contextmanager
def reopened(address: str) -> Iterator[Store]:
    store = Store(address)
    yield store
    store.close()


LIST = {"history": [{"item_id": 100}], "k": 3}


def test_every_list_for_somebody_is_logged_and_no_other(integers: World, url: str) -> None:
    answers: dict[str, Any] = {}

    async def talk(client: httpx.AsyncClient) -> None:
        async def keep(name: str, method: str, path: str, **options: Any) -> None:
            answer = await client.request(method, path, headers={"X-Request-ID": name}, **options)
            answers[name] = answer.json()

        await keep("user", "GET", "/v1/users/7/recommendations?k=4")
        await keep("posted", "POST", "/v1/recommendations", json=LIST)
        await keep("named", "POST", "/v1/recommendations", json={**LIST, "user_id": "7", "history": []})
        await keep("odd", "POST", "/v1/recommendations", json={**LIST, "user_id": "a\0b"})
        batch = [{**LIST, "user_id": 9}, {"history": 5}, {**LIST, "k": 2}, {**LIST, "allow": []}]
        await keep("batch", "POST", "/v1/recommendations/batch", json={"requests": batch})
        await keep("rank", "POST", "/v1/rank", json={"history": LIST["history"], "items": [101, 102]})
        await keep("similar", "GET", "/v1/items/100/similar")
        await keep("unknown", "GET", "/v1/users/nobody/recommendations")

    asked(create_app(Settings(registry=integers.path, store=url)), talk)
    with reopened(url) as store:
        found = {(row["request_id"], row["place"]): row for row in rows(store)}
    assert {key: row["user_id"] for key, row in found.items()} == {
        ("user", 0): "7", ("posted", 0): None, ("named", 0): "7", ("odd", 0): None, ("batch", 0): "9", ("batch", 2): None,
    }  # fmt: skip
    for (name, place), row in found.items():
        answer = answers[name]["results"][place] if name == "batch" else answers[name]
        assert row["items"] == [str(item["item_id"]) for item in answer["items"]]
        assert (row["source"], row["model_version"], row["arm"]) == (answer["source"], integers.version, None)
        assert abs(row["shown_at"] - time.time()) < 60
    assert found["named", 0]["source"] == "popularity"


def test_a_click_is_seen_where_it_was_and_an_erased_user_in_nothing(integers: World, url: str) -> None:
    config = make_config({"log": {"source": "store"}, "store": {"url": url}})

    async def talk(client: httpx.AsyncClient) -> None:
        lists = [(await client.get(f"/v1/users/{user}/recommendations?k=5")).json() for user in (3, 4)]
        event = {"user_id": 3, "item_id": lists[0]["items"][1]["item_id"], "request_id": lists[0]["request_id"]}
        other = {**event, "user_id": 4}  # of nobody's list
        events = [{"event_id": "a", **event}, {"event_id": "again", **event}, {"event_id": "other", **other}]
        assert (await client.post("/v1/interactions", json={"events": events})).status_code == 200

    asked(create_app(Settings(registry=integers.path, store=url)), talk)
    found = clicks(config, Asked())
    assert {place: (entry["shown"], entry["clicked"]) for place, entry in found["positions"].items()} == {
        "1": (2, 0), "2": (2, 1), "3": (2, 0), "4": (2, 0), "5": (2, 0),
    }  # fmt: skip
    lists = found["versions"][integers.version]["lists"]
    assert (lists["shown"], lists["clicked"]) == (2, 1)

    async def erase(client: httpx.AsyncClient) -> None:
        for _ in range(3):
            await client.get("/v1/users/3/recommendations")  # waits in the queue
        assert (await client.delete("/v1/users/3")).status_code == 204

    asked(create_app(Settings(registry=integers.path, store=url)), erase)
    with reopened(url) as store:
        assert users(store) == ["4"]
    assert clicks(config, Asked())["all"]["lists"]["clicked"] == 0


def test_nothing_is_logged_where_it_is_switched_off_or_there_is_no_store(integers: World, tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'events.db'}"

    async def talk(client: httpx.AsyncClient) -> None:
        assert (await client.post("/v1/recommendations", json=LIST)).status_code == 200

    for settings in ({"store": address, "impressions": False}, {}):
        app = create_app(Settings(registry=integers.path, **settings))
        assert app.state.impressions is None
        asked(app, talk)
    with reopened(address) as store:
        assert rows(store) == []


def test_answers_do_not_suffer_where_lists_cannot_be_logged(
    integers: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    address = f"sqlite:///{tmp_path / 'events.db'}"
    app = create_app(Settings(registry=integers.path, store=address))
    with app.state.store._database.writing() as connection:
        impressions.drop(connection)

    async def talk(client: httpx.AsyncClient) -> None:
        for _ in range(2):
            for _ in range(4):
                assert (await client.get("/v1/users/3/recommendations")).status_code == 200
            await asyncio.to_thread(app.state.impressions.write)
        figures = (await client.get("/metrics")).text
        assert re.search(r"^recsys_ae_impressions_dropped_total 8.0$", figures, re.MULTILINE)

    asked(app, talk)
    told = [r for r in caplog.records if r.name == "service" and r.levelno == logging.WARNING]
    assert len(told) == 1 and "no such table: recsys_impressions" in told[0].getMessage()


@pytest.mark.slow
def test_a_stopped_process_has_logged_all_that_it_answered(integers: World, tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'events.db'}"
    with service(integers.path, store=address, drain_seconds="0") as started, started.client() as client:
        for _ in range(20):
            assert client.get("/v1/users/3/recommendations").status_code == 200
        started.process.terminate()
        assert started.process.wait(30) in (0, -15)
    with reopened(address) as store:
        assert users(store) == ["3"] * 20
