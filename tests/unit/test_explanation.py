"""Influences of a planted linear model, of histories with repeats and of none; leave-one-out in blocks."""

import numpy as np
import pytest
import torch

from recsys_ae import Histories, explain, explanation
from recsys_ae.errors import DataError
from recsys_ae.models.ease import EASE, EASEConfig
from recsys_ae.models.elsa import ELSA
from recsys_ae.models.item_knn import ItemKNN
from recsys_ae.models.mult_dae import MultDAE
from tests.worlds import N_ITEMS, fitted, tastes

WEIGHTS = torch.tensor([[0.0, 2.0, -1.0], [0.5, 0.0, 3.0], [0.25, 4.0, 0.0]])


def planted() -> EASE:
    """scores = x W."""
    return EASE(EASEConfig(), 3).restore({"weights": WEIGHTS})


def test_of_a_linear_model_it_is_the_weight_of_one_item_on_the_other() -> None:
    found = explain(planted(), Histories.from_rows([[2, 0]], 3, [[2.0, 0.5]]), [1, 2])
    assert found.history.tolist() == [0, 2]
    assert found.values.tolist() == [[1.0, -0.5], [8.0, 0.0]]
    assert found.strongest(0, 5) == [(2, 8.0), (0, 1.0)]
    assert found.strongest(1, 1) == [(2, 0.0)]


def test_repeats_of_an_item_speak_once_and_together() -> None:
    found = explain(planted(), Histories.from_rows([[1, 1]], 3, [[1.0, 2.0]]), [2])
    assert (found.history.tolist(), found.values.tolist()) == ([1], [[9.0]])


@pytest.mark.parametrize("kind", [EASE, ELSA, ItemKNN, MultDAE])
def test_nothing_is_explained_by_nothing(kind: type) -> None:
    model = fitted({EASE: "ease", ELSA: "elsa", ItemKNN: "item_knn", MultDAE: "mult_dae"}[kind], tastes())
    assert explain(model, Histories.from_rows([[]], N_ITEMS), [1, 2]).values.shape == (0, 2)
    assert explain(model, Histories.from_rows([[4]], N_ITEMS), []).values.shape == (1, 0)


def test_the_only_item_of_a_history_is_all_there_is() -> None:
    model = fitted("mult_dae", tastes())
    one, none = (model.score(Histories.from_rows([row], N_ITEMS)) for row in ([4], []))
    found = explain(model, Histories.from_rows([[4]], N_ITEMS), np.arange(N_ITEMS))
    np.testing.assert_allclose(found.values, (one - none).numpy(), atol=1e-6)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, history = fitted("mult_dae", tastes()), Histories.from_rows([[5, 1, 9, 30, 7]], N_ITEMS)
    whole = explain(model, history, [2, 3]).values
    monkeypatch.setattr(explanation, "CELLS", 2 * N_ITEMS)
    np.testing.assert_allclose(explain(model, history, [2, 3]).values, whole, atol=1e-6)


def test_one_history_at_a_time() -> None:
    with pytest.raises(DataError, match="2 histories"):
        explain(planted(), Histories.from_rows([[0], [1]], 3), [1])
