"""Whatever bytes a log is made of, reading it gives a clean log or one LogError that names the file: never a traceback."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recsys_ae import Cleaning, Dataset, InteractionLog, Preprocessing, read_log
from recsys_ae.errors import LogError

fuzzed = settings(max_examples=60, derandomize=True, deadline=None)

ODD = [" ", '"', '""', "'", ",", "\\", "\x00", "\r", "NULL", "null", "NaN", "2024-05-01", "24:00", "0x1f", "1e400", "1e13", "é"]
CELLS = st.one_of(
    st.integers(-(2**64), 2**64).map(str),
    st.floats().map(repr),
    st.text(max_size=6),
    st.sampled_from([*ODD, "", "a" * 200]),
)
HEADERS = st.sampled_from(
    ["user_id,item_id,timestamp,weight", "user_id\titem_id\ttimestamp\tweight", "item_id,user_id", "a,b", ""]
)
RULE = Cleaning(Preprocessing(repeats="sum", max_history=3, weight_transform="log1p"), 1, 2)


def outcome(content: bytes, name: str) -> str:
    """Read, clean and index; what came of it. Anything but a LogError with the file's name is a failure."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            for cleaning in (Cleaning(), RULE):
                log = read_log(str(path), cleaning=cleaning)
                assert log.read == log.kept + sum(log.dropped.values())
                assert isinstance(log, InteractionLog)
                assert Dataset.from_log(log).histories.n_interactions == log.kept
        except LogError as error:
            message = str(error)
        else:
            return "read"
        assert str(path) in message
        assert len(message) < 1_500
        return "refused"


@fuzzed
@given(HEADERS, st.lists(st.lists(CELLS, min_size=1, max_size=5), max_size=8), st.sampled_from(["\n", "\r\n", "\r"]))
@example("user_id,item_id", [["1", "2"]], "\n")
def test_csv_of_odd_cells(header: str, rows: list[list[str]], end: str) -> None:
    delimiter = "\t" if "\t" in header else ","
    text = end.join([header, *(delimiter.join(row) for row in rows)])
    outcome(text.encode("utf-8", "surrogatepass"), "log.csv")


@pytest.mark.slow
@fuzzed
@given(st.lists(st.tuples(CELLS, CELLS, CELLS, CELLS), min_size=1, max_size=8))
def test_csv_of_odd_cells_well_quoted(rows: list[tuple[str, ...]]) -> None:
    lines = [
        "user_id,item_id,timestamp,weight",
        *(",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows),
    ]
    outcome("\n".join(lines).encode("utf-8", "surrogatepass"), "log.csv")


@fuzzed
@given(
    st.binary(max_size=200), st.sampled_from(["log.csv", "log.tsv", "log.jsonl", "log.csv.gz", "log.jsonl.zst", "log.parquet"])
)
def test_any_bytes(content: bytes, name: str) -> None:
    outcome(content, name)
    outcome(b"user_id,item_id\n1,2\n" + content, name)


JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


@pytest.mark.slow
@fuzzed
@given(
    st.lists(
        st.dictionaries(st.sampled_from(["user_id", "item_id", "timestamp", "weight", "x"]), JSON, max_size=5), max_size=8
    ),
    st.binary(max_size=3),
)
def test_json_lines_of_odd_values(rows: list[dict[str, Any]], noise: bytes) -> None:
    lines = "\n".join(json.dumps(row) for row in rows).encode()
    outcome(lines, "log.jsonl")
    outcome(lines + noise + lines, "log.jsonl")


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl"])
def test_a_good_log_among_them_is_read(name: str) -> None:
    good = {
        "log.csv": b"user_id,item_id\n1,2\n3,2\n",
        "log.jsonl": b'{"user_id": 1, "item_id": 2}\n{"user_id": 3, "item_id": 2}\n',
    }
    assert outcome(good[name], name) == "read"
