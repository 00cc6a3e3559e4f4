"""Lists into a table: a reader sees all of one version; PostgreSQL where RECSYS_AE_TEST_POSTGRES names one."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import score_table
from pipelines.config import make_config
from pipelines.score_table import holds, load
from recsys_ae import datasets
from recsys_ae.errors import ConfigError, TableError
from tests.pipelines.conftest import Run

POSTGRES = os.environ.get("RECSYS_AE_TEST_POSTGRES", "")
needs_postgres = pytest.mark.skipif(
    not POSTGRES, reason="RECSYS_AE_TEST_POSTGRES is not set; expected the url of a PostgreSQL that tests may write to"
)
IN_POSTGRES = pytest.param("postgres", marks=needs_postgres)
both = pytest.mark.parametrize("shop", ["sqlite", IN_POSTGRES], indirect=True)
postgres = pytest.mark.parametrize("shop", [IN_POSTGRES], indirect=True)
K = 5


@dataclass
class Shop:
    """A database, and the table of lists in it: as the configuration and as SQL call it."""

    url: str
    table: str
    quoted: str
    connect: Callable[[], Any]

    def __post_init__(self) -> None:
        self.con = self.connect()

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = self.con.execute(query.format(table=self.quoted)).fetchall()
        return found

    def do(self, statement: str) -> None:
        self.con.execute(statement.format(table=self.quoted))

    def seen(self) -> tuple[Any, ...]:
        """Rows, and the versions between which they are."""
        return self.ask("select count(*), min(model_version), max(model_version) from {table}")[0]

    def load(self, parts: list[Path], version: str) -> score_table.Loaded:
        return load(self.url, self.table, parts, version, f"{version}-key")


@pytest.fixture
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """In PostgreSQL a schema of its own whose name must be quoted, as the table's."""
    if request.param.startswith("sqlite"):
        path = tmp_path / "shop.db"
        made = Shop(f"sqlite:///{path}", "lists", "lists", lambda: sqlite3.connect(path, 30, isolation_level=None))
        made.do(f"pragma journal_mode = {'wal' if request.param == 'sqlite-wal' else 'delete'}")
        yield made
    else:
        schema = f'recsys_ae "Test" {os.getpid()}'
        quoted = '"' + schema.replace('"', '""') + '"'
        made = Shop(
            POSTGRES,
            f"{schema}.The 100% lists",
            f'{quoted}."The 100% lists"',
            lambda: psycopg.connect(POSTGRES, autocommit=True),
        )
        made.do(f"drop schema if exists {quoted} cascade")
        made.do(f"create schema {quoted}")
        yield made
        made.do(f"drop schema {quoted} cascade")
    made.con.close()


def parts(folder: Path, users: int, seed: int, text: bool = False, n: int = 3) -> list[Path]:
    """Lists of random items in so many parts."""
    rng = np.random.default_rng(seed)
    paths = []
    folder.mkdir(parents=True, exist_ok=True)
    for place, block in enumerate(np.array_split(np.arange(users), n)):
        items = rng.integers(0, 10**12, len(block) * K)
        table = pa.table(
            {
                "user_id": pa.array([f"ü'{u}" for u in np.repeat(block, K)]) if text else pa.array(np.repeat(block, K)),
                "rank": pa.array(np.tile(np.arange(1, K + 1, dtype=np.int32), len(block))),
                "item_id": pa.array([f"{i}\\\t\n" for i in items]) if text else pa.array(items),
                "score": pa.array(rng.random(len(items), np.float32)),
            }
        )
        paths.append(folder / f"part-{seed}-{place:05}.parquet")
        pq.write_table(table, paths[-1])
    return paths


@both
@pytest.mark.parametrize("text", [False, True])
def test_the_rows_are_those_of_the_parts_and_go_with_the_next_version(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bool
) -> None:
    monkeypatch.setattr(score_table, "ROWS_AT_ONCE", 100)
    for version, users in (("v1", 90), ("v2", 60)):
        written = parts(tmp_path, users, users, text)
        assert shop.load(written, version).as_json() == {"name": shop.table, "rows": users * K, "reused": False}
        expected = [tuple(row.values()) for path in written for row in pq.read_table(path).to_pylist()]
        found = shop.ask("select user_id, rank, item_id, score from {table} order by user_id, rank")
        assert [(*row[:3], np.float32(row[3])) for row in found] == sorted(expected)
        assert shop.seen() == (users * K, version, version)
    with pytest.raises((sqlite3.IntegrityError, psycopg.IntegrityError)):
        shop.do("insert into {table} select * from {table}")  # a key on user_id, rank


@both
def test_what_is_there_is_not_loaded_again_unless_it_was_changed(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = parts(tmp_path, 40, 1), parts(tmp_path, 40, 2)
    shop.load(one, "v1")
    with monkeypatch.context() as patch:
        patch.setattr(score_table, "_replace", lambda *_: pytest.fail("loaded again"))
        assert shop.load(one, "v1").reused
    assert holds(shop.url, shop.table, "v1-key", 40 * K)
    assert not holds(shop.url, shop.table, "v2-key", 40 * K) and not holds(shop.url, shop.table, "v1-key", 40 * K + 1)
    shop.do("delete from {table} where user_id = 7 and rank = 2")
    assert not shop.load(one, "v1").reused
    assert not load(shop.url, shop.table, two, "v1", "v1-another-k").reused
    assert shop.seen() == (40 * K, "v1", "v1")
    assert {i for (i,) in shop.ask("select item_id from {table}")} == {
        i for p in two for i in pq.read_table(p)["item_id"].to_pylist()
    }
    shop.do("drop table {table}")
    assert not load(shop.url, shop.table, two, "v1", "v1-another-k").reused


@pytest.mark.parametrize("shop", ["sqlite", "sqlite-wal", IN_POSTGRES], indirect=True)
def test_readers_at_every_moment_see_all_of_one_version(shop: Shop, tmp_path: Path) -> None:
    sizes = {f"v{i}": 2_000 + 500 * i for i in range(4)}
    written = {version: parts(tmp_path, users, users) for version, users in sizes.items()}
    shop.load(written["v0"], "v0")
    stop, seen, failed = threading.Event(), set(), []

    def read() -> None:
        reader = Shop(shop.url, shop.table, shop.quoted, shop.connect)
        try:
            while not stop.is_set():
                seen.add(reader.seen())
        except Exception as error:
            failed.append(error)
        finally:
            reader.con.close()

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for version in ("v1", "v2", "v3"):
            shop.load(written[version], version)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failed
    assert len(seen) > 1
    assert seen <= {(users * K, version, version) for version, users in sizes.items()}


@both
def test_a_run_that_fails_at_any_step_leaves_the_lists_before_and_the_next_one_finishes(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = parts(tmp_path, 50, 1), parts(tmp_path, 60, 2)
    kind = score_table._Postgres if shop.url == POSTGRES else score_table._Alchemy
    shop.load(before, "v1")
    real, calls = kind.run, 0

    def dies(self: Any, statement: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == last:
            raise KeyboardInterrupt
        real(self, statement)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "run", dies)
        for last in range(1, 20):  # noqa: B007
            calls = 0
            try:
                shop.load(after, "v2")
            except KeyboardInterrupt:
                assert shop.seen() == (50 * K, "v1", "v1")
                assert not holds(shop.url, shop.table, "v2-key", 60 * K)
            else:
                break
    assert last > 3
    assert shop.seen() == (60 * K, "v2", "v2")


KILLED = """
import os, signal, sys
from pathlib import Path
from pipelines import score_table
real = score_table._batches
def killed(parts, version):  # the table is empty already in the transaction
    yield from real(parts[:2], version)
    os.kill(os.getpid(), signal.SIGKILL)
score_table._batches = killed
score_table.load(sys.argv[1], sys.argv[2], [Path(p) for p in sys.argv[3:]], "v2", "v2-key")
"""


@both
def test_killed_within_the_swap_the_lists_before_are_there(shop: Shop, tmp_path: Path) -> None:
    before, after = parts(tmp_path, 50, 1), parts(tmp_path, 60, 2)
    shop.load(before, "v1")
    command = [sys.executable, "-c", KILLED, shop.url, shop.table, *map(str, after)]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    assert subprocess.run(command, env=env, check=False).returncode == -signal.SIGKILL
    assert shop.seen() == (50 * K, "v1", "v1")
    assert not shop.load(after, "v2").reused
    assert shop.seen() == (60 * K, "v2", "v2")


@postgres
def test_long_readers_neither_wait_nor_are_waited_for_and_keep_what_they_began_with(shop: Shop, tmp_path: Path) -> None:
    shop.load(parts(tmp_path, 50, 1), "v1")
    reader, fresh = shop.connect(), shop.connect()
    query = f"select count(*), min(model_version) from {shop.quoted}"
    with reader, fresh:
        for con, first in ((reader, query), (fresh, "select 1")):  # the second has not looked at the table yet
            con.execute("begin isolation level repeatable read")
            con.execute(first)
        shop.load(parts(tmp_path, 60, 2), "v2")
        assert shop.seen() == (60 * K, "v2", "v2")
        assert reader.execute(query).fetchone() == fresh.execute(query).fetchone() == (50 * K, "v1")


@postgres
def test_views_owner_grants_comment_and_triggers_stay(shop: Shop, tmp_path: Path) -> None:
    shop.load(parts(tmp_path, 50, 1), "v1")
    view = shop.quoted.replace("The 100% lists", "best")
    shop.do(f"create view {view} as select * from {shop.quoted} where rank = 1")
    shop.do("grant select on {table} to public")
    shop.do("comment on table {table} is 'what we show'")
    about = "select oid, relowner, relacl::text, obj_description(oid) from pg_class where oid = '{table}'::regclass"
    before = shop.ask(about)
    shop.load(parts(tmp_path, 60, 2), "v2")
    assert shop.ask(about) == before and before[0][3] == "what we show"
    assert shop.ask(f"select count(*), min(model_version) from {view}") == [(60, "v2")]


@postgres
def test_a_lock_is_waited_for_so_long_and_then_told(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.load(parts(tmp_path, 50, 1), "v1")
    after = parts(tmp_path, 60, 2)
    monkeypatch.setattr(score_table, "LOCK_SECONDS", 0.05)
    monkeypatch.setattr(score_table, "PAUSE_SECONDS", 0.0)
    real, tries = score_table._Postgres.alone, []
    with shop.connect() as other:
        other.execute("begin")
        other.execute(f"update {shop.quoted} set score = 0 where user_id = 3")
        with pytest.raises(TableError, match=r"another session locks it, 10 attempts"):
            shop.load(after, "v2")
        assert shop.seen() == (50 * K, "v1", "v1")

        def alone(self: Any, table: Any) -> None:
            tries.append(1)
            if len(tries) == 3:
                other.execute("rollback")
            real(self, table)

        monkeypatch.setattr(score_table._Postgres, "alone", alone)
        shop.load(after, "v2")
    assert len(tries) == 3 and shop.seen() == (60 * K, "v2", "v2")


@postgres
def test_two_loads_at_once_are_one_after_the_other(shop: Shop, tmp_path: Path) -> None:
    written = {f"v{i}": parts(tmp_path, 400 + i, i) for i in range(4)}
    failed: list[Exception] = []

    def run(version: str) -> None:
        try:
            shop.load(written[version], version)
        except Exception as error:
            failed.append(error)

    shop.load(written["v0"], "v0")
    threads = [threading.Thread(target=run, args=(version,)) for version in written]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    rows, version, other = shop.seen()
    assert version == other and rows == (400 + int(version[1])) * K
    assert holds(shop.url, shop.table, f"{version}-key", rows)


@postgres
@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("create table {table} (user_id bigint, rank integer, item_id bigint, score real)", "model_version"),
        ("create table {table} (user_id uuid, rank integer, item_id bigint, score real, model_version text)", "column user_id"),
        ("create table {table} (user_id bigint, rank integer, item_id float8, score real, model_version text)", "is double"),
        ("create view {table} as select 1 as user_id", "view"),
    ],
)
def test_a_table_of_another_kind_is_refused(shop: Shop, tmp_path: Path, made: str, said: str) -> None:
    shop.do(made)
    with pytest.raises(TableError, match=said):
        shop.load(parts(tmp_path, 50, 1), "v1")


@postgres
def test_a_table_of_your_own_takes_what_fits(shop: Shop, tmp_path: Path) -> None:
    shop.do(
        "create table {table} (model_version varchar(40), score float8, item_id text, rank smallint, user_id bigint, "
        "at timestamptz default now())"
    )
    written = parts(tmp_path, 50, 1)
    shop.load(written, "v1")
    expected = [tuple(row.values()) for path in written for row in pq.read_table(path).to_pylist()]
    found = shop.ask("select user_id, rank, item_id, score from {table} order by user_id, rank")
    assert found == [(u, r, str(i), s) for u, r, i, s in sorted(expected)]
    assert shop.ask("select count(at) from {table}") == [(50 * K,)]


@postgres
def test_what_the_database_refuses_within_the_swap_leaves_the_lists_before(shop: Shop, tmp_path: Path) -> None:
    shop.load(parts(tmp_path, 50, 1), "v1")
    shop.do("alter table {table} add check (user_id < 55)")
    with pytest.raises(TableError, match="violates check constraint"):
        shop.load(parts(tmp_path, 60, 2), "v2")
    assert shop.seen() == (50 * K, "v1", "v1")


@postgres
def test_a_schema_that_is_not_there_and_a_database_that_goes_away(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = parts(tmp_path, 50, 1)
    with pytest.raises(TableError, match='schema "nowhere" does not exist'):
        load(shop.url, "nowhere.lists", written, "v1", "v1")
    shop.load(written, "v1")
    real = score_table._batches

    def ended(paths: list[Path], version: str) -> Iterator[pa.RecordBatch]:
        yield from real(paths, version)
        shop.do(
            "select pg_terminate_backend(pid) from pg_stat_activity where query ilike 'copy%%The 100%% lists%%' "
            "and pid <> pg_backend_pid()"
        )
        yield from real(paths, version)

    monkeypatch.setattr(score_table, "_batches", ended)
    with pytest.raises(TableError, match=r"terminat|connection|server"):
        shop.load(parts(tmp_path, 60, 2), "v2")
    assert shop.seen() == (50 * K, "v1", "v1")


def test_the_password_is_never_told(tmp_path: Path) -> None:
    written = parts(tmp_path, 5, 1)
    for url in ("postgresql://me:sec%2Fret@127.0.0.1:9/x", "postgresql://127.0.0.1:9/x?user=me&password=sec%2Fret"):
        with pytest.raises(TableError) as raised:
            load(url, "lists", written, "v1", "v1")
        assert "***" in str(raised.value) and "127.0.0.1" in str(raised.value)
        assert "sec%2Fret" not in str(raised.value) and "sec/ret" not in str(raised.value)
    with pytest.raises(TableError, match=r"me:\*\*\*@127") as raised:
        load("postgresql://me:hunter2@secretpart@127.0.0.1:9/x", "lists", written, "v1", "v1")
    assert "hunter2" not in str(raised.value) and "secretpart" not in str(raised.value)
    with pytest.raises(ConfigError, match=r"nodb://me:\*\*\*@here"):
        load("nodb://me:secret@here/x", "lists", written, "v1", "v1")
    shown = make_config({"log": {"dataset": "synthetic"}, "score": {"url": "postgresql://me:secret@here/x", "table": "a.b"}})
    assert "secret" not in repr(shown) and "secret" not in shown.model_dump_json()


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"url": "sqlite:///x.db"}, "url and table"),
        ({"table": "lists"}, "url and table"),
        ({"url": "sqlite:///x.db", "table": "a.b.c"}, "table"),
        ({"url": "sqlite:///x.db", "table": ""}, "table"),
        ({"url": "sqlite:///x.db", "table": "shop." + "ü" * 26}, "at most 50 bytes"),
    ],
)
def test_a_table_needs_its_url_and_a_name_that_a_database_takes(section: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_config({"log": {"dataset": "synthetic"}, "score": section})


def test_score_and_nightly_deliver_into_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Run) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECSYS_AE__SCORE__URL", "sqlite:///shop.db")
    pq.write_table(datasets.synthetic(n_users=200, n_items=70, seed=3).events, "events.parquet")
    Path("run.toml").write_text(
        '[log]\npath = "events.parquet"\n[split]\nby = "hash"\nsalt = "s"\ntest_users = 0.25\n'
        '[evaluation]\nks = [10]\nmap = "none"\n[publish]\nmetric = "ndcg@10"\n'
        '[[models]]\nname = "ease"\n[score]\nk = 5\ntable = "lists"\nusers_per_file = 100\n'
    )

    def night() -> dict[str, Any]:
        code, said, err = command("nightly", "run.toml", "--json")
        assert code == 0, err
        return dict(json.loads(said))

    first = night()
    with sqlite3.connect("shop.db") as con:
        rows = con.execute("select user_id, rank, item_id, score from lists order by user_id, rank").fetchall()
        assert rows == sorted(tuple(row.values()) for row in pq.read_table(first["scores"]).to_pylist())
        assert con.execute("select distinct model_version from lists").fetchall() == [(first["version"],)]
        night()
        assert "score" in night()["reused"]
        con.execute("delete from lists where rank = 1")
        con.commit()
        assert "score" not in night()["reused"]  # what is there is looked at, not what was noted
        code, said, err = command("score", "run.toml", "--json")
        assert code == 0, err
        assert json.loads(said)["table"] == {"name": "lists", "rows": len(rows), "reused": True}
    con.close()
    monkeypatch.setenv("RECSYS_AE__SCORE__URL", "sqlite:///no/such/folder/shop.db")
    code, _, err = command("nightly", "run.toml")
    assert code == 1 and "unable to open database file" in err and "Traceback" not in err


@postgres
def test_a_table_without_a_schema_is_where_the_search_path_leads(shop: Shop, tmp_path: Path) -> None:
    schema = f"recsys_ae_test_{os.getpid()}"
    url = f"{shop.url}{'&' if '?' in shop.url else '?'}options=-csearch_path%3D{schema}"
    shop.do(f"create schema {schema}")
    try:
        for version in ("v1", "v2"):
            assert load(url, "lists", parts(tmp_path, 20, 1), version, version).rows == 20 * K
        assert shop.ask(f"select distinct model_version from {schema}.lists") == [("v2",)]
        assert shop.ask(f"select model_version, rows from {schema}.lists_recsys_meta") == [("v2", 20 * K)]
    finally:
        shop.do(f"drop schema {schema} cascade")
