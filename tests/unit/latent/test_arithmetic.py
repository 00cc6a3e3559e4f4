"""Planted tastes: two of them less one leave the other; a group gets what its members share."""

from functools import cache

import pytest
import torch

from recsys_ae.errors import DataError, WidthError
from recsys_ae.histories import Histories
from recsys_ae.latent.arithmetic import blend, less
from recsys_ae.models import Recommender
from recsys_ae.models.ensemble import comparable
from tests.worlds import N_ITEMS, N_TASTES, fitted, tastes


@cache
def model(name: str) -> Recommender:
    changes = {"epochs": 12, "learning_rate": 1e-2, "batch_size": 25} if name.startswith("mult") else {"regularisation": 5.0}
    return fitted(name, tastes(150, weighted=False), **changes)


def items_of(taste: int, start: int = 0, n: int = 5) -> list[int]:
    return [item for item in range(N_ITEMS) if item % N_TASTES == taste][start : start + n]


def rows(*tastes_: list[int]) -> Histories:
    return Histories.from_rows(tastes_, N_ITEMS)


def best(scores: torch.Tensor, but: list[int], k: int = 4) -> list[int]:
    """Tastes of the best items that no history holds."""
    scores = scores[0].clone()
    scores[but] = -torch.inf
    return [int(i) % N_TASTES for i in scores.topk(k).indices]


@pytest.mark.parametrize("name", ["mult_dae", "mult_vae", "ease"])
def test_two_tastes_less_one_leave_the_other(name: str) -> None:
    a, b, other_a = items_of(0), items_of(1), items_of(0, 5)
    found = less(model(name), rows(a + b), rows(other_a))
    assert best(found, a + b + other_a) == [1] * 4
    assert {0, 1} <= set(best(model(name).score(rows(a + b)), a + b + other_a, 8))  # before, both are there


@pytest.mark.parametrize("name", ["mult_vae", "ease"])
def test_nothing_less_nothing(name: str) -> None:
    a, b = rows(items_of(0)), rows(items_of(1))
    plain = model(name).score(a)
    assert torch.allclose(less(model(name), a, rows([])), plain, atol=1e-5)
    assert torch.allclose(less(model(name), a, b, strength=0.0), plain, atol=1e-5)
    assert not torch.allclose(less(model(name), a, b), plain, atol=1e-2)


@pytest.mark.parametrize("name", ["mult_dae", "mult_vae"])
def test_a_group_of_two_tastes_is_offered_both_and_more_of_whom_counts_more(name: str) -> None:
    a, b = items_of(0), items_of(1)
    group, seen = rows(a, b), a + b
    assert set(best(blend(model(name), group), seen, 8)) == {0, 1}
    assert best(blend(model(name), group, weights=torch.tensor([0.0, 2.0])), seen) == [1] * 4
    assert torch.allclose(blend(model(name), rows(a)), model(name).score(rows(a)), atol=1e-5)


def test_least_misery_takes_the_least_score_and_the_average_the_mean() -> None:
    group = rows(items_of(0), items_of(1), items_of(2))
    each = comparable(model("ease").score(group), "score")
    assert torch.equal(blend(model("ease"), group, "least_misery")[0], each.min(0).values)
    assert torch.allclose(blend(model("ease"), group, "average")[0], each.mean(0), atol=1e-6)


def test_nobody_is_made_miserable() -> None:
    """Two members share taste 0 and each has one that the other lacks: what both like comes first."""
    one, other = items_of(0) + items_of(1), items_of(0) + items_of(2)
    found = best(blend(model("ease"), rows(one, other), "least_misery"), one + other)
    assert found == [0] * 4


def test_what_cannot_be_combined_says_why() -> None:
    with pytest.raises(WidthError, match="2 histories to subtract from 1"):
        less(model("ease"), rows([1]), rows([1], [2]))
    with pytest.raises(DataError, match="a group of nobody"):
        blend(model("mult_dae"), Histories.from_rows([], N_ITEMS))
    with pytest.raises(DataError, match="EASE has no codes"):
        blend(model("ease"), rows([1]))
    with pytest.raises(DataError, match="expected no weights"):
        blend(model("ease"), rows([1]), "least_misery", torch.ones(1))
    for wrong in ([1.0], [-1.0, 2.0], [0.0, 0.0]):
        with pytest.raises(DataError, match="for 2 members"):
            blend(model("mult_dae"), rows([1], [2]), weights=torch.tensor(wrong))
