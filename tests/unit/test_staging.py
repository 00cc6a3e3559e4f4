"""The quick reading and the exact one are the same reading."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_ae import Columns, Preprocessing, read_log
from recsys_ae import staging as staging_module
from recsys_ae.errors import LogError
from recsys_ae.sources import FileSource, TableSource, connection
from recsys_ae.staging import stage

HEADER = "user_id,item_id,timestamp,weight\n"


def read(path: Path, monkeypatch: pytest.MonkeyPatch | None = None) -> tuple[str, Any]:
    """The table `events` with its expressions worked out, or the error."""
    with connection() as con:
        if monkeypatch:
            monkeypatch.setattr(staging_module, "_quickly", lambda *_: None)
        try:
            staged = stage(con, FileSource((path,)), Columns(), "auto", Preprocessing())
        except LogError as error:
            return "error", str(error)
        finally:
            if monkeypatch:
                monkeypatch.undo()
        picks = ", ".join(f"{expression} as {name}" for name, expression in staged.expressions.items())
        return "read", (staged.read, con.sql(f"select {picks} from events order by rowid").to_arrow_table().to_pydict())


INTEGERS = st.sampled_from(["1", "2", "10", "-3", str(2**63 - 1)])
ODD = st.sampled_from(["007", " 7", "7 ", "+7", "7.0", "1e3", "-0", "", " ", "x", "x y", str(2**63), "1_000", "٣", "nan"])
SECONDS = st.sampled_from(["1600000000", "1700000000", "-5", "0"])
MILLISECONDS = st.sampled_from(["1600000000000", "1700000000999"])
ISO = st.sampled_from(["2024-05-01T12:00:00Z", "2024-05-01 12:00:00.5", "2024-05-01T06:30:00-05:30", "1969-12-31"])
ODD_TIME = st.sampled_from(["1600000000.9", "1e9", "2024", "infinity", "99999999999", "2500-01-01", "", "yesterday", "4e18"])
WEIGHTS = st.sampled_from(["1", "0.5", "-2", "1e3", " 3"])
ODD_WEIGHT = st.sampled_from(["nan", "inf", "x", "", "1e999", "1,5"])


def column(usual: Any, odd: Any) -> Any:
    """Mostly the usual values: an odd one now and then, or none at all."""
    return st.one_of(usual, usual, usual, usual, odd)


texts = st.sampled_from([SECONDS, MILLISECONDS, ISO]).flatmap(
    lambda times: st.sampled_from([True, False]).flatmap(
        lambda clean: st.lists(
            st.tuples(
                INTEGERS if clean else column(INTEGERS, ODD),
                column(st.sampled_from(["a", "b", "ü ü"]), INTEGERS) if not clean else INTEGERS,
                times if clean else column(times, ODD_TIME),
                WEIGHTS if clean else column(WEIGHTS, ODD_WEIGHT),
            ),
            min_size=1,
            max_size=12,
        )
    )
)


@pytest.mark.slow
@settings(max_examples=120, derandomize=True, deadline=None)
@given(texts)
def test_both_readings_of_a_text_give_the_same_rows_or_the_same_error(rows: list[tuple[str, ...]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.csv"
        path.write_text(HEADER + "".join(",".join(f'"{v}"' for v in row) + "\n" for row in rows))
        assert read(path) == read(path, pytest.MonkeyPatch())


@pytest.mark.parametrize(
    "later",
    [
        ("x", "1", "1600000000", "1"),
        ("1.0", "1", "1600000000", "1"),
        ("1", "007", "1600000000", "1"),
        ("1", "1", "1600000000.5", "1"),
        ("1", "1", "1600000000000", "1"),
        ("1", "1", "soon", "1"),
        ("1", "1", "1600000000", "heavy"),
    ],
)
def test_what_comes_after_the_rows_guessed_from_is_read_as_exactly(later: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(HEADER + "1,2,1600000000,3\n" * 1_500 + ",".join(later) + "\n")
    assert read(path) == read(path, pytest.MonkeyPatch())


def test_a_plain_log_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.csv"
    path.write_text(HEADER + "1,a,2024-05-01T12:00:00Z,3\n2,b,2024-05-01,4.5\n")
    monkeypatch.setattr(staging_module, "_exactly", lambda *_: pytest.fail("the exact reading was taken"))
    assert read_log(str(path)).kept == 2


@pytest.mark.parametrize("kind", [pa.int8(), pa.int32(), pa.uint16(), pa.int64(), pa.uint64()], ids=str)
def test_typed_columns_of_every_width(kind: pa.DataType) -> None:
    with connection() as con:
        con.register("source_table", pa.table({"user_id": pa.array([1, 2], kind), "item_id": [5, 6]}))
        staged = stage(con, TableSource("table"), Columns(), "auto", Preprocessing())
        found = [v for (v,) in con.execute(f"select {staged.expressions['user_id']} from events").fetchall()]
    assert found == [1, 2]


NOON_IN_BERLIN = 1_714_557_600  # 2024-05-01T12:00:00+02:00


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-01T12:00:00", NOON_IN_BERLIN),
        ("2024-01-01T12:00:00", 1_704_106_800),  # an hour later in winter
        ("2024-05-01T12:00:00Z", NOON_IN_BERLIN + 7_200),
        ("2024-05-01T12:00:00-04:00", NOON_IN_BERLIN + 6 * 3_600),
    ],
)
def test_times_without_a_zone_are_of_the_zone_that_is_named(
    text: str, expected: int, exact: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if exact:
        monkeypatch.setattr(staging_module, "_quickly", lambda *_: None)
    path = tmp_path / "log.csv"
    path.write_text(f"user_id,item_id,timestamp\n1,2,{text}\n")
    log = read_log(str(path), Columns(timezone="Europe/Berlin"))
    assert log.table()["timestamp"].to_pylist() == [expected]


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_naive_parquet_timestamps_are_of_the_zone_that_is_named(
    unit: str, exact: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet as pq

    if exact:
        monkeypatch.setattr(staging_module, "_quickly", lambda *_: None)
    local = pa.array([NOON_IN_BERLIN + 7_200], pa.timestamp("s")).cast(pa.timestamp(unit))
    pq.write_table(pa.table({"user_id": [1], "item_id": [2], "timestamp": local}), tmp_path / "log.parquet")
    log = read_log(str(tmp_path / "log.parquet"), Columns(timezone="Europe/Berlin"))
    assert log.table()["timestamp"].to_pylist() == [NOON_IN_BERLIN]


def test_a_memory_limit_that_is_too_small_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id\n" + "".join(f"{n},{n * 7919 % 100_003}\n" for n in range(200_000)))
    with pytest.raises(LogError, match=r"memory_limit.*not enough.*expected more"):
        read_log(str(path), memory_limit=10**6)
