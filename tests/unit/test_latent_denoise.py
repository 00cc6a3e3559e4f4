"""Support: foreign interactions have the least, whatever the model; the definition is written out again."""

import numpy as np
import pytest

from recsys_ae.errors import DataError
from recsys_ae.histories import Histories
from recsys_ae.latent import denoise as module
from recsys_ae.latent.denoise import least_supported, support
from recsys_ae.models import Recommender
from tests.worlds import N_ITEMS, N_TASTES, fitted, ragged, tastes


def foreign(seed: int = 5) -> tuple[Histories, np.ndarray]:
    """Ten users with eight items of one taste and one of another, anywhere among them."""
    rng = np.random.default_rng(seed)
    rows, planted = [], []
    for user in range(10):
        own = rng.choice(np.arange(user % N_TASTES, N_ITEMS, N_TASTES), 8, replace=False)
        other = rng.choice(np.flatnonzero(np.arange(N_ITEMS) % N_TASTES != user % N_TASTES))
        row = rng.permutation([*own, other])
        rows.append(row.tolist())
        planted.append(row == other)
    return Histories.from_rows(rows, N_ITEMS), np.concatenate(planted)


def trained(name: str) -> Recommender:
    changes = (
        {"epochs": 15, "learning_rate": 0.02} if name.startswith("mult") else {"regularisation": 1.0} if name == "als" else {}
    )
    return fitted(name, tastes(150, weighted=False), **changes)


@pytest.mark.parametrize("name", ["ease", "item_knn", "als", "mult_dae", "mult_vae"])
def test_a_foreign_item_has_the_least_support_of_its_history(name: str) -> None:
    histories, planted = foreign()
    found = support(trained(name), histories)
    least = [np.argmin(found[start : start + 9]) for start in histories.indptr[:-1]]
    assert planted[histories.indptr[:-1] + least].sum() >= 9  # of ten; two items of other tastes may meet by chance
    assert found[~planted].mean() > 0.7
    np.testing.assert_array_equal(least_supported(found, planted.mean()).sum(), planted.sum())


def test_support_is_the_share_of_other_items_that_score_lower_without_the_item() -> None:
    model = trained("ease")
    histories = ragged(3, 12, N_ITEMS)
    found = support(model, histories, folds=100)  # each distinct item alone
    for entry, (row, item) in enumerate(zip(histories.rows.tolist(), histories.items.tolist(), strict=True)):
        keep = histories.row(row) != item
        own = slice(histories.indptr[row], histories.indptr[row + 1])
        rest = Histories.from_rows([histories.row(row)[keep].tolist()], N_ITEMS, [histories.weights[own][keep].tolist()])
        scores = model.score(rest)[0].numpy()
        outside = np.delete(scores, np.unique(histories.row(row)))
        expected = ((outside < scores[item]).sum() + (outside == scores[item]).sum() / 2) / len(outside)
        assert found[entry] == pytest.approx(expected, abs=1.01 / len(outside))  # a near tie may fall either way


def test_batches_do_not_matter_and_parts_are_even(monkeypatch: pytest.MonkeyPatch) -> None:
    model, histories = trained("item_knn"), ragged(4, 30, N_ITEMS, longest=20)
    whole = support(model, histories, folds=3, seed=7)
    monkeypatch.setattr(module, "SCORES", 2 * N_ITEMS)
    np.testing.assert_allclose(whole, support(model, histories, folds=3, seed=7), atol=1e-6)
    part = module._parts(histories, 3, 7)
    for row in range(len(histories)):
        own = slice(histories.indptr[row], histories.indptr[row + 1])
        distinct = dict(zip(histories.items[own].tolist(), part[own].tolist(), strict=True))
        assert [distinct[item] for item in histories.items[own].tolist()] == part[own].tolist()  # a repeat is with the first
        sizes = np.bincount(list(distinct.values()), minlength=3)
        assert sizes.max() - sizes.min() <= 1
    assert (module._parts(histories, 3, 8) != part).any()


def test_random_clicks_are_spread_evenly() -> None:
    rng = np.random.default_rng(0)
    rows = [rng.choice(N_ITEMS, 5, replace=False).tolist() for _ in range(400)]
    found = support(trained("popularity"), Histories.from_rows(rows, N_ITEMS))
    np.testing.assert_allclose(np.quantile(found, (0.1, 0.5, 0.9)), (0.1, 0.5, 0.9), atol=0.05)


def test_short_empty_and_full_histories() -> None:
    model = trained("popularity")
    assert support(model, Histories.from_rows([], N_ITEMS)).shape == (0,)
    assert support(model, Histories.from_rows([[], []], N_ITEMS)).shape == (0,)
    assert 0 <= support(model, Histories.from_rows([[3]], N_ITEMS))[0] <= 1
    assert set(support(model, Histories.from_rows([list(range(N_ITEMS))], N_ITEMS)).tolist()) == {0.5}
    with pytest.raises(DataError, match="folds = 1; expected 2 or more"):
        support(model, tastes(), folds=1)


def test_shares_are_counted() -> None:
    supports = np.array([0.9, 0.1, 0.8, 0.1, 0.6], np.float32)
    assert least_supported(supports, 0.4).tolist() == [False, True, False, True, False]
    assert least_supported(supports, 0.2).tolist() == [False, True, False, False, False]  # of equal ones the first
    assert not least_supported(supports, 0).any() and least_supported(supports, 1).all()
