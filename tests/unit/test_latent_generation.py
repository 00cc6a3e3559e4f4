"""Generation: drawn users are like real ones in what was planted, are nobody's copy, and the same seed draws the same."""

import numpy as np
import pytest
import torch

from recsys_ae.errors import ConfigError, DataError
from recsys_ae.histories import Histories
from recsys_ae.latent.generation import Synthesizer
from recsys_ae.models import MODELS
from recsys_ae.models.base import LatentRecommender
from tests.unit.test_latent_anomalies import N_ITEMS, N_TASTES, ordinary
from tests.worlds import cpu


def trained(name: str, log: Histories) -> LatentRecommender:
    model = MODELS[name](MODELS[name].Config(latent=16, epochs=25, batch_size=50, learning_rate=0.01), N_ITEMS)
    model.fit(log, validation=None, run=cpu())
    assert isinstance(model, LatentRecommender)
    return model


@pytest.fixture(scope="module")
def log() -> Histories:
    return ordinary(400, 0)


@pytest.fixture(scope="module")
def model(log: Histories) -> LatentRecommender:
    return trained("mult_vae", log)


def drawn(made: Synthesizer, n: int, seed: int = 0) -> Histories:
    return Histories.stack(list(made.draw(n, seed)))


def purity(histories: Histories) -> float:
    """The share of its commonest taste in a history, mean over users; of items drawn alike about .4."""
    counts = np.zeros((len(histories), N_TASTES))
    np.add.at(counts, (histories.rows, histories.items % N_TASTES), 1)
    return float((counts.max(1) / counts.sum(1)).mean())


def test_drawn_users_have_the_tastes_lengths_and_popularity_of_real_ones(model: LatentRecommender, log: Histories) -> None:
    found = drawn(Synthesizer.of(model, log), 1_500)
    assert purity(log) > 0.8 and purity(found) > 0.9 * purity(log)
    tastes = np.bincount(found.items % N_TASTES, minlength=N_TASTES) / found.n_interactions
    assert tastes.min() > 0.15
    assert found.lengths.mean() == pytest.approx(log.lengths.mean(), rel=0.03)
    assert found.lengths.min() == log.lengths.min() and found.lengths.max() == log.lengths.max()
    popularity = [np.bincount(h.items, minlength=N_ITEMS) / len(h) for h in (log, found)]
    assert np.corrcoef(*popularity)[0, 1] > 0.95
    assert (np.diff(found.matrix.indptr) == found.lengths).all()  # no item stands twice


def test_nobody_is_copied(model: LatentRecommender, log: Histories) -> None:
    found = drawn(Synthesizer.of(model, log), 500)
    real = {frozenset(log.row(row).tolist()) for row in range(len(log))}
    assert not real & {frozenset(found.row(row).tolist()) for row in range(len(found))}


def test_the_seed_decides_and_blocks_do_not_repeat(model: LatentRecommender, log: Histories) -> None:
    made = Synthesizer.of(model, log, temperature=1.0)
    first, again, other = drawn(made, 1_100), drawn(made, 1_100), drawn(made, 1_100, seed=1)
    assert first.items.tolist() == again.items.tolist() != other.items.tolist()
    assert drawn(made, 1_024).items.tolist() == first.take(slice(0, 1_024)).items.tolist()
    assert first.row(1_024).tolist() != first.row(0).tolist()


def test_a_history_gives_users_of_its_taste(model: LatentRecommender, log: Histories) -> None:
    seed = Histories.from_rows([[1, 5, 9, 13, 17]], N_ITEMS)
    found = drawn(Synthesizer.of(model, log, "history", history=seed), 300)
    assert (found.items % N_TASTES == 1).mean() > 0.6
    assert len({tuple(found.row(row)) for row in range(300)}) == 300


def test_the_prior_is_drawn_from_as_it_is(model: LatentRecommender, log: Histories) -> None:
    made = Synthesizer.of(model, log, "prior", temperature=1.0)
    codes, lengths = made._codes(1_000, np.random.default_rng(0))
    assert abs(codes.mean()) < 0.02 and codes.std() == pytest.approx(1, abs=0.02)
    assert set(lengths) <= set(log.lengths)


def test_items_are_drawn_by_the_softmax_without_replacement(model: LatentRecommender, log: Histories) -> None:
    """One item a user: its frequency is the softmax of logits / temperature."""
    made = Synthesizer.of(model, log, temperature=2.0)
    code = model.encode(log.take(slice(0, 1))).mean
    found = made._items(code.expand(20_000, -1), np.ones(20_000, np.int64), 2.0, np.random.default_rng(0))
    logits = model.score(log.take(slice(0, 1)))[0]
    expected = torch.softmax(logits / 2.0, 0).numpy()
    np.testing.assert_allclose(np.bincount(found.items, minlength=N_ITEMS) / 20_000, expected, atol=0.01)


def test_the_temperature_found_makes_items_as_popular_as_real_ones(model: LatentRecommender, log: Histories) -> None:
    counts = np.log(np.bincount(log.items, minlength=N_ITEMS) + 1.0)
    made = Synthesizer.of(model, log)
    hot = drawn(Synthesizer.of(model, log, temperature=5.0), 800)
    found = drawn(made, 800)
    assert 0.2 < made.temperature < 5
    assert counts[found.items].mean() == pytest.approx(counts[log.items].mean(), abs=0.1)
    assert counts[hot.items].mean() < counts[log.items].mean() - 0.2


def test_a_model_without_variances_draws_blends_and_histories_but_no_prior(log: Histories) -> None:
    dae = trained("mult_dae", log)
    assert purity(drawn(Synthesizer.of(dae, log), 300)) > 0.7
    with pytest.raises(ConfigError, match=r"MultDAE has no standard normal prior; expected a mult_vae"):
        Synthesizer.of(dae, log, "prior")


def test_what_cannot_be_drawn_from_is_refused(model: LatentRecommender, log: Histories) -> None:
    with pytest.raises(DataError, match=r"9 users .* at least 10"):
        Synthesizer.of(model, log.take(slice(0, 9)))
    with pytest.raises(DataError, match="history"):
        Synthesizer.of(model, log, "history")
    with pytest.raises(DataError, match="history"):
        Synthesizer.of(model, log, "aggregated", history=log.take(slice(0, 1)))
    with pytest.raises(DataError, match="would copy"):
        Synthesizer.of(model, log, neighbours=1)
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(DataError, match="temperature"):
            Synthesizer.of(model, log, temperature=wrong)
