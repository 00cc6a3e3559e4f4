from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recsys_ae import Dataset, Histories, IdMap, InteractionLog, Preprocessing, read_log
from recsys_ae.errors import DataError
from recsys_ae.items import ItemMetadata
from tests.worlds import as_dataset, tastes

TABLE = {
    "user_id": ["b", "a", "b", "a", "c"],
    "item_id": [30, 10, 20, 30, 10],
    "timestamp": [500, 400, 300, 200, 100],
    "weight": [5.0, 4.0, 3.0, 2.0, 1.0],
}


def log(**changes: list[object]) -> InteractionLog:
    return InteractionLog.from_table(pa.table(TABLE | changes))


def test_a_log_becomes_rows_in_order_of_time() -> None:
    data = Dataset.from_log(log(), Preprocessing(weight_transform="linear"), {30: "Thirty"}, {10: ("x", "y")})
    assert data.users.ids == ("a", "b", "c")
    assert data.items.ids == (10, 20, 30)
    assert [data.histories.row(i).tolist() for i in range(3)] == [[2, 0], [1, 2], [0]]
    assert data.histories.weights.tolist() == [2, 4, 3, 5, 1]
    assert data.metadata == ItemMetadata((None, None, "Thirty"), (("x", "y"), (), ()), (2, 1, 2), (400, 300, 500))


def test_weights_are_binary_unless_asked() -> None:
    assert set(Dataset.from_log(log()).histories.weights.tolist()) == {1.0}


def test_the_reference_time_is_the_logs_last_and_is_kept() -> None:
    data = Dataset.from_log(log(timestamp=[86_400 * d for d in (9, 8, 7, 6, 5)]), Preprocessing(half_life_days=1))
    assert data.preprocessing.reference_time == 9 * 86_400
    np.testing.assert_allclose(data.histories.weights, [2**-3, 2**-1, 2**-2, 1, 2**-4])


def test_a_half_life_needs_times() -> None:
    table = pa.table({"user_id": [1], "item_id": [1]})
    with pytest.raises(DataError, match="half_life_days needs times"):
        Dataset.from_log(InteractionLog.from_table(table), Preprocessing(half_life_days=1))


def test_widths_come_from_the_maps() -> None:
    with pytest.raises(DataError, match="2 rows and 5 items; expected 2 users and 4 items"):
        Dataset(IdMap((1, 2)), IdMap((1, 2, 3, 4)), Histories.from_rows([[0], [1]], 5))


def test_digest_depends_neither_on_the_files_format_nor_on_the_order_of_its_rows(tmp_path: Path) -> None:
    frame = pa.table(TABLE).to_pandas()
    expected = Dataset.from_log(log()).digest
    for seed in range(5):
        shuffled = frame.sample(frac=1, random_state=seed)
        shuffled.to_csv(tmp_path / "log.csv", index=False)
        shuffled.to_parquet(tmp_path / "log.parquet", index=False)
        shuffled.to_json(tmp_path / "log.jsonl", orient="records", lines=True)
        for name in ("log.csv", "log.parquet", "log.jsonl"):
            assert Dataset.from_log(read_log(str(tmp_path / name))).digest == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"user_id": ["b", "a", "b", "a", "d"]},
        {"item_id": [30, 10, 20, 30, 11]},
        {"timestamp": [501, 400, 300, 200, 100]},
        {"weight": [5.0, 4.0, 3.0, 2.0, 1.5]},
    ],
)
def test_digest_follows_every_column(changes: dict[str, list[object]]) -> None:
    linear = Preprocessing(weight_transform="linear")
    assert Dataset.from_log(log(**changes), linear).digest != Dataset.from_log(log(), linear).digest


def test_with_rows_and_with_items() -> None:
    data = as_dataset(tastes())
    rows, columns = np.array([4, 2]), np.array([9, 0, 3])
    part = data.with_rows(rows).with_items(columns)
    assert part.users.ids == (104, 102)
    assert part.items.ids == (1009, 1000, 1003)
    np.testing.assert_array_equal(part.histories.matrix.toarray(), data.histories.matrix[rows][:, columns].toarray())
