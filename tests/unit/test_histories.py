import numpy as np
import pytest
from scipy.sparse import csr_array

from recsys_ae import Histories, Holdout, IdMap
from recsys_ae.errors import DataError
from tests.worlds import ragged

LARGE = ragged(0, 60, 25)


def build(indptr: list[int], items: object, weights: list[float] | None = None, times: list[int] | None = None) -> Histories:
    items = np.array(items)
    return Histories(
        np.array(indptr),
        items,
        np.ones(len(items)) if weights is None else np.array(weights),
        5,
        None if times is None else np.array(times),
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1], [5]), "item index 5 is out of range for a catalogue of 5"),
        (([0, 1], [-1]), "item index -1 is out of range"),
        (([0, 1], [2**32]), f"item index {2**32} is out of range"),
        (([0, 2], [1]), "indptr"),
        (([1, 1], [1]), "indptr"),
        (([0, 2, 1], [1]), "indptr"),
        (([], []), "indptr"),
        (([0, 1], [1], [np.nan]), "not finite"),
        (([0, 1], [1], [np.inf]), "not finite"),
        (([0, 1], [1], [0.0]), "greater than 0"),
        (([0, 1], [1], [-1.0]), "greater than 0"),
        (([0, 2], [1, 2], [1.0]), "one entry for each"),
        (([0, 2], [1, 2], None, [1]), "one entry for each"),
        (([0, 1, 3], [1, 1, 2], None, [9, 5, 4]), "backwards within row 1"),
    ],
)
def test_what_is_no_history_is_refused(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        build(*arguments)  # type: ignore[arg-type]


def test_times_may_fall_from_row_to_row() -> None:
    assert len(build([0, 0, 1, 2, 2], [1, 2], times=[9, 1])) == 4


def test_arrays_are_frozen() -> None:
    for name in ("indptr", "items", "weights", "times"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(LARGE, name)[0] = 1


def dense(histories: Histories) -> np.ndarray:
    """The matrix, entry by entry."""
    matrix = np.zeros((len(histories), histories.n_items), np.float32)
    for row in range(len(histories)):
        for n in range(histories.indptr[row], histories.indptr[row + 1]):
            matrix[row, histories.items[n]] += histories.weights[n]
    return matrix


def test_matrix_is_canonical_and_adds_repeats_up() -> None:
    matrix = LARGE.matrix
    assert LARGE.n_interactions > matrix.nnz  # there are repeats
    assert matrix.has_canonical_format
    assert matrix.dtype == np.float32
    np.testing.assert_allclose(matrix.toarray(), dense(LARGE), rtol=1e-6)


def test_item_matrix_width_follows_the_catalogue_not_the_data_seen() -> None:
    assert Histories.from_rows([[0], [1]], 9).matrix.shape == (2, 9)


@pytest.mark.parametrize("rows", [slice(3, 17), slice(0, 0), slice(-4, None), np.array([7, 0, 7, 59]), np.array([], int)])
def test_take_is_scipys_row_index(rows: slice | np.ndarray) -> None:
    taken = LARGE.take(rows)
    np.testing.assert_allclose(taken.matrix.toarray(), LARGE.matrix[rows].toarray(), rtol=1e-6)
    places = np.arange(len(LARGE))[rows]
    assert taken.times is not None
    assert LARGE.times is not None
    for new, old in enumerate(places):
        assert taken.row(new).tolist() == LARGE.row(old).tolist()
    assert len(taken.times) == taken.n_interactions


def test_select_keeps_all_rows() -> None:
    keep = LARGE.items % 2 == 0
    even = LARGE.select(keep)
    expected = dense(LARGE)
    expected[:, 1::2] = 0
    assert len(even) == len(LARGE)
    np.testing.assert_allclose(even.matrix.toarray(), expected, rtol=1e-6)


def test_remap_is_scipys_column_index() -> None:
    columns = np.array([3, 20, 4])
    new = np.full(25, -1)
    new[columns] = np.arange(3)
    np.testing.assert_allclose(LARGE.remap(new, 3).matrix.toarray(), LARGE.matrix[:, columns].toarray(), rtol=1e-6)


def test_from_matrix_leaves_explicit_zeros_out_and_its_input_alone() -> None:
    matrix = csr_array((np.array([1.0, 0.0, 2.0, 3.0]), np.array([2, 0, 1, 1]), np.array([0, 2, 4])), shape=(2, 4))
    histories = Histories.from_matrix(matrix)
    assert histories.row(0).tolist() == [2]
    assert histories.weights.tolist() == [1.0, 5.0]
    assert matrix.nnz == 4


def test_lengths_and_rows() -> None:
    histories = Histories.from_rows([[1, 1], [], [0]], 2)
    assert histories.lengths.tolist() == [2, 0, 1]
    assert histories.rows.tolist() == [0, 0, 2]


def test_holdout_refuses_halves_that_do_not_fit() -> None:
    one, other = Histories.from_rows([[0], [1]], 3), Histories.from_rows([[1], [2]], 3)
    users = IdMap((1, 2))
    assert Holdout(users, one, other).n_items == Holdout(users, one, other).n_candidates == 3
    assert Holdout(users, one, other).allow is None
    with pytest.raises(DataError, match="1 users, 2 fold-in rows and 2 held-out rows"):
        Holdout(IdMap((1,)), one, other)
    with pytest.raises(DataError, match="3 items, held-out of 4"):
        Holdout(users, one, Histories.from_rows([[1], [2]], 4))
    with pytest.raises(DataError, match="both in the fold-in and in the held-out"):
        Holdout(users, one, Histories.from_rows([[1], [1]], 3))


def test_candidates_are_columns_and_hold_every_target() -> None:
    users, one, other = IdMap((1, 2)), Histories.from_rows([[0], [1]], 4), Histories.from_rows([[3], [2]], 4)
    found = Holdout(users, one, other, np.array([0, 2, 3]))
    assert found.n_candidates == 3
    assert found.allow is not None
    assert found.allow.tolist() == [True, False, True, True]
    assert found.candidates is not None
    with pytest.raises(ValueError, match="read-only"):
        found.candidates[0] = 1
    for wrong in ([3, 2], [2, 2, 3], [-1, 2, 3], [2, 3, 4]):
        with pytest.raises(DataError, match="candidates must ascend, without repeats, between 0 and 3"):
            Holdout(users, one, other, np.array(wrong))
    with pytest.raises(DataError, match="is no candidate"):
        Holdout(users, one, other, np.array([0, 3]))


@pytest.mark.parametrize("seed", range(4))
def test_shared_interactions_are_those_of_the_same_row_and_item(seed: int) -> None:
    one, other = ragged(seed, 30, 12), ragged(seed + 100, 30, 12)
    expected = [item in other.row(row) for row, item in zip(one.rows, one.items, strict=True)]
    assert one.shared_with(other).tolist() == expected
    empty = one.select(np.zeros(one.n_interactions, np.bool_))
    assert empty.shared_with(one).tolist() == []
    assert not one.shared_with(empty).any()
