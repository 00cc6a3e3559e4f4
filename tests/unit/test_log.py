import errno
import gzip
import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import recsys_ae.cleaning
import recsys_ae.log
from recsys_ae import Cleaning, Columns, Dataset, InteractionLog, Preprocessing, read_log
from recsys_ae.errors import LogError, WriteError
from recsys_ae.log import id_kind, read_columns

HEADER = b"user_id,item_id,timestamp,weight\n"
GOOD = b"1,2,1600000000,3\n"
IDS, TIMES = b"user_id,item_id\n", b"user_id,item_id,timestamp\n"
PAIR = b'{"user_id": 1, "item_id": 2}\n'

# --- the same log in every format ----------------------------------------------------------------------------------------


def plain(strings: bool = False) -> pd.DataFrame:
    """300 distinct interactions with distinct times; string ids hold a comma, a quote and letters beyond ASCII."""
    rng = np.random.default_rng(0)
    keys = rng.choice(40 * 30, 300, replace=False)
    users, items = keys // 30, keys % 30
    return pd.DataFrame(
        {
            "user_id": [f'u"{u}, é' for u in users] if strings else users + 2**53,
            "item_id": [f"日 {i}" for i in items] if strings else items - 7,
            "timestamp": 1_600_000_000 + rng.permutation(300) * 1_000,
            "weight": rng.choice([0.5, 1.0, 3.25, 5.0], 300),
        }
    )


def write(frame: pd.DataFrame, path: Path) -> str:
    """Write in the format and compression that the name says; Parquet compresses inside."""
    suffix, *packed = (s for s in path.suffixes if s not in (".inner-gzip", ".inner-zstd"))
    if suffix == ".parquet":
        codec = {".inner-gzip": "gzip", ".inner-zstd": "zstd"}.get(path.suffixes[0], "none")
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), path, compression=codec, row_group_size=70)
        return str(path)
    if suffix == ".jsonl":
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in frame.to_dict("records"))
    else:
        data = frame.to_csv(index=False, sep="\t" if suffix == ".tsv" else ",")
    if packed:
        with pa.CompressedOutputStream(str(path), {".gz": "gzip", ".zst": "zstd"}[packed[0]]) as stream:
            stream.write(data.encode())
    else:
        path.write_bytes(data.encode())
    return str(path)


FORMATS = [
    *(f"log{kind}{packed}" for kind in (".csv", ".tsv", ".jsonl") for packed in ("", ".gz", ".zst")),
    *(f"log{codec}.parquet" for codec in ("", ".inner-gzip", ".inner-zstd")),
]


@pytest.mark.parametrize("strings", [False, True], ids=["integers", "strings"])
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_log_and_digest(name: str, strings: bool, tmp_path: Path) -> None:
    frame = plain(strings)
    log = read_log(write(frame, tmp_path / name))
    expected = InteractionLog.from_table(pa.Table.from_pandas(frame, preserve_index=False))
    assert log.table().equals(expected.table())
    assert log.read == log.kept == 300
    assert id_kind(log, "user_id") == id_kind(log, "item_id") == ("string" if strings else "integer")
    assert Dataset.from_log(log).digest == Dataset.from_log(expected).digest


def test_a_clean_log_is_ordered_by_user_then_time() -> None:
    frame = plain()
    found = InteractionLog.from_table(pa.Table.from_pandas(frame)).table().to_pandas()
    expected = frame.sort_values(["user_id", "timestamp"], ignore_index=True)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)


@pytest.mark.parametrize("pattern", ["*.csv", "part-?.csv"])
def test_a_glob_reads_its_files_in_order_of_their_names(pattern: str, tmp_path: Path) -> None:
    frame = plain().drop(columns="timestamp")
    for n in (2, 0, 1):
        write(frame[n * 100 : (n + 1) * 100], tmp_path / f"part-{n}.csv")
    log = read_log(str(tmp_path / pattern))
    expected = InteractionLog.from_table(pa.Table.from_pandas(frame, preserve_index=False))
    assert log.table().equals(expected.table())


def test_several_paths_are_one_log(tmp_path: Path) -> None:
    frame = plain()
    paths = [write(frame[:90], tmp_path / "b.csv.gz"), write(frame[90:], tmp_path / "a.csv.gz")]
    assert read_log(paths).kept == 300


def test_columns_are_mapped(tmp_path: Path) -> None:
    frame = plain()
    names = {"user_id": "userId", "item_id": 'the "film"', "timestamp": "when", "weight": "rating, 1 to 5"}
    path = write(frame.rename(columns=names), tmp_path / "log.parquet")
    log = read_log(path, Columns("userId", 'the "film"', "when", "rating, 1 to 5"))
    assert log.table().equals(InteractionLog.from_table(pa.Table.from_pandas(frame, preserve_index=False)).table())


def test_times_and_weights_may_be_absent_unless_required(tmp_path: Path) -> None:
    path = write(plain()[["user_id", "item_id"]], tmp_path / "log.csv")
    log = read_log(path)
    assert log.table().schema.names == ["user_id", "item_id"]
    histories = Dataset.from_log(log, Preprocessing(weight_transform="linear")).histories
    assert histories.times is None
    assert set(histories.weights.tolist()) == {1.0}
    with pytest.raises(LogError, match=r"log\.csv: no column 'timestamp'.*found columns user_id, item_id"):
        read_log(path, Columns(required=frozenset({"user", "item", "timestamp"})))


def one_time(text: str, tmp_path: Path, name: str = "log.csv") -> int:
    path = tmp_path / name
    row = f'1,2,"{text}"\n' if name.endswith("csv") else json.dumps({"user_id": 1, "item_id": 2, "timestamp": text})
    path.write_text(("user_id,item_id,timestamp\n" if name.endswith("csv") else "") + row)
    found: int = read_log(str(path)).table()["timestamp"][0].as_py()
    return found


NOON = 1_714_564_800  # 2024-05-01T12:00:00Z


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (str(NOON), NOON),
        (f"{NOON}.9", NOON),
        (str(NOON * 1_000 + 999), NOON),
        (str(NOON * 10**6), NOON),
        (str(NOON * 10**9), NOON),
        ("2024-05-01T12:00:00Z", NOON),
        ("2024-05-01 12:00:00", NOON),
        ("2024-05-01T14:00:00+02:00", NOON),
        ("2024-05-01T06:30:00.75-05:30", NOON),
        ("2024-05-01", NOON - 12 * 3600),
        ("1969-12-31T23:59:58Z", -2),
        ("-86400", -86400),
    ],
)
def test_times_become_seconds_since_1970(name: str, text: str, expected: int, tmp_path: Path) -> None:
    assert one_time(text, tmp_path, name) == expected


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "America/New_York"])
def test_parquet_timestamps_of_any_unit_and_zone(unit: str, zone: str | None, tmp_path: Path) -> None:
    times = pa.array([NOON], pa.timestamp("s")).cast(pa.timestamp(unit, zone))
    pq.write_table(pa.table({"user_id": [1], "item_id": [2], "timestamp": times}), tmp_path / "log.parquet")
    assert read_log(str(tmp_path / "log.parquet")).table()["timestamp"].to_pylist() == [NOON]


@pytest.mark.parametrize(
    "times",
    [[-1_500_000_000_001, -1_500_000_000_999], [1_700_000_000_999_999_999, 1_700_000_005_000_000_000]],
    ids=["milliseconds before 1970", "nanoseconds"],
)
def test_seconds_do_not_depend_on_the_format(times: list[int], tmp_path: Path) -> None:
    """Each unit is rounded down, in text as in a column of integers."""
    frame = pd.DataFrame({"user_id": [1, 2], "item_id": [1, 2], "timestamp": times})
    found = [read_log(write(frame, tmp_path / n)).table()["timestamp"].to_pylist() for n in ("a.csv", "a.parquet")]
    unit = 10**3 if times[0] < 0 else 10**9
    assert found == [[t // unit for t in times]] * 2


@pytest.mark.parametrize(
    "content", [b"\xef\xbb\xbfuser_id,item_id\n1,2\n", b"user_id,item_id\r\n1,2\r\n", b"user_id|item_id\n1|2\n"]
)
def test_byte_order_marks_line_ends_and_delimiters(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(content)
    assert read_log(str(tmp_path / "log.csv")).table().to_pylist() == [{"user_id": 1, "item_id": 2}]


def test_a_delimiter_within_a_quoted_column_name(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text('user_id,item_id,"rating, 1 to 5"\n1,2,4\n')
    log = read_log(str(tmp_path / "log.csv"), Columns(weight="rating, 1 to 5"))
    assert log.table().to_pylist() == [{"user_id": 1, "item_id": 2, "weight": 4.0}]


def test_digits_padded_with_zeros_stay_strings(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id\n007,1\n7,2\n")
    assert read_log(str(tmp_path / "log.csv")).table()["user_id"].to_pylist() == ["007", "7"]


def test_ids_can_be_kept_as_strings(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id\n1,1\nx,2\n")
    assert read_log(str(path), ids="string").table()["user_id"].to_pylist() == ["1", "x"]


def test_json_lines_may_lack_a_column_in_their_first_rows(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(PAIR * 60 + b'{"user_id": 1, "item_id": 3, "weight": 2.5}\n')
    log = read_log(str(path))
    assert log.dropped["missing_weight"] == 60
    assert log.table().to_pylist() == [{"user_id": 1, "item_id": 3, "weight": 2.5}]


def test_a_key_within_a_json_value_is_no_column(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"user_id": 1, "item_id": 2, "context": {"weight": 5}}\n')
    assert read_log(str(path)).table().to_pylist() == [{"user_id": 1, "item_id": 2}]


# --- cleaning ------------------------------------------------------------------------------------------------------------


def dirty() -> pd.DataFrame:
    """1,500 rows with every cause to drop one."""
    rng = np.random.default_rng(3)
    n = 1_500
    frame = pd.DataFrame(
        {
            "user_id": rng.integers(0, 90, n).astype(object),
            "item_id": (rng.zipf(1.4, n) % 120).astype(object),
            "timestamp": rng.permutation(n) // 2 + 1_600_000_000,
            "weight": rng.choice([-1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0], n, p=[0.03, 0.03, 0.1, 0.1, 0.24, 0.25, 0.25]),
        }
    ).astype({"timestamp": object, "weight": object})
    for column in frame.columns:
        frame.loc[rng.choice(n, 15, replace=False), column] = None
    return frame


def by_pandas(frame: pd.DataFrame, least: float | None, users: int, items: int) -> tuple[pd.DataFrame, dict[str, int]]:
    """The cleaning rules once more, in pandas."""
    dropped: dict[str, int] = {}

    def keep(frame: pd.DataFrame, rows: "pd.Series[bool]", cause: str) -> pd.DataFrame:
        dropped[cause] = dropped.get(cause, 0) + int((~rows).sum())
        return frame[rows]

    frame = keep(frame, frame["user_id"].notna() & frame["item_id"].notna(), "missing_id")
    frame = keep(frame, frame["timestamp"].notna(), "missing_timestamp")
    frame = keep(frame, frame["weight"].notna(), "missing_weight")
    frame = frame.astype({"user_id": int, "item_id": int, "timestamp": int, "weight": float})
    frame = frame.sort_values("timestamp", kind="stable")
    frame = keep(frame, ~frame.duplicated(["user_id", "item_id"], keep="last"), "repeated")
    frame = keep(frame, frame["weight"] > 0, "weight_not_positive")
    if least is not None:
        frame = keep(frame, frame["weight"] >= least, "below_min_weight")
    size = -1
    while size != len(frame):
        size = len(frame)
        frame = keep(frame, frame.groupby("user_id")["user_id"].transform("size") >= users, "user_below_min_interactions")
        frame = keep(frame, frame.groupby("item_id")["item_id"].transform("size") >= items, "item_below_min_interactions")
    return frame.sort_values("user_id", kind="stable").reset_index(drop=True), dropped


@pytest.mark.parametrize(("least", "users", "items"), [(None, 1, 1), (3.0, 1, 1), (None, 5, 5), (2.0, 6, 4), (3.0, 1, 9)])
@pytest.mark.parametrize("name", ["log.csv", "log.jsonl", "log.parquet"])
def test_every_drop_is_counted_by_cause(name: str, least: float | None, users: int, items: int, tmp_path: Path) -> None:
    frame = dirty()
    expected, dropped = by_pandas(frame, least, users, items)
    log = read_log(write(frame, tmp_path / name), cleaning=Cleaning(Preprocessing(min_weight=least), users, items))
    assert log.read == len(frame)
    assert log.dropped == dropped
    assert log.kept == len(expected) == log.read - sum(dropped.values())
    pd.testing.assert_frame_equal(log.table().to_pandas(), expected, check_dtype=False)


def test_the_k_core_is_iterated() -> None:
    """Without user 3 item 3 has one interaction, without item 3 user 2 has one, without user 2 item 2 has one: all fall."""
    pairs = {"user_id": [1, 1, 2, 2, 3], "item_id": [1, 2, 2, 3, 3]}
    with pytest.raises(LogError, match=r"no interaction is left of 5 read.*user_below_min_interactions"):
        InteractionLog.from_table(pa.table(pairs), cleaning=Cleaning(min_user_interactions=2, min_item_interactions=2))


def test_of_repeats_the_last_counts_even_if_it_falls_below_min_weight() -> None:
    table = pa.table({"user_id": [1, 1, 1], "item_id": [1, 1, 2], "timestamp": [9, 5, 1], "weight": [1.0, 5.0, 5.0]})
    log = InteractionLog.from_table(table, cleaning=Cleaning(Preprocessing(min_weight=3)))
    assert log.table()["item_id"].to_pylist() == [2]
    assert (log.dropped["repeated"], log.dropped["below_min_weight"]) == (1, 1)


def test_write_and_read_back(tmp_path: Path) -> None:
    log = InteractionLog.from_table(pa.Table.from_pandas(plain()))
    stored = log.write(tmp_path / "deep" / "log.parquet")
    assert stored.table().equals(log.table())
    assert (stored.read, stored.kept, stored.dropped) == (log.read, log.kept, log.dropped)
    assert Dataset.from_log(stored).digest == Dataset.from_log(log).digest
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["log.parquet"]


def test_indexed_positions_follow_ascending_ids() -> None:
    table = pa.table({"user_id": ["b", "a", "b"], "item_id": [30, 10, 20], "timestamp": [5, 6, 4]})
    found = Dataset.from_log(InteractionLog.from_table(table))
    assert found.users.ids == ("a", "b")
    assert found.items.ids == (10, 20, 30)
    assert found.histories.rows.tolist() == [0, 1, 1]
    assert found.histories.items.tolist() == [0, 1, 2]
    assert found.histories.times is not None
    assert found.histories.times.tolist() == [6, 4, 5]


def test_without_times_the_order_of_the_source_stays() -> None:
    table = pa.table({"user_id": [1] * 5, "item_id": [5, 3, 9, 1, 7]})
    found = Dataset.from_log(InteractionLog.from_table(table))
    assert found.items.at(found.histories.items) == [5, 3, 9, 1, 7]


@pytest.mark.parametrize(
    "columns",
    [
        {"user_id": [1.0], "item_id": [2]},
        {"item_id": [2]},
        {"user_id": [1], "item_id": [2], "timestamp": ["yesterday"]},
        {"user_id": [1], "item_id": [2], "weight": ["heavy"]},
    ],
)
def test_a_table_of_other_columns_or_types_is_no_clean_log(columns: dict[str, Any]) -> None:
    with pytest.raises(LogError, match="a clean log has"):
        InteractionLog(pa.table(columns), 1)


def test_read_columns_gives_titles_as_text(tmp_path: Path) -> None:
    frame = pd.DataFrame({"movieId": [1, 2], "title": ["Heat, part 1", None]})
    for name in ("items.csv", "items.jsonl", "items.parquet"):
        rows = read_columns(
            write(frame.astype(object).where(frame.notna(), None), tmp_path / name), {"id": "movieId", "title": "title"}
        )
        assert rows == [{"id": "1", "title": "Heat, part 1"}, {"id": "2", "title": None}], name
    with pytest.raises(LogError, match=r"items\.csv: no column 'genres' \(the category\); found columns movieId, title"):
        read_columns(str(tmp_path / "items.csv"), {"category": "genres"})
    with pytest.raises(LogError, match=r"absent\.csv: does not exist"):
        read_columns(str(tmp_path / "absent.csv"), {"id": "movieId"})


# --- bad input: the message names the file, the row and what was expected ------------------------------------------------


def packed(body: bytes, codec: str) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(body)
    return bytes(sink.getvalue().to_pybytes())


def many() -> bytes:
    """A CSV file that no buffer holds at once."""
    rng = np.random.default_rng(0)
    rows = zip(rng.integers(0, 10**6, 20_000), rng.integers(0, 10**6, 20_000), strict=True)
    return b"user_id,item_id\n" + b"".join(b"%d,%d\n" % pair for pair in rows)


BAD: dict[str, tuple[str, bytes, str]] = {
    "missing column": ("log.csv", b"user_id,weight\n1,2\n", "no column 'item_id'.*found columns user_id, weight"),
    "missing JSON key": ("log.jsonl", b'{"user_id": 1}\n', "no column 'item_id'.*found columns user_id"),
    "empty": ("log.csv", b"", "is empty; expected a header and rows"),
    "blank": ("log.csv", b"\n \n", "is empty"),
    "empty JSON": ("log.jsonl", b"", "is empty"),
    "empty gzip": ("log.csv.gz", gzip.compress(b""), "is empty"),
    "header only": ("log.csv", HEADER, "no rows; expected at least one interaction"),
    "weight is a word": ("log.csv", HEADER + GOOD + b"1,3,1600000000,good\n", "row 2 .line 3.*'weight'.*'good'.*a number"),
    "weight is NaN": ("log.csv", HEADER + GOOD + b"1,3,1600000000,nan\n", "row 2 .line 3.*'nan'.*expected a finite number"),
    "weight is infinite": ("log.csv", HEADER + GOOD + b"1,3,1600000000,-inf\n", "row 2 .line 3.*'-inf'.*a finite number"),
    "weight overflows": ("log.csv", HEADER + GOOD + b"1,3,1600000000,1e999\n", "row 2 .line 3.*'1e999'.*a finite number"),
    "weight is absurd": ("log.csv", HEADER + GOOD + b"1,3,1600000000,-1e13\n", "row 2 .line 3.*'-1e13'.*between -1e.12"),
    "JSON weight is NaN": ("log.jsonl", b'{"user_id": 1, "item_id": 2, "weight": NaN}\n', "row 1.*finite number"),
    "mixed ids": ("log.csv", HEADER + GOOD * 3 + b"x7,3,1600000000,1\n", "row 4 .line 5.*'user_id'.*'x7'.*expected an integer"),
    "mixed ids, mostly words": ("log.csv", IDS + b"a,1\nb,1\n7,1\n", "row 3 .line 4.*'7'.*expected a string"),
    "mixed JSON ids": ("log.jsonl", PAIR * 3 + b'{"user_id": "7", "item_id": 2}\n', "row 4.*'user_id'.*7.*expected an integer"),
    "JSON id is a fraction": ("log.jsonl", PAIR + b'{"user_id": 1.5, "item_id": 2}\n', "row 2.*1.5.*an integer or a string"),
    "JSON id is a list": ("log.jsonl", PAIR + b'{"user_id": [1], "item_id": 2}\n', "row 2.*an integer or a string"),
    "binary": ("log.csv", bytes(range(256)), "is binary.*expected text"),
    "binary further down": ("log.csv", HEADER + GOOD * 6_000 + b"\0\xff\1\n", "line 6002"),
    "truncated gzip": ("log.csv.gz", gzip.compress(HEADER + GOOD * 9)[:-9], "cannot be read.*expected a whole file"),
    "truncated long gzip": ("log.csv.gz", gzip.compress(many())[:-2_000], "end of GZIP stream"),
    "truncated zstd": ("log.csv.zst", packed(HEADER + GOOD * 9, "zstd")[:-5], "cannot be read.*expected a whole file"),
    "truncated long zstd": ("log.csv.zst", packed(many(), "zstd")[:-2_000], "cannot be read.*Truncated"),
    "no gzip": ("log.csv.gz", HEADER + GOOD, "cannot be read.*compressed as its suffix says"),
    "malformed JSON at first": ("log.jsonl", b"nonsense\n" + PAIR, r"(row|line) 1\b.*[Ee]xpected one object a line"),
    "malformed JSON": ("log.jsonl", PAIR * 4 + b'{"user_id": 1,\n' + PAIR, r"(row|line) 5\b.*[Ee]xpected one object a line"),
    "JSON array": ("log.json", b'[{"user_id": 1, "item_id": 2}]', "[Ee]xpected OBJECT.*ARRAY"),
    "short row": ("log.csv", HEADER + GOOD + b"1,2\n", "line 3.*Expected Number of Columns: 4 Found: 2"),
    "long row": ("log.csv", HEADER + GOOD + b"1,2,3,4,5\n", "line 3.*Expected Number of Columns: 4 Found: 5"),
    "unclosed quote": ("log.csv", b'user_id,item_id\n1,"2\n3,4\n', "line 2.*unterminated quote"),
    "bad time": ("log.csv", HEADER + GOOD + b"1,3,yesterday,1\n", "row 2 .line 3.*'yesterday'.*seconds since 1970"),
    "bad date": ("log.csv", TIMES + b"1,2,2024-01-02\n1,3,2024-13-01\n", "row 2 .line 3.*'2024-13-01'.*ISO 8601"),
    "endless time": ("log.csv", TIMES + b"1,2,2024-01-02\n1,3,infinity\n1,4,2024-01-02\n", "row 2 .line 3.*'infinity'"),
    "time too late": ("log.csv", HEADER + GOOD * 3 + b"1,3,99999999999,1\n", "row 4 .line 5.*between the years 1900 and 2100"),
    "date too late": ("log.csv", TIMES + b"1,2,2024-01-02\n1,3,2500-01-01\n", "row 2.*1900 and 2100"),
    "date too early": ("log.csv", TIMES + b"1,3,1850-01-01\n", "row 1.*'1850-01-01'.*1900 and 2100"),
    "not UTF-8": ("log.csv", IDS + b"1,2\n1,\xff\n", "line 3.*0xff is not UTF-8; expected UTF-8 text"),
    "not UTF-8 further down": ("log.csv", IDS + b"a,b\n" * 20_000 + b"1,\xff\xfe\n", "line 20002.*utf-8"),
    "id over 64 bits": ("log.csv", IDS + b"1,2\n1,99999999999999999999\n", "row 2 .line 3.*'99999999999999999999'.*64 bits"),
    "JSON id over 63 bits": ("log.jsonl", PAIR + b'{"user_id": 1, "item_id": 9999999999999999999}\n', "row 2.*64 bits"),
    "JSON id over 64 bits": ("log.jsonl", PAIR + b'{"user_id": 1, "item_id": 99999999999999999999}\n', "row 2.*an integer"),
    "column twice": ("log.csv", b"user_id,user_id,item_id\n1,2,3\n", "line 1: column 'user_id' stands twice"),
    "text called Parquet": ("log.parquet", HEADER + GOOD, "is not a whole Parquet file"),
    "unknown format": ("log.xlsx", b"PK", "unknown format .xlsx; expected one of .csv"),
    "no suffix": ("log", b"1,2", "unknown format .no suffix.; expected one of .csv"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_text_is_an_error_that_names_file_row_and_expectation(case: str, tmp_path: Path) -> None:
    name, content, message = BAD[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LogError, match=f"{tmp_path / name}.*(?s:{message})") as caught:
        read_log(str(tmp_path / name))
    assert len(str(caught.value)) < 600 + len(str(tmp_path)) * 2


BAD_COLUMNS: dict[str, tuple[dict[str, Any], str]] = {
    "weight is NaN": ({"weight": [1.0, np.nan]}, "row 2, column 'weight': found nan; expected a finite number"),
    "weight is a boolean": ({"weight": [True, False]}, "weights of type BOOLEAN; expected numbers"),
    "id is a float": ({"user_id": [1.0, 2.0]}, "ids of type DOUBLE; expected integers or strings"),
    "id is bytes": ({"user_id": [b"a", b"b"]}, "ids of type BLOB; expected integers or strings"),
    "id over 64 bits": ({"user_id": pa.array([1, 2**64 - 1], pa.uint64())}, "row 2.*18446744073709551615.*64 bits"),
    "time is a boolean": ({"timestamp": [True, False]}, "times of type BOOLEAN; expected numbers or timestamps"),
    "number too late": (
        {"user_id": [1, 2, 3], "item_id": [1, 2, 3], "timestamp": [10**9, -(10**10), 10**9]},
        "row 2.*between the years 1900 and 2100",
    ),
    "timestamp too late": (
        {"timestamp": pa.array([10**9, 9 * 10**9], pa.timestamp("s"))},
        "row 2.*between the years 1900 and 2100",
    ),
}


@pytest.mark.parametrize("case", BAD_COLUMNS)
def test_bad_parquet_is_an_error_that_names_file_row_and_expectation(case: str, tmp_path: Path) -> None:
    columns, message = BAD_COLUMNS[case]
    path = tmp_path / "log.parquet"
    pq.write_table(pa.table({"user_id": [1, 2], "item_id": [1, 2]} | columns), path)
    with pytest.raises(LogError, match=f"{path}.*{message}"):
        read_log(str(path))


@pytest.mark.parametrize("cut", [lambda b: b[:-20], lambda b: b[: len(b) // 2], lambda b: b[:40] + b[80:]])
def test_truncated_parquet(cut: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = Path(write(plain(), tmp_path / "log.parquet"))
    path.write_bytes(cut(path.read_bytes()))
    with pytest.raises(LogError, match=r"log\.parquet: is not a whole Parquet file"):
        read_log(str(path))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "absent.csv", "does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(LogError, match=f"{path}: {message}; expected a file or a glob"):
            read_log(str(path))


def test_of_several_files_the_bad_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(HEADER + GOOD * 3)
    (tmp_path / "b.csv").write_bytes(HEADER + GOOD + b"1,3,1600000000,good\n")
    with pytest.raises(LogError, match=r"b\.csv, row 2 \(line 3\), column 'weight'"):
        read_log(str(tmp_path / "*.csv"))


def test_files_of_one_log_have_one_header_and_one_format(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(HEADER + GOOD)
    (tmp_path / "b.csv").write_bytes(b"user_id,item_id\n1,2\n")
    with pytest.raises(LogError, match=r"b\.csv: header"):
        read_log(str(tmp_path / "*.csv"))
    (tmp_path / "c.jsonl").write_bytes(PAIR)
    with pytest.raises(LogError, match="formats csv, json in one log"):
        read_log([str(tmp_path / "a.csv"), str(tmp_path / "c.jsonl")])


def test_a_table_in_memory_meets_the_same_checks() -> None:
    with pytest.raises(LogError, match="table, row 2, column 'weight': found nan; expected a finite number"):
        InteractionLog.from_table(pa.table({"user_id": [1, 2], "item_id": [1, 2], "weight": [1.0, np.nan]}))


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl", "log.parquet"])
def test_the_largest_integers_and_ids_of_200_characters(name: str, tmp_path: Path) -> None:
    users, items = [2**63 - 1, -(2**63), 2**53 + 1], ["i" * 199 + letter for letter in "abc"]
    frame = pd.DataFrame({"user_id": users, "item_id": items})
    data = Dataset.from_log(read_log(write(frame, tmp_path / name), into=tmp_path / "clean.parquet"))
    assert data.users.ids == tuple(sorted(users))
    assert data.items.ids == tuple(items)
    assert [data.histories.row(data.users.position(u)).tolist() for u in users] == [[0], [1], [2]]


def test_a_log_that_fails_leaves_nothing_behind_and_an_earlier_one_alone(tmp_path: Path) -> None:
    into = tmp_path / "runs" / "log.parquet"
    read_log(write(plain(), tmp_path / "log.csv"), into=into)
    before = into.read_bytes()
    for cleaning in (Cleaning(min_user_interactions=10**6), Cleaning(min_item_interactions=10**6)):
        with pytest.raises(LogError, match="no interaction is left of 300 read"):
            read_log(str(tmp_path / "log.csv"), cleaning=cleaning, into=into)
    assert [path.name for path in into.parent.iterdir()] == ["log.parquet"]
    assert into.read_bytes() == before


def test_idle_items_leave_the_catalogue() -> None:
    day = 86_400
    times = [day * d for d in (1, 50, 40, 41, 50)]
    table = pa.table({"user_id": [1, 1, 2, 2, 3], "item_id": [7, 8, 7, 9, 9], "timestamp": times})
    log = InteractionLog.from_table(table, cleaning=Cleaning(Preprocessing(max_item_idle_days=9.5)))
    assert set(log.table()["item_id"].to_pylist()) == {8, 9}
    assert log.dropped["item_idle"] == 2
    earlier = Cleaning(Preprocessing(max_item_idle_days=9.5, reference_time=49 * day))
    assert InteractionLog.from_table(table, cleaning=earlier).dropped["item_idle"] == 0


def test_rules_that_need_a_column_say_which() -> None:
    pairs = pa.table({"user_id": [1], "item_id": [2]})
    for rule, column in (
        (Preprocessing(max_user_events_per_day=3), "timestamp"),
        (Preprocessing(max_item_idle_days=3), "timestamp"),
        (Preprocessing(event_weights={"view": 1}), "event_type"),
    ):
        with pytest.raises(LogError, match=f"no column '{column}'"):
            InteractionLog.from_table(pairs, cleaning=Cleaning(rule))


def test_a_clean_log_out_of_order_is_refused() -> None:
    with pytest.raises(LogError, match="in order of user_id; found 1 late"):
        Dataset.from_log(InteractionLog(pa.table({"user_id": [2, 1], "item_id": [1, 1]}), 2))


def test_nothing_is_being_read_any_more_when_writing_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else DuckDB, which a thread still reads from, refuses to close, and that is the error people see."""
    begun, go_on = threading.Event(), threading.Event()
    real, connection, still_reading = recsys_ae.cleaning._sorted, recsys_ae.log.connection, list[bool]()

    def slow(*arguments: Any) -> Iterator[pa.RecordBatch]:
        for batch in real(*arguments):
            for user in range(0, len(batch), 10):
                yield batch.slice(user, 10)
                if user == 10:  # the first whole user is given, the thread makes the next
                    begun.set()
                    go_on.wait(0.5)

    def full(batches: Iterable[pa.RecordBatch], _: Path) -> None:
        next(iter(batches))
        begun.wait(10)
        raise OSError(errno.ENOSPC, "No space left on device")

    @contextmanager
    def watched(share: int | None) -> Iterator[Any]:
        with connection(share) as con:
            try:
                yield con
            finally:
                still_reading.append(any(thread.name.startswith("ThreadPoolExecutor") for thread in threading.enumerate()))

    monkeypatch.setattr(recsys_ae.cleaning, "_sorted", slow)
    monkeypatch.setattr(recsys_ae.cleaning, "write_parquet", full)
    monkeypatch.setattr(recsys_ae.log, "connection", watched)
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id\n" + "".join(f"{user},{item}\n" for user in range(4) for item in range(10)))
    with pytest.raises(WriteError, match="No space left"):
        read_log(str(path), into=tmp_path / "clean.parquet")
    assert begun.is_set() and still_reading == [False]
