"""A database's rows as Parquet: SQLite here, PostgreSQL where RECSYS_AE_TEST_POSTGRES names one."""

import datetime
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_ae import Columns, read_log, sql
from recsys_ae.errors import LogError

POSTGRES = os.environ.get("RECSYS_AE_TEST_POSTGRES", "")
needs_postgres = pytest.mark.skipif(
    not POSTGRES, reason="RECSYS_AE_TEST_POSTGRES is not set; expected the url of a PostgreSQL that tests may write to"
)


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as con:
        con.execute('create table "my events" (who integer, what text, at integer, stars real)')
        con.executemany(
            'insert into "my events" values (?, ?, ?, ?)', [(u, f"item {u % 3}", 1_000 + u, u / 2 + 1) for u in range(120)]
        )
    con.close()
    return f"sqlite:///{path}"


def test_a_query_and_a_table_of_sqlite(sqlite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "ROWS_AT_ONCE", 50)
    whole, some = tmp_path / "out" / "whole.parquet", tmp_path / "some.parquet"
    assert sql.extract(sqlite, whole, table="my events") == 120
    assert sql.extract(sqlite, some, query='select who, what from "my events" where who >= 100') == 20
    table = pq.read_table(whole)
    assert table.schema.types == [pa.int64(), pa.string(), pa.int64(), pa.float64()]
    assert table["who"].to_pylist() == list(range(120))
    assert pq.read_table(some)["what"].to_pylist() == [f"item {u % 3}" for u in range(100, 120)]
    log = read_log(str(whole), Columns("who", "what", "at", "stars"))
    assert log.kept == 120
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "shop.db", "some.parquet"]


def test_a_query_without_rows_is_a_file_without_rows(sqlite: str, tmp_path: Path) -> None:
    assert sql.extract(sqlite, tmp_path / "none.parquet", query='select who from "my events" where who < 0') == 0
    assert pq.read_table(tmp_path / "none.parquet").column_names == ["who"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("select who from nowhere", "no such table: nowhere"),
        ("select case when who < 60 then who else 'many' end as mixed from \"my events\"", "'mixed'"),
    ],
)
def test_a_wrong_query_is_one_message_and_no_file(
    sqlite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, query: str, expected: str
) -> None:
    monkeypatch.setattr(sql, "ROWS_AT_ONCE", 60)
    with pytest.raises(LogError, match=expected):
        sql.extract(sqlite, tmp_path / "out.parquet", query=query)
    assert [path.name for path in tmp_path.iterdir()] == ["shop.db"]


def test_a_column_without_values_at_first_waits_for_its_type(
    sqlite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "ROWS_AT_ONCE", 10)
    query = 'select who, case when who >= 35 then at end as late, case when who < 0 then at end as never from "my events"'
    sql.extract(sqlite, tmp_path / "out.parquet", query=query)
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.schema.types == [pa.int64(), pa.int64(), pa.string()]
    assert table["late"].to_pylist() == [None] * 35 + [1_000 + u for u in range(35, 120)]
    monkeypatch.setattr(sql, "MOST_WAITING", 3)
    with pytest.raises(LogError, match="column 'late': int64 from row 31 on, string before"):
        sql.extract(sqlite, tmp_path / "out.parquet", query=query)


def test_a_query_or_a_table(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="either a query or a table"):
        sql.extract("sqlite://", tmp_path / "x.parquet")


def test_an_unknown_driver_and_an_unreachable_database_are_told_without_the_password(tmp_path: Path) -> None:
    for url in ("nodb://me:secret@here/x", "postgresql+psycopg://me:secret@127.0.0.1:9/x"):
        with pytest.raises(LogError) as raised:
            sql.extract(url, tmp_path / "x.parquet", query="select 1")
        assert "secret" not in str(raised.value) and "me:***@" in str(raised.value)
    for url in ("postgresql://me:hunter2@secretpart@127.0.0.1:9/x", "postgresql://me:hunter2/secretpart@127.0.0.1:9/x"):
        with pytest.raises(LogError, match=r"me:\*\*\*@127") as raised:
            sql.extract(url, tmp_path / "x.parquet", query="select 1")
        assert "hunter2" not in str(raised.value) and "secretpart" not in str(raised.value)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def events() -> Iterator[str]:
    """A schema of its own in the test database; the name of a table in it."""
    import psycopg

    name = f"recsys_ae_test_{os.getpid()}"
    with psycopg.connect(POSTGRES, autocommit=True) as con:
        con.execute(f"drop schema if exists {name} cascade")
        con.execute(f"create schema {name}")
        con.execute(
            f"""create table {name}.events as select
                i % 1000 as who, ('00000000-0000-0000-0000-' || lpad((i % 50)::text, 12, '0'))::uuid as what,
                timestamptz '2026-01-01 00:00:00+00' + i * interval '1 second' as at, (i % 5 + 1)::numeric(3, 1) as stars,
                case when i % 7 = 0 then null else 'view' end as kind, i::smallint as small
                from generate_series(0, 29999) as i"""
        )
        yield f"{name}.events"
        con.execute(f"drop schema {name} cascade")


@needs_postgres
def test_postgresql_by_copy(events: str, tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    assert sql.extract(POSTGRES, path, table=events) == 30_000
    table = pq.read_table(path)
    assert table.column_names == ["who", "what", "at", "stars", "kind", "small"]
    first = table.slice(1, 1).to_pylist()[0]
    assert first == {
        "who": 1,
        "what": "00000000-0000-0000-0000-000000000001",
        "at": datetime.datetime(2026, 1, 1, 0, 0, 1, tzinfo=datetime.UTC),
        "stars": 2.0,
        "kind": "view",
        "small": 1,
    }
    assert table["kind"].null_count == 30_000 // 7 + 1
    log = read_log(str(path), Columns("who", "what", "at", "stars"))
    assert log.read == 30_000 and log.last_time() == 1_767_225_600 + 29_999
    assert sql.extract(POSTGRES, path, query=f"select who from {events} where false") == 0
    assert pq.read_table(path).column_names == ["who"]


@needs_postgres
def test_postgresql_refuses_and_only_reads(events: str, tmp_path: Path) -> None:
    for query, said in (
        ("select nothing from nowhere", 'relation "nowhere" does not exist'),
        (f"delete from {events}", "read-only transaction"),
        (f"select 1 / (who - 999) as x from {events}", "division by zero"),  # in the middle
    ):
        with pytest.raises(LogError, match=said):
            sql.extract(POSTGRES, tmp_path / "x.parquet", query=query)
    assert not list(tmp_path.iterdir())
    assert sql.extract(POSTGRES, tmp_path / "x.parquet", table=events) == 30_000


@needs_postgres
def test_a_database_that_goes_away_in_the_middle_is_one_message_and_no_file(
    events: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    real = sql._plain

    def ended(batch: pa.RecordBatch) -> pa.RecordBatch:
        with psycopg.connect(POSTGRES, autocommit=True) as con:
            con.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where query like '%%generate_series(1, 40000000)%%' "
                "and pid <> pg_backend_pid()"
            )
        return real(batch)

    monkeypatch.setattr(sql, "_plain", ended)
    with pytest.raises(LogError, match=r"\*\*\*|terminat|connection|server"):
        sql.extract(POSTGRES, tmp_path / "x.parquet", query="select i from generate_series(1, 40000000) as i")
    assert not list(tmp_path.iterdir())
