import numpy as np
import pytest
import torch
from scipy.sparse import csr_array, random_array

from recsys_ae.models import neighbours
from recsys_ae.models.neighbours import product, sparse_rows, strongest, without_diagonal
from recsys_ae.training.batches import DeviceHistories
from tests.worlds import ragged

CPU = torch.device("cpu")


@pytest.mark.parametrize("held", [1, 7, 2**22])
def test_product_is_the_dense_product_however_much_is_held_at_once(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "PRODUCTS", held)
    left, right = ragged(0, 12, 30), ragged(1, 30, 17)
    found = product(DeviceHistories(left, CPU).whole(), DeviceHistories(right, CPU), 17)
    np.testing.assert_allclose(found.numpy(), left.matrix.toarray() @ right.matrix.toarray(), rtol=1e-5)


def test_product_of_nothing_is_zero() -> None:
    nothing = ragged(0, 1, 30)  # its one row is empty
    assert product(DeviceHistories(nothing, CPU).whole(), DeviceHistories(ragged(1, 30, 17), CPU), 17).tolist() == [[0] * 17]


@pytest.mark.parametrize("k", [1, 3, 40])
def test_the_strongest_of_a_row_are_its_largest_and_of_equals_the_first(k: int) -> None:
    rng = np.random.default_rng(0)
    matrix = csr_array(random_array((50, 20), density=0.5, format="csr", rng=rng))
    matrix.sort_indices()
    matrix.data = rng.integers(-2, 3, len(matrix.data)).astype(float)  # many are equal
    expected = np.zeros(matrix.shape, bool)
    for row in range(50):
        columns = matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]]
        best = sorted(columns, key=lambda c: (-matrix[row, c], c))[:k]
        expected[row, best] = True
    kept = strongest(matrix, k)
    assert ((csr_array((np.ones(len(kept.data)), kept.indices, kept.indptr), kept.shape).toarray() > 0) == expected).all()


def test_a_block_loses_the_diagonal_of_the_whole() -> None:
    whole = np.arange(1.0, 26).reshape(5, 5)
    block = without_diagonal(csr_array(whole[2:4]), first_row=2)
    np.testing.assert_array_equal(block.toarray(), (whole - np.diag(np.diag(whole)))[2:4])


def test_sparse_rows_gather_entries_in_any_order() -> None:
    rows, columns, weights = torch.tensor([2, 0, 2]), torch.tensor([5, 1, 3]), torch.tensor([1.0, 2.0, 3.0])
    bags = sparse_rows(rows, columns, weights, 4).whole()
    assert (bags.rows.tolist(), bags.columns.tolist(), bags.weights.tolist()) == ([0, 2, 2], [1, 5, 3], [2.0, 1.0, 3.0])
