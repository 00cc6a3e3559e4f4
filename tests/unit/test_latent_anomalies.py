"""Anomalies: planted strangers stand out, ordinary users do not, and neither order, batch nor epochs matter."""

import numpy as np
import pytest
from scipy.stats import weibull_min

from recsys_ae.errors import DataError, WidthError
from recsys_ae.histories import Histories
from recsys_ae.latent import anomalies
from recsys_ae.latent.anomalies import Anomalies, Tail, Usual, combined
from recsys_ae.models import MODELS
from recsys_ae.models.base import Recommender
from tests.worlds import cpu

N_ITEMS, N_TASTES = 120, 4


def ordinary(n: int, seed: int) -> Histories:
    """Users of one taste, a quarter of the items, early ones more liked; one item in ten from elsewhere."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(n):
        odds = np.where(np.arange(N_ITEMS) % N_TASTES == user % N_TASTES, 9.0, 0.3) / (1 + np.arange(N_ITEMS) // N_TASTES)
        rows.append(rng.choice(N_ITEMS, int(rng.integers(8, 20)), replace=False, p=odds / odds.sum()).tolist())
    return Histories.from_rows(rows, N_ITEMS)


def strange(kind: str, n: int, popular: np.ndarray) -> Histories:
    rng = np.random.default_rng(5)
    rows = []
    for _ in range(n):
        random = rng.choice(N_ITEMS, 14, replace=False)
        rows.append(random.tolist() if kind == "random" else np.union1d(popular[:8], random[:8]).tolist())
    return Histories.from_rows(rows, N_ITEMS)


def auc(low: np.ndarray, high: np.ndarray) -> float:
    return float((high[:, None] > low).mean())


def model_of(name: str, log: Histories, epochs: int = 15) -> Recommender:
    """A few steps an epoch, large ones: quick."""
    changes = {} if name == "ease" else {"latent": 16, "epochs": epochs, "batch_size": 50, "learning_rate": 0.01}
    model = MODELS[name](MODELS[name].Config(**changes), N_ITEMS)
    model.fit(log, validation=None, run=cpu())
    return model


@pytest.fixture(scope="module")
def log() -> Histories:
    return ordinary(400, 0)


@pytest.fixture(scope="module")
def usual(log: Histories) -> Anomalies:
    return Anomalies.of(model_of("mult_vae", log), log)


@pytest.mark.parametrize("name", ["mult_vae", "mult_dae", "ease"])
def test_planted_profiles_stand_out_among_new_users(log: Histories, name: str) -> None:
    judge = Anomalies.of(model_of(name, log), log)
    popular = np.argsort(-np.bincount(log.items, minlength=N_ITEMS))
    low = judge.score(ordinary(200, 1))
    for kind in ("random", "bandwagon"):
        assert auc(low, judge.score(strange(kind, 50, popular))) > 0.95, kind
    assert set(judge.usual) == {"reconstruction", "lift", "spread"} | (set() if name == "ease" else {"code"})


def test_profiles_that_were_trained_on_stand_out_after_few_and_many_epochs(log: Histories) -> None:
    popular = np.argsort(-np.bincount(log.items, minlength=N_ITEMS))
    both = Histories.stack([log, strange("random", 6, popular), strange("bandwagon", 6, popular)])
    for epochs in (8, 32):
        scores = Anomalies.of(model_of("mult_vae", both, epochs), both).score(both)
        assert auc(scores[:400], scores[400:]) > 0.9, epochs


def test_a_threshold_flags_about_the_share_of_ordinary_users_that_it_promises(usual: Anomalies, log: Histories) -> None:
    """Of new users where new users said what is usual, of those trained on where they did."""
    new = Anomalies.of(usual.model, ordinary(1_500, 2))
    for judge, judged in ((new, ordinary(1_500, 3)), (usual, log)):
        for rate in (0.2, 0.05, 0.01):
            share = (judge.score(judged) > judge.threshold(rate)).mean()
            assert share == pytest.approx(rate, abs=0.012 + rate / 2)
    assert usual.threshold(0.001) > usual.threshold(0.01) > usual.threshold(0.5)
    for wrong in (0.0, -0.1, 0.6, float("nan")):
        with pytest.raises(DataError, match="false positive rate"):
            usual.threshold(wrong)


def test_a_tail_is_that_of_the_distribution_though_a_twentieth_are_attackers() -> None:
    scores = weibull_min(2.5, scale=3.0).rvs(20_000, random_state=0)
    assert Tail.of(scores).beyond(0.01) == pytest.approx(weibull_min(2.5, scale=3.0).isf(0.01), rel=0.02)
    mixed = np.concatenate([scores, np.full(1_000, 30.0)])
    assert Tail.of(mixed).beyond(0.01) == pytest.approx(weibull_min(2.5, scale=3.0).isf(0.01), rel=0.05)
    assert np.quantile(mixed, 0.99) == 30  # which the quantile itself would have been


def test_what_is_usual_follows_the_length_and_not_a_few_outliers() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.uniform(1, 5, 3_000)
    figures = 2 * lengths**2 - 3 + np.exp(0.4 * lengths) * rng.standard_normal(3_000)
    figures[:90] = 500.0
    z = Usual.of(lengths, figures).standardised(lengths, figures)
    assert abs(z[90:].mean()) < 0.1 and z[90:].std() == pytest.approx(1, abs=0.15)
    short, long = lengths[90:] < 2, lengths[90:] > 4
    assert z[90:][short].std() == pytest.approx(z[90:][long].std(), rel=0.25)
    assert z[:90].min() > 10


def test_neither_order_nor_batch_nor_repeats_matter(usual: Anomalies, log: Histories, monkeypatch: pytest.MonkeyPatch) -> None:
    some = log.take(slice(0, 40))
    scores = usual.score(some)
    turned = Histories.from_rows([some.row(row)[::-1].tolist() for row in range(40)], N_ITEMS)
    np.testing.assert_allclose(usual.score(turned), scores, rtol=1e-4)
    twice = Histories.from_rows([[*some.row(0), *some.row(0)]], N_ITEMS, [[0.5] * 2 * some.lengths[0]])
    np.testing.assert_allclose(usual.score(twice), scores[:1], rtol=1e-4)
    monkeypatch.setattr(anomalies, "ROWS", 7)
    np.testing.assert_allclose(usual.score(some), scores, rtol=1e-4)


def test_an_item_is_foretold_without_being_seen(usual: Anomalies, log: Histories) -> None:
    """By hand: three items, each its own fold, so that each is judged from the two others."""
    items = [0, 4, 8]
    found = anomalies._foretold(usual.model, Histories.from_rows([items], N_ITEMS))
    for item, log_share in zip(items, found, strict=True):
        rest = [other for other in items if other != item]
        scores = usual.model.score(Histories.from_rows([rest], N_ITEMS))[0].double().numpy()
        scores[rest] = -np.inf
        assert log_share == pytest.approx(scores[item] - np.log(np.exp(scores - scores.max()).sum()) - scores.max(), abs=1e-4)


def test_no_history_no_score(usual: Anomalies) -> None:
    scores = usual.score(Histories.from_rows([[], [3], list(range(N_ITEMS))], N_ITEMS))
    assert np.isnan(scores[0]) and np.isfinite(scores[1:]).all()
    assert len(usual.score(Histories.from_rows([], N_ITEMS))) == 0


def test_parts_count_as_they_are_said_to() -> None:
    one = {name: np.array([3.0, -3.0]) for name in anomalies.STRANGE}
    alone = {name: combined({name: z}).tolist() for name, z in one.items()}
    assert alone == {"reconstruction": [3, 3], "lift": [0, 3], "spread": [3, 0], "code": [3, 3]}
    assert combined(one).tolist() == pytest.approx([27**0.5, 27**0.5])


def test_too_few_users_and_another_catalogue_are_refused(usual: Anomalies, log: Histories) -> None:
    with pytest.raises(DataError, match=r"19 users .* at least 20"):
        Anomalies.of(usual.model, log.take(slice(0, 19)))
    with pytest.raises(WidthError):
        usual.score(Histories.from_rows([[0]], N_ITEMS + 1))
