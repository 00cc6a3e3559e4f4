from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from recsys_ae import MODELS, Histories, Holdout, IdMap
from recsys_ae.evaluation import mean_metric
from recsys_ae.models import Recommender
from recsys_ae.models.ensemble import BASE, Ensemble, EnsembleConfig, chosen_weights, comparable
from tests.worlds import N_ITEMS, cpu, holdout, tastes

TWO = [{"name": "ease", "regularisation": 5.0}, {"name": "popularity"}]


def ensemble(**settings: object) -> Ensemble:
    return Ensemble(EnsembleConfig(members=TWO, **settings), N_ITEMS)  # type: ignore[arg-type]


def alone(number: int) -> Recommender:
    name, settings = TWO[number]["name"], {key: value for key, value in TWO[number].items() if key != "name"}
    model = MODELS[str(name)](MODELS[str(name)].Config(**settings), N_ITEMS)
    model.fit(tastes(), validation=None, run=cpu())
    return model


def test_scores_are_the_weighted_sum_of_standardised_ones() -> None:
    model = ensemble(weights=(0.7, 0.2))
    model.fit(tastes(), validation=None, run=cpu())
    parts = [alone(n).score(tastes()).double().numpy() for n in range(2)]
    expected = sum(w * (p - p.mean(1, keepdims=True)) / p.std(1, keepdims=True) for w, p in zip((0.7, 0.2), parts, strict=True))
    np.testing.assert_allclose(model.score(tastes()), expected, atol=1e-4)


def test_by_rank_the_scale_of_a_member_does_not_count() -> None:
    scores = torch.tensor([[3.0, 1.0, 2.0]])
    torch.testing.assert_close(comparable(scores, "rank"), 1 / (BASE + torch.tensor([[1.0, 3.0, 2.0]])))
    assert torch.equal(comparable(scores, "rank"), comparable(1e6 * scores, "rank"))


class Planted(Recommender):
    """Scores of row u, given as they are to be; row u is the history of item u."""

    planted: torch.Tensor

    def fit(self, *_: object, **__: object) -> None: ...  # type: ignore[override]
    def layout(self) -> dict[str, int | None]:
        return {"x": None}

    def _score(self, histories: Histories, items: torch.Tensor | None) -> torch.Tensor:
        return self.planted[torch.from_numpy(histories.items.astype(np.int64))]


def planted(scores: torch.Tensor) -> Recommender:
    model = Planted(None, scores.shape[1]).restore({"x": torch.zeros(1)})
    model.planted = scores
    return model


def test_weights_find_the_mixture_that_neither_member_is() -> None:
    """What is wanted is seen through the noise of two members, independent and of the same size, and not by a third."""
    generator = torch.Generator().manual_seed(0)
    n, width = 200, 300
    wanted = torch.randint(n, width, (n,), generator=generator)
    truth = torch.zeros(n, width)
    truth[torch.arange(n), wanted] = 1
    noise = torch.randn(3, n, width, generator=generator)
    members = [planted(2.0 * truth + noise[0]), planted(2.0 * truth + noise[1]), planted(noise[2])]
    users = IdMap(tuple(range(n)))
    validation = Holdout(
        users, Histories.from_rows([[i] for i in range(n)], width), Histories.from_rows([[int(w)] for w in wanted], width)
    )
    weights = chosen_weights(members, "score", validation, "ndcg@20")
    assert 0.5 <= weights[0] / weights[1] <= 2
    assert weights[2] <= 0.3 * min(weights[:2])


def test_what_is_chosen_by_is_the_metric_itself() -> None:
    """No weights of the grid do better on the validation users, judged whole."""
    validation = holdout()
    chosen = ensemble()
    record = chosen.fit(tastes(), validation=validation, run=cpu(metric="ndcg@5"))
    assert record.weights == chosen.tensors()["weights"].tolist()
    value = mean_metric(chosen, validation, "ndcg@5")
    for weights in ((1.0, 0.0), (0.0, 1.0)):
        other = ensemble(weights=weights)
        other.fit(tastes(), validation=None, run=cpu())
        assert value >= mean_metric(other, validation, "ndcg@5")


def test_a_refit_keeps_weights_and_epochs() -> None:
    members = [{"name": "ease"}, {"name": "mult_dae", "latent": 8, "epochs": 4, "patience": 1, "batch_size": 10}]
    model = Ensemble(EnsembleConfig(members=members), N_ITEMS)  # type: ignore[arg-type]
    run = cpu(metric="ndcg@5")
    record = model.fit(tastes(), validation=holdout(), run=run)
    again = model.fit(tastes(60), validation=None, run=replace(run, found=record, stop_after=record.best_epoch or None))
    assert again.weights == record.weights
    assert [m.epochs for m in again.members] == [0, record.members[1].best_epoch]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([{"name": "eaze"}], "member 'eaze' is unknown; expected one of popularity"),
        ([{"name": "ensemble"}], "member 'ensemble' is unknown"),
        ([{"name": "ease", "lambda": 3}], "lambda"),
        ([], "at least 1 item"),
    ],
)
def test_a_wrong_member_is_named(members: list[dict[str, object]], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EnsembleConfig(members=members)  # type: ignore[arg-type]


@pytest.mark.parametrize("weights", [(1.0,), (0.0, 0.0)])
def test_weights_must_fit_the_members(weights: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError, match="expected 2, one a member, not all 0"):
        ensemble(weights=weights)


def test_the_record_says_in_what_precision_the_members_were_trained() -> None:
    members = [{"name": "ease"}, {"name": "mult_dae", "latent": 8, "epochs": 2, "batch_size": 10}]
    for precision in ("float32", "bfloat16"):
        model = Ensemble(EnsembleConfig(members=members), N_ITEMS)  # type: ignore[arg-type]
        record = model.fit(tastes(), validation=None, run=cpu(precision=precision))
        assert record.precision == precision
        assert [m.epochs for m in record.members] == [0, 2]
