import numpy as np
import pytest
import torch

from recsys_ae import Histories, Holdout
from recsys_ae.models.mult_dae import MultDAE, MultDAEConfig
from recsys_ae.training.batches import Bags, DeviceHistories
from tests.worlds import fitted, ragged, tastes

CPU = torch.device("cpu")
HISTORIES = ragged(0, 30, 12)


def dense(bags: Bags, n_items: int) -> np.ndarray:
    matrix = torch.zeros(len(bags), n_items)
    matrix.index_put_((bags.rows, bags.columns), bags.weights, accumulate=True)
    return matrix.numpy()


@pytest.mark.parametrize("rows", [[3, 1, 29, 0, 3], [0], [], list(range(30))])
def test_a_batch_holds_the_rows_asked_for(rows: list[int]) -> None:
    bags = DeviceHistories(HISTORIES, CPU).batch(torch.tensor(rows, dtype=torch.int64))
    np.testing.assert_array_equal(dense(bags, 12), HISTORIES.matrix.toarray()[rows])
    assert len(bags) == len(rows)


def test_repeats_are_folded() -> None:
    bags = DeviceHistories(Histories.from_rows([[2, 2, 1]], 3), CPU).whole()
    assert bags.columns.tolist() == [1, 2]
    assert bags.weights.tolist() == [1, 2]


def test_normalised_rows_have_length_one() -> None:
    bags = DeviceHistories(HISTORIES, CPU).whole().normalised()
    norms = np.linalg.norm(dense(bags, 12), axis=1)
    np.testing.assert_allclose(norms[HISTORIES.lengths > 0], 1, rtol=1e-6)


def test_an_all_zero_row_divided_by_its_norm_gives_no_nan() -> None:
    bags = DeviceHistories(Histories.from_rows([[], [0], []], 2), CPU).whole().normalised()
    assert dense(bags, 2).tolist() == [[0, 0], [1, 0], [0, 0]]
    tiny = DeviceHistories(Histories.from_rows([[0]], 2, [[1e-30]]), CPU).whole().normalised()
    assert tiny.weights.isfinite().all()


def test_dropout_keeps_the_share_it_states() -> None:
    bags = DeviceHistories(Histories.from_rows([list(range(1_000))] * 50, 1_000), CPU).whole()
    for p in (0.0, 0.2, 0.5, 0.9):
        kept = bags.kept(p, torch.Generator().manual_seed(0))
        assert float(kept.float().mean()) == pytest.approx(1 - p, abs=0.01)


def test_what_is_kept_is_scaled_to_the_same_mean() -> None:
    bags = DeviceHistories(Histories.from_rows([list(range(1_000))] * 50, 1_000), CPU).whole()
    for p in (0.2, 0.5, 0.9):
        model = MultDAE(MultDAEConfig(dropout=p), 1_000)
        corrupted, kept = model._corrupted(bags, torch.Generator().manual_seed(0))
        torch.testing.assert_close(corrupted.weights, kept / ((1 - p) * 1_000**0.5))


def test_dropout_follows_its_generator_and_leaves_its_input_alone() -> None:
    bags = DeviceHistories(HISTORIES, CPU).whole()
    before = bags.weights.clone()
    one, same, other = (bags.kept(0.5, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(bags.weights, before)


@pytest.mark.parametrize("name", ["mult_dae", "mult_vae"])
def test_rows_are_neither_densified_on_the_host_nor_copied_at_every_step(
    name: str, monkeypatch: pytest.MonkeyPatch, holdout: Holdout
) -> None:
    """The matrix goes to the device once a fit, however many epochs and steps there are."""
    copies = []
    for kind in (type(holdout.fold_in.matrix),):
        for method in ("toarray", "todense"):
            monkeypatch.setattr(kind, method, lambda *_, **__: pytest.fail("a dense row on the host"))
    real = DeviceHistories.__init__

    def counted(self: DeviceHistories, histories: Histories, device: torch.device) -> None:
        copies.append(len(histories))
        real(self, histories, device)

    monkeypatch.setattr(DeviceHistories, "__init__", counted)
    train = tastes()
    fitted(name, train, epochs=1)
    once = len(copies)
    copies.clear()
    fitted(name, train, epochs=6, batch_size=2)
    assert len(copies) == once <= 2
