"""The store keeps what it has said to keep, once, whoever writes beside it; SQLite here, PostgreSQL where one is named."""

import asyncio
import multiprocessing
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from recsys_ae.errors import ConfigError, StoreError
from service.store import ItemFacts, NewEvent, Store


def event(n: int, user: str = "u", **changes: object) -> NewEvent:
    return NewEvent(f"e{n}", user, 100 + n, 1.0, 1_000 + n)._replace(**changes)  # type: ignore[arg-type]


def test_an_event_is_stored_once_and_the_first_of_an_id_stays(store: Store) -> None:
    added = store.add([event(1), event(2), event(1), event(2, weight=5.0)])
    assert (added.accepted, added.duplicates, added.conflicts) == (2, 2, ("e2",))
    added = store.add([event(1), event(2, user="other"), event(3)])
    assert (added.accepted, added.duplicates, added.conflicts) == (1, 2, ("e2",))
    found = store.of_user("u")
    assert [(e.event_id, e.item_id, e.weight, e.timestamp) for e in found.events] == [
        ("e1", 101, 1.0, 1_001), ("e2", 102, 1.0, 1_002), ("e3", 103, 1.0, 1_003),
    ]  # fmt: skip
    assert not found.erased and not store.of_user("other").events


def test_everything_of_an_event_comes_back(store: Store) -> None:
    posted = NewEvent("a'b", "ü\U0001f600", "x; drop table recsys_events", -2.5, None, "view", "request")
    store.add([posted, NewEvent("plain", "ü\U0001f600", "007")])
    first, second = store.of_user("ü\U0001f600").events
    assert (first.event_id, first.item_id, first.weight, first.timestamp) == ("a'b", posted.item_id, -2.5, None)
    assert (first.event_type, first.request_id) == ("view", "request") and first.time == first.received_at > 1.7e9
    assert second.item_id == "007" and second.weight is None


def test_many_events_at_once(store: Store) -> None:
    batch = [event(n, user=f"u{n % 700}") for n in range(1_500)]
    assert store.add(batch).accepted == 1_500
    assert store.add(batch).duplicates == 1_500
    assert store.counter("u0") == store.counter("u699") == 1  # nothing changed the second time


def test_pages_hold_every_event_once(store: Store) -> None:
    store.add([event(n, user="u" if n % 3 else "other") for n in range(30)])
    found, after = [], 0
    while after is not None:
        page, after = store.page("u", after, 6)
        found += [e.event_id for e in page]
    assert found == [f"e{n}" for n in range(30) if n % 3]
    assert store.page("nobody", 0, 5) == ([], None)


def test_an_erased_user_is_gone_and_what_comes_later_is_new(store: Store) -> None:
    store.add([event(1), event(2), event(3, user="other")])
    before = max(e.sequence for e in store.of_user("u").events)
    counts = [store.counter("u")]
    store.erase("u")
    store.erase("u")
    counts.append(store.counter("u"))
    assert store.of_user("u") == ((), True) or (store.of_user("u").events, store.of_user("u").erased) == ((), True)
    assert len(store.of_user("other").events) == 1 and not store.erased("other")
    store.add([event(9)])
    counts.append(store.counter("u"))
    found = store.of_user("u")
    assert [e.event_id for e in found.events] == ["e9"] and found.erased and found.events[0].sequence > before
    assert counts == sorted(set(counts))


def test_erased_bytes_leave_the_file(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'events.db'}")
    store.add([event(n, user="Ferdinand") for n in range(200)])
    store.erase("Ferdinand")
    store.close()
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert content.count(b"Ferdinand") <= 4  # tombstone and counter, with their keys
    assert b"e150" not in content


def test_items(store: Store) -> None:
    assert store.items() == {} and store.items_counter() == 0
    store.put_item("1", ItemFacts("One", ("a", "b")))
    store.put_item("2", ItemFacts(categories=()))
    store.switch_off("1")
    store.switch_off("3")
    assert store.items() == {
        "1": ItemFacts("One", ("a", "b"), False),
        "2": ItemFacts(None, (), True),
        "3": ItemFacts(None, None, False),
    }
    store.put_item("1", ItemFacts())
    assert store.items()["1"] == ItemFacts() and store.items_counter() == 5


def opened(url: str, n: int) -> int:
    store = Store(url)
    try:
        return sum(store.add([event(1_000 * n + i), event(i, user=str(n))]).accepted for i in range(20))
    finally:
        store.close()


def test_several_processes_open_and_write_at_once(url: str) -> None:
    """Of the twenty ids that all of them post, each is taken once."""
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        accepted = pool.starmap(opened, [(url, n) for n in range(1, 5)])
    assert sum(accepted) == 4 * 20 + 20
    store = Store(url)
    assert len(store.of_user("u").events) == 80 and store.counter("u") == 80
    store.close()


def test_who_has_read_up_to_a_sequence_misses_nothing_before_it(store: Store) -> None:
    """Readers beside eight writers never see an event appear below one that they have seen."""
    with ThreadPoolExecutor(8) as pool:
        writing = [pool.submit(store.add, [event(n)]) for n in range(200)]
        seen: list[int] = []
        while not all(each.done() for each in writing) or len(seen) < 200:
            now = [e.sequence for e in store.of_user("u").events]
            assert now[: len(seen)] == seen
            seen = now


def test_a_killed_writer_leaves_what_it_was_told_is_stored(tmp_path: Path) -> None:
    """Batches of three: all of one or nothing, and every one that `add` came back from."""
    url = f"sqlite:///{tmp_path / 'events.db'}"
    code = f"""
from service.store import NewEvent, Store
store, n = Store({url!r}), 0
while True:
    store.add([NewEvent(f"{{n}}-{{i}}", "u", i) for i in range(3)])
    print(n, flush=True)
    n += 1
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    told = [int(process.stdout.readline()) for _ in range(25)]
    process.kill()
    told += [int(line) for line in process.communicate()[0].splitlines()]
    store = Store(url)
    ids = {e.event_id for e in store.of_user("u").events}
    store.close()
    assert {f"{n}-{i}" for n in told for i in range(3)} <= ids
    assert len(ids) % 3 == 0


def test_tables_of_a_later_release_are_refused(url: str) -> None:
    Store(url).close()
    engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(sa.text("update recsys_schema set version = 99"))
    engine.dispose()
    with pytest.raises(StoreError, match="version 99; this release knows 2"):
        Store(url)


@pytest.mark.parametrize("url", ["events.db", "sqlite://", "mysql://me:secret@here/x"])
def test_another_kind_of_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="sqlite:///FILE") as raised:
        Store(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("url", ["sqlite:////no/such/folder/events.db", "postgresql://me:secret@127.0.0.1:9/x"])
def test_a_database_that_cannot_be_reached_is_one_message(url: str) -> None:
    with pytest.raises(StoreError, match="cannot be used") as raised:
        Store(url)
    assert "secret" not in str(raised.value) and "\n" not in str(raised.value)


# --- stamps -----------------------------------------------------------------------------------------------------------------


async def stamps(store: Store, users: Iterable[str]) -> list[tuple[int, int]]:
    return await asyncio.gather(*(store.stamp(user) for user in users))


def test_each_who_asks_in_the_same_turn_has_the_own_stamp(store: Store) -> None:
    """More than one query takes, some of them twice, one whom no database keeps; anew after every write."""
    users = [f"u{n % 700}" for n in range(1_400)] + ["nobody", "nul\0", "half \ud800"]
    store.add([event(n, user) for n, user in enumerate(users[:350])])
    assert asyncio.run(stamps(store, users)) == [(int(n % 700 < 350 and n < 1_400), 0) for n in range(1_403)]
    store.switch_off("7")
    store.add([event(1_000, "u0")])
    assert asyncio.run(stamps(store, ["u0", "u1", "nul\0"])) == [(2, 1), (1, 1), (0, 1)]


def test_who_goes_away_takes_nobody_along(store: Store) -> None:
    store.add([event(1, "a"), event(2, "b")])

    async def two_of_three() -> list[Any]:
        tasks = [asyncio.ensure_future(store.stamp(user)) for user in ("a", "gone", "b")]
        await asyncio.sleep(0)
        tasks[1].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, gone, last = asyncio.run(two_of_three())
    assert (first, last) == ((1, 0), (1, 0)) and isinstance(gone, asyncio.CancelledError)


def test_all_who_ask_hear_of_a_database_that_fails(store: Store) -> None:
    with store._database.writing() as connection:
        connection.exec_driver_sql("drop table recsys_counters")

    async def several() -> list[Any]:
        return await asyncio.gather(*(store.stamp(user) for user in "ab"), return_exceptions=True)

    assert [type(each) for each in asyncio.run(several())] == [StoreError, StoreError]


def test_nobody_waits_for_a_store_that_is_closed(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path}/events.db")
    store.close()
    with pytest.raises((StoreError, RuntimeError)):
        asyncio.run(asyncio.wait_for(store.stamp("a"), 20))
