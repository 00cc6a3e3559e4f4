"""conv_vae against a plain padded network in torch, and what a sequence model must not do."""

import numpy as np
import pytest
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from recsys_ae import Histories, rank_top_k
from recsys_ae.models.conv_vae import ConvVAE, ConvVAEConfig, slots_of
from recsys_ae.training.batches import OrderedHistories
from tests.worlds import cpu, ragged

CPU = torch.device("cpu")
N = 30
SMALL = {"latent": 6, "dropout": 0.0, "beta": 0.0, "dilations": (1, 2), "kernel": 3, "window": 5}


def begun(**changes: object) -> tuple[ConvVAE, dict[str, Tensor]]:
    """A model and what it begins with, of weights large enough to tell."""
    model = ConvVAE(ConvVAEConfig(**SMALL | changes), N)
    p = model.initial(Generator().manual_seed(0))
    drawn = Generator().manual_seed(1)
    return model, {name: t + 0.3 * torch.randn(t.shape, generator=drawn) for name, t in p.items()}


def plain(p: dict[str, Tensor], row: list[int]) -> Tensor:
    """Logits (L + 1, I) at the beginning and after each event, by torch's own convolution of one history."""
    x = torch.stack([p["encoder.begin"], *p["encoder.0.weight"][row]]).T[None]  # (1, Z, L + 1)
    z = x.shape[1]
    for j, dilation in enumerate((1, 2)):
        h = F.layer_norm(x.transpose(1, 2), (z,), p[f"block.{j}.norm.weight"], p[f"block.{j}.norm.bias"]).transpose(1, 2)
        kernel = torch.stack(
            p[f"block.{j}.weight"].split(z, 1)[::-1], 2
        )  # the newest event comes first in ours, last in torch's
        h = F.conv1d(F.pad(h, (2 * dilation, 0)), kernel, p[f"block.{j}.bias"], dilation=dilation)
        x = x + F.gelu(h)
    state = F.layer_norm(x[0].T, (z,), p["code.norm.weight"], p["code.norm.bias"])
    mean = (state @ p["code.weight"].T + p["code.bias"])[:, :z]
    return mean @ p["encoder.0.weight"].T + p["decoder.0.bias"]


ROWS = [[3, 9, 12, 4], [], [7], [1, 2, 3, 4, 5, 6, 7, 8]]


def test_scores_are_those_of_a_plain_causal_convolution_over_the_last_events() -> None:
    model, p = begun()
    found = model.restore(p).score(Histories.from_rows(ROWS, N))
    for row, scores in zip(ROWS, found, strict=True):
        torch.testing.assert_close(scores, plain(p, row[-5:])[-1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ahead", [1, 3])
@pytest.mark.parametrize("negatives", [1000, 4])
def test_the_objective_is_the_likelihood_of_what_follows_every_event(ahead: int, negatives: int) -> None:
    """Over all items, and, where some are drawn, on the mean over many draws of the normaliser."""
    model, p = begun(ahead=ahead, negatives=negatives)
    rows = [row for row in ROWS if 0 < len(row) <= 5]
    logits = torch.cat([plain(p, row)[:-1] for row in rows])
    targets = torch.cat([torch.zeros(len(row), N).index_put_(_following(row, ahead), torch.tensor(1.0)) for row in rows])
    expected = -(targets * logits.log_softmax(1)).sum(1).mean()
    bags = OrderedHistories(Histories.from_rows(rows, N), CPU).whole()
    draws = 1 if negatives >= N else 200
    found = [float(model._objective(p, bags, 1.0, Generator().manual_seed(s))) for s in range(draws)]
    # The log of an estimate without bias is a little low in the mean (Jensen).
    assert np.mean(found) == pytest.approx(float(expected), rel=1e-5 if negatives >= N else 0.05)


def _following(row: list[int], ahead: int) -> tuple[Tensor, Tensor]:
    pairs = [(t, item) for t in range(len(row)) for item in row[t : t + ahead]]
    return torch.tensor([t for t, _ in pairs]), torch.tensor([item for _, item in pairs])


def test_nothing_of_the_future_or_of_another_row_reaches_a_code() -> None:
    model, p = begun()

    def codes(rows: list[list[int]]) -> Tensor:
        bags = OrderedHistories(Histories.from_rows(rows, N), CPU).whole()
        slots = slots_of(bags, 5, Generator().manual_seed(0))
        return model._states(p, bags, slots, None)

    one, other = codes([[1, 2, 3, 4], [5, 6]]), codes([[1, 2, 9, 8], [5, 6]])
    torch.testing.assert_close(one[:3], other[:3])  # the beginning, 1 and 2
    torch.testing.assert_close(one[5:], other[5:])
    assert (one[3:5] - other[3:5]).abs().min(1).values.max() > 1e-4


def test_a_long_row_is_trained_on_at_any_stretch_and_scored_at_its_end() -> None:
    bags = OrderedHistories(Histories.from_rows([list(range(20)), [3]], N), CPU).whole()
    seen = set()
    for seed in range(60):
        slots = slots_of(bags, 5, Generator().manual_seed(seed))
        assert slots.lengths.tolist() == [5, 1] and slots.places.tolist() == [0, 1, 2, 3, 4, 5, 0, 1]
        events = slots.events[1:6].tolist()
        assert events == list(range(events[0], events[0] + 5)) and slots.events[7] == 20
        seen.add(events[0])
    assert seen == set(range(16))
    assert slots_of(bags, 5, None).events[1:6].tolist() == [15, 16, 17, 18, 19]


def test_the_order_that_was_planted_is_found() -> None:
    """Item i + 7 follows item i, from any beginning: after a history, that one is the first of all."""
    rows = [[(first + 7 * step) % N for step in range(6)] for first in range(N)] * 4
    model = ConvVAE(ConvVAEConfig(latent=32, window=10, epochs=30, learning_rate=0.01, batch_size=30), N)
    model.fit(Histories.from_rows(rows, N), validation=None, run=cpu())
    asked = Histories.from_rows([[(first + 7) % N, (first + 14) % N] for first in range(N)], N)
    assert rank_top_k(model, asked, 1).items[:, 0].tolist() == [(first + 21) % N for first in range(N)]


def test_without_a_prior_the_code_has_no_variance() -> None:
    histories = ragged(1, 5, N)
    for beta, certain in ((0.0, True), (0.01, False)):
        model, p = begun(beta=beta)
        assert (model.restore(p).encode(histories).log_variance is None) == certain


def test_of_more_codes_than_a_step_may_hold_a_part_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys_ae.models.conv_vae.LOGITS", 3 * N)
    model, p = begun()
    sizes = []
    real = ConvVAE._reconstruction
    monkeypatch.setattr(
        ConvVAE, "_reconstruction", lambda self, p, z, *rest: (sizes.append(len(z)), real(self, p, z, *rest))[1]
    )
    bags = OrderedHistories(Histories.from_rows(ROWS[::2], N), CPU).whole()
    assert model._objective(p, bags, 1.0, Generator().manual_seed(0)).isfinite() and sizes == [3]
