from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from recsys_ae import FitRecord, Histories, Holdout, IdMap, products, rank_top_k, similar_items, top_k_numpy, top_k_torch
from recsys_ae.errors import DataError
from recsys_ae.masks import mask_
from recsys_ae.models import ModelConfig, Recommender
from recsys_ae.ranking import hits
from recsys_ae.top_k import top_k
from tests.worlds import ragged

N_ITEMS = 30


class Planted(Recommender):
    """Scores every history by the row of a fixed table that its number of interactions picks."""

    Config = ModelConfig

    def __init__(self, table: np.ndarray) -> None:
        super().__init__(ModelConfig(), table.shape[1])
        self._tensors = {"table": torch.from_numpy(table.astype(np.float32))}
        self.batches: list[int] = []

    def fit(self, train: Histories, *, validation: Holdout | None, run: Any) -> FitRecord:
        return FitRecord()

    def _score(self, histories: Histories, items: Tensor | None) -> Tensor:
        self.batches.append(len(histories))
        table = self._tensors["table"]
        return table[torch.from_numpy(histories.lengths.copy()) % len(table)].clone()

    def layout(self) -> dict[str, int | None]:
        return {"table": 1}


def planted(seed: int = 0) -> Planted:
    """Scores with many ties, about half of them negative."""
    return Planted(np.random.default_rng(seed).integers(-3, 3, (9, N_ITEMS)))


HISTORIES = ragged(1, 40, N_ITEMS)


def naive(model: Planted, histories: Histories, k: int, left_out: list[set[int]]) -> list[list[int]]:
    """Sorted by score, then by column."""
    lists = []
    for row, gone in enumerate(left_out):
        scores = model.score(histories.take(np.array([row])))[0].tolist()
        eligible = [i for i in range(N_ITEMS) if i not in gone]
        lists.append(sorted(eligible, key=lambda i: (-scores[i], i))[:k])
    return lists


@pytest.mark.parametrize("k", [1, 4, 29, 30, 31, 100])
def test_equals_sorting_by_score_then_column(k: int) -> None:
    model = planted()
    ranking = rank_top_k(model, HISTORIES, k)
    seen = [set(HISTORIES.row(row).tolist()) for row in range(len(HISTORIES))]
    for row, expected in enumerate(naive(model, HISTORIES, k, seen)):
        assert ranking.row(row)[0] == expected
        assert ranking.items[row].tolist() == expected + [-1] * (k - len(expected))
        assert ranking.scores[row, len(expected) :].tolist() == [-np.inf] * (k - len(expected))


def test_seen_items_stay_where_asked_to() -> None:
    model = planted()
    ranking = rank_top_k(model, HISTORIES, 5, exclude_seen=False)
    expected = naive(model, HISTORIES, 5, [set() for _ in range(len(HISTORIES))])
    assert [ranking.row(row)[0] for row in range(len(HISTORIES))] == expected


def test_exclude_and_allow() -> None:
    model, exclude = planted(), ragged(2, 40, N_ITEMS)
    allow = np.arange(N_ITEMS) % 3 != 0
    ranking = rank_top_k(model, HISTORIES, 10, exclude=exclude, allow=allow)
    left_out = [
        set(HISTORIES.row(row).tolist()) | set(exclude.row(row).tolist()) | set(np.flatnonzero(~allow).tolist())
        for row in range(len(HISTORIES))
    ]
    assert [ranking.row(row)[0] for row in range(len(HISTORIES))] == naive(model, HISTORIES, 10, left_out)


def test_exclude_of_another_shape_is_refused() -> None:
    with pytest.raises(DataError, match=r"exclude has shape \(3, 30\)"):
        rank_top_k(planted(), HISTORIES, 5, exclude=ragged(0, 3, N_ITEMS))


def test_allow_of_another_width_is_refused() -> None:
    with pytest.raises(DataError, match="allow"):
        rank_top_k(planted(), HISTORIES, 5, allow=np.ones(7, np.bool_))


def test_nothing_allowed_is_a_row_of_padding() -> None:
    ranking = rank_top_k(planted(), HISTORIES, 3, allow=np.zeros(N_ITEMS, np.bool_))
    assert (ranking.items == -1).all()
    assert np.isneginf(ranking.scores).all()


@pytest.mark.parametrize("batch_size", [1, 7, 500, None])
def test_the_result_does_not_depend_on_the_batch_size(batch_size: int | None) -> None:
    model = planted()
    ranking = rank_top_k(model, HISTORIES, 6, exclude=ragged(2, 40, N_ITEMS), batch_size=batch_size)
    expected = rank_top_k(planted(), HISTORIES, 6, exclude=ragged(2, 40, N_ITEMS), batch_size=40)
    np.testing.assert_array_equal(ranking.items, expected.items)
    np.testing.assert_array_equal(ranking.scores, expected.scores)
    assert model.batches[0] == min(batch_size or 40, 40)


def test_no_histories_give_no_lists() -> None:
    ranking = rank_top_k(planted(), Histories.from_rows([], N_ITEMS), 4)
    assert ranking.items.shape == (0, 4)
    assert ranking.items.dtype == np.int32
    assert ranking.scores.dtype == np.float32


def test_seen_items_are_masked_with_minus_infinity_not_zero() -> None:
    """With zeros on raw logits a seen item would beat every item of a negative score."""
    model = Planted(np.full((1, 4), -5.0))
    ranking = rank_top_k(model, Histories.from_rows([[1, 2]], 4), 4)
    assert ranking.items.tolist() == [[0, 3, -1, -1]]
    scores = torch.full((1, 4), -5.0)
    mask_(scores, Histories.from_rows([[1, 1]], 4))
    assert scores.tolist() == [[-5, -torch.inf, -5, -5]]


def test_top_k_takes_the_first_of_equal_scores() -> None:
    scores = torch.zeros(3, 1000)
    scores[1, 500:] = 1
    values, columns = top_k(scores, 4)
    assert columns.tolist() == [[0, 1, 2, 3], [500, 501, 502, 503], [0, 1, 2, 3]]
    assert values[1].tolist() == [1, 1, 1, 1]


def by_numpy(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    values, columns = top_k_numpy.top_k(scores.numpy(), k)
    return torch.from_numpy(values), torch.from_numpy(columns)


SEARCHES = pytest.mark.parametrize("search", [top_k, by_numpy, top_k_torch.top_k])


@SEARCHES
@pytest.mark.parametrize("width", [1, 79, 80, 81, 1_000, 5_003])
@pytest.mark.parametrize("levels", [2, 20, 10**6])
def test_wide_rows_are_searched_by_blocks_as_if_they_were_sorted(
    search: Callable[[Tensor, int], tuple[Tensor, Tensor]], width: int, levels: int
) -> None:
    """With few distinct scores, many rows have more equal ones at the end of the list than it has places."""
    generator = torch.Generator().manual_seed(width)
    scores = torch.randint(-levels // 2, levels, (40, width), generator=generator) * 0.37
    scores[torch.rand(scores.shape, generator=generator) < 0.3] = -torch.inf
    scores[3] = -torch.inf
    scores[4, 1:] = -torch.inf
    scores[5, ::2] = torch.inf
    scores[6, ::3], scores[6, 1::3] = -0.0, 0.0
    k = min(10, width)
    values, columns = search(scores.clone(), k)
    expected = scores.sort(dim=1, descending=True, stable=True)
    assert torch.equal(values, expected.values[:, :k])
    real = values > -torch.inf
    assert torch.equal(columns[real], expected.indices[:, :k][real])
    assert torch.equal(scores.gather(1, columns), values)


@SEARCHES
@pytest.mark.parametrize("width", [50, 5_000])
def test_a_score_that_is_not_a_number_is_found_wherever_it_stands(
    search: Callable[[Tensor, int], tuple[Tensor, Tensor]], width: int
) -> None:
    for column in (0, width // 2, width - 1):
        scores = torch.arange(2.0 * width).view(2, width)
        scores[1, column] = torch.nan
        scores[1, [1, 2, 3, 5, 8, 13]] = torch.inf
        values, _ = search(scores, 5)
        assert values[1].isnan().any()
        assert not values[0].isnan().any()


def test_several_threads_find_what_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = torch.randn(300, 2_000, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(top_k_numpy, "AT_ONCE", 2**14)
    alone = by_numpy(scores, 20)
    monkeypatch.setattr(products, "threads", lambda: 3)
    for found, expected in zip(by_numpy(scores, 20), alone, strict=True):
        assert torch.equal(found, expected)


def test_similar_items_are_the_list_of_a_history_of_one() -> None:
    model = planted()
    expected = rank_top_k(model, Histories.from_rows([[7]], N_ITEMS), 5)
    np.testing.assert_array_equal(similar_items(model, 7, N_ITEMS, 5).items, expected.items)


def test_hits() -> None:
    ranking = rank_top_k(Planted(np.array([[4.0, 3, 2, 1]])), Histories.from_rows([[], [], []], 4), 6)
    found = hits(ranking, Histories.from_rows([[3, 0], [], [1]], 4))
    assert found.astype(int).tolist() == [[1, 0, 0, 1, 0, 0], [0] * 6, [0, 1, 0, 0, 0, 0]]
    assert not hits(ranking, Histories.from_rows([[], [], []], 4)).any()


def test_padding_is_never_a_hit() -> None:
    """-1 of row u would be the key of the last item of row u - 1."""
    histories = Histories.from_rows([[0], [0, 1, 2, 3]], 4)
    ranking = rank_top_k(Planted(np.array([[4.0, 3, 2, 1]])), histories, 4)
    held_out = Holdout(IdMap((1,)), histories.take(slice(0, 1)), Histories.from_rows([[3]], 4)).held_out
    both = Histories.from_rows([held_out.row(0).tolist(), []], 4)
    assert hits(ranking, both).sum() == 1
