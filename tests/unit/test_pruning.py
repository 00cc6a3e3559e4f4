import numpy as np
import pytest
import torch
from torch import Tensor

from recsys_ae import FitRecord, Histories, pruning, rank_top_k
from recsys_ae.errors import ModelError
from recsys_ae.masks import masked_
from recsys_ae.models import ModelConfig
from recsys_ae.models.base import FactorRecommender
from recsys_ae.products import Factors, products
from recsys_ae.pruning import PrunedProducts
from recsys_ae.top_k import top_k
from tests.worlds import ragged

N_ITEMS, K, WIDTH = 4_003, 10, 16


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "LEAST_ITEMS", 100)
    monkeypatch.setattr(pruning, "LEAST_ROWS", 1)


def factors(n_rows: int, skew: float, bias: bool = True, seed: int = 0) -> Factors:
    """Items whose lengths fall by a power of their rank, in no order."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.arange(1.0, N_ITEMS + 1)[torch.randperm(N_ITEMS, generator=generator)] ** -skew
    weight = torch.randn(N_ITEMS, WIDTH, generator=generator) * lengths[:, None]
    queries = torch.randn(n_rows, WIDTH, generator=generator) * torch.rand(n_rows, 1, generator=generator)
    return Factors(queries, weight, torch.randn(N_ITEMS, generator=generator) * lengths if bias else None)


class Given(FactorRecommender):
    """Row u of the queries is for the history that begins with item u."""

    given: Factors

    def fit(self, *_: object, **__: object) -> FitRecord:
        raise NotImplementedError

    def layout(self) -> dict[str, int | None]:
        return {"weight": 0}

    def _factors(self, histories: Histories) -> Factors:
        rows = torch.from_numpy(histories.items[histories.indptr[:-1]].astype(np.int64))
        return self.given._replace(queries=self.given.queries[rows])


def given(factors: Factors) -> Given:
    model = Given(ModelConfig(), N_ITEMS).restore({"weight": factors.weight})
    model.given = factors
    return model


def histories(n_rows: int) -> Histories:
    rng = np.random.default_rng(0)
    return Histories.from_rows(
        [[u, *rng.choice(np.arange(n_rows, N_ITEMS), 30, replace=False)] for u in range(n_rows)], N_ITEMS
    )


def assert_same(found: tuple[Tensor, Tensor], scores: Tensor) -> None:
    values = top_k(scores, K)[0]
    torch.testing.assert_close(found[0], values, rtol=1e-4, atol=1e-5)
    real = values > -torch.inf
    torch.testing.assert_close(scores.gather(1, found[1])[real], values[real], rtol=1e-4, atol=1e-5)
    assert all(len(set(row.tolist())) == K for row in found[1][real.all(1)])


@pytest.mark.parametrize("skew", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("masks", ["none", "seen", "seen and banned"])
def test_equals_the_k_best_of_all_scores(skew: float, bias: bool, masks: str) -> None:
    f, seen = factors(60, skew, bias), histories(60)
    left_out = [] if masks == "none" else [seen, ragged(1, 60, N_ITEMS)]
    banned = torch.rand(N_ITEMS, generator=torch.Generator().manual_seed(3)) < 0.4 if masks == "seen and banned" else None
    found = PrunedProducts(K).top_k(f, left_out, banned)
    assert found is not None
    assert_same(found, masked_(products(f), left_out, banned))


def test_long_and_short_queries_and_some_of_no_length_at_all() -> None:
    """A query of length 0 is all ties; where few items are left, every list ends early."""
    f = factors(60, 0.6)
    f.queries[::7] *= 1e-4
    f.queries[::11] *= 1e4
    f.queries[5] = 0
    assert_same(PrunedProducts(K).top_k(f, [], None), masked_(products(f), [], None))  # type: ignore[arg-type]
    f = f._replace(bias=None)
    found = PrunedProducts(K).top_k(f, [], None)
    assert found is not None
    assert found[1][5].tolist() == list(range(K))
    banned = torch.ones(N_ITEMS, dtype=torch.bool)
    banned[[7, 3_000]] = False
    found = PrunedProducts(K).top_k(f, [], banned)
    assert found is not None
    assert (found[0][:, 2:] == -torch.inf).all()
    assert {tuple(sorted(row.tolist())) for row in found[1][:, :2]} == {(7, 3_000)}


def test_equal_items_are_in_order_of_column() -> None:
    """Whole numbers, so that nothing is rounded."""
    f = factors(40, 1.0, bias=False)
    f.queries.mul_(4).round_()
    f.weight.round_()
    twins = f.weight.square().sum(1).argsort(descending=True)[:40]
    f.weight[twins] = 5 * f.queries[0].sign()
    found = PrunedProducts(K).top_k(f, [], None)
    assert found is not None
    best = f.queries @ f.weight[twins[0]] > products(f).kthvalue(N_ITEMS - 40, 1).values
    assert best[0]
    assert all(row.tolist() == sorted(twins.tolist())[:K] for row in found[1][best])


def test_most_products_are_skipped_where_lengths_differ_and_it_gives_up_where_they_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    computed = [0]
    real = pruning.dense_product

    def counting(left: Tensor, right: Tensor) -> Tensor:
        computed[0] += len(left) * len(right)
        return real(left, right)

    monkeypatch.setattr(pruning, "dense_product", counting)
    skewed = PrunedProducts(K)
    skewed.top_k(factors(60, 1.0, bias=False), [], None)
    assert computed[0] < 0.3 * 60 * N_ITEMS
    assert skewed.pays(histories(60))
    even = PrunedProducts(K)
    even.top_k(factors(60, 0.0), [], None)
    assert not even.pays(histories(60))


@pytest.mark.parametrize("skew", [0.0, 1.0])
def test_rank_top_k_is_the_same_with_and_without(skew: float, monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = given(factors(90, skew)), histories(90)
    exclude, allow = ragged(2, 90, N_ITEMS), np.random.default_rng(1).random(N_ITEMS) < 0.7
    pruned = rank_top_k(model, rows, K, exclude=exclude, allow=allow, batch_size=40)
    monkeypatch.setattr(pruning, "LEAST_ITEMS", 10**9)
    plain = rank_top_k(model, rows, K, exclude=exclude, allow=allow, batch_size=40)
    np.testing.assert_array_equal(pruned.items, plain.items)
    np.testing.assert_allclose(pruned.scores, plain.scores, rtol=1e-4, atol=1e-5)


def test_scores_that_are_not_a_number_are_an_error() -> None:
    f = factors(40, 1.0)
    f.queries[3] = torch.nan
    with pytest.raises(ModelError, match="not a number"):
        rank_top_k(given(f), histories(40), K)
