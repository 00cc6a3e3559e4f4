from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_ae.batches import Codes, ahead, read_batches, users_of, whole_users


def batch(users: list[int]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"user_id": pa.array(users, pa.int64()), "place": range(len(users))})


@pytest.mark.parametrize("size", range(1, 9))
def test_batches_cut_anywhere_become_batches_of_whole_users(size: int) -> None:
    users = [1, 1, 1, 2, 5, 5, 5, 5, 5, 7]
    whole = batch(users)
    found = list(whole_users(whole.slice(start, size) for start in range(0, len(users), size)))
    assert [v for b in found for v in b["place"].to_pylist()] == list(range(len(users)))
    owners = [set(b["user_id"].to_pylist()) for b in found]
    assert all(owners)
    assert sum(map(len, owners)) == len(set().union(*owners))  # nobody stands in two


def test_no_rows_are_no_batches() -> None:
    assert list(whole_users([batch([]), batch([])])) == []
    assert list(ahead(iter([]))) == []


def test_users_of_a_batch_in_turn() -> None:
    ids, lengths = users_of(batch([3, 3, 8, 9, 9, 9]))
    assert (ids, lengths.tolist()) == ([3, 8, 9], [2, 1, 3])


def test_batches_made_ahead_come_in_order_and_so_does_an_error() -> None:
    def made() -> object:
        yield from map(batch, ([1], [2], [3]))
        raise ValueError("broken")

    seen: list[int] = []
    with pytest.raises(ValueError, match="broken"):
        seen.extend(b["user_id"][0].as_py() for b in ahead(made()))  # type: ignore[arg-type]
    assert seen == [1, 2, 3]


@pytest.mark.parametrize("ids", [["x" * 200, "y", "x" * 200 + "z"], [2**63 - 1, -(2**63), 0]])
def test_codes_stay_the_same_across_batches(ids: list[object]) -> None:
    codes = Codes()
    assert codes.of(pa.array([ids[0], ids[1], ids[0]])).tolist() == [0, 1, 0]
    assert codes.of(pa.array([ids[2], ids[1]])).tolist() == [2, 1]
    assert codes.ids == ids
    assert len(codes) == 3


def test_a_table_and_a_file_are_read_alike(tmp_path: Path) -> None:
    table = pa.table({"user_id": range(10), "item_id": range(10)})
    pq.write_table(table, tmp_path / "log.parquet", row_group_size=4)
    for source in (table, tmp_path / "log.parquet"):
        found = pa.Table.from_batches(read_batches(source, 3, ["item_id"]))
        assert found.equals(table.select(["item_id"]))
