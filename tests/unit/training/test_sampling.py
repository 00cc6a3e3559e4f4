"""The sampled softmax: what it estimates without bias, what a step changes and what it leaves alone, what it learns."""

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from recsys_ae import MODELS, Histories
from recsys_ae.evaluation import mean_metric
from recsys_ae.training.batches import Bags, DeviceHistories
from recsys_ae.training.loss import multinomial
from recsys_ae.training.sampling import SampledBags, Sampling
from recsys_ae.training.steps import SampledSteps
from tests.worlds import cpu, holdout, small_config, tastes

CPU = torch.device("cpu")


def popular(n_users: int = 400, n_items: int = 300) -> Histories:
    """Users of three to twelve items, some items far more often met than others, some never."""
    rng = np.random.default_rng(0)
    rows = [np.unique((n_items * 0.9 * rng.random(rng.integers(3, 13)) ** 3).astype(int)).tolist() for _ in range(n_users)]
    return Histories.from_rows(rows, n_items)


def test_the_sum_over_the_catalogue_is_estimated_without_bias() -> None:
    histories = popular()
    data = DeviceHistories(histories, CPU)
    sampling, generator = Sampling(data, len(data), 300, 50, 40), Generator().manual_seed(0)
    scores = torch.randn(300, generator=generator)  # of user 7, whatever the batch
    whole = float(scores.exp().sum())
    estimates = []
    for _ in range(1_000):
        others = torch.randperm(399, generator=generator)[:49]
        rows = torch.cat([torch.tensor([7]), others + (others >= 7)])
        items, bags = sampling.draw(data.batch(rows), generator)
        own = torch.isin(items, torch.from_numpy(histories.matrix[[7]].indices.astype("int64")))
        shares = torch.where(own, 0.0, bags.log_shares)
        estimates.append(float((scores[items] - shares).exp().sum()))
    error = np.std(estimates) / len(estimates) ** 0.5
    assert abs(np.mean(estimates) - whole) < 4 * error
    assert error < 0.02 * whole


def test_the_loss_of_a_sample_is_that_of_the_corrected_logits() -> None:
    data = DeviceHistories(popular(), CPU)
    items, bags = Sampling(data, len(data), 300, 20, 30).draw(data.batch(torch.arange(20)), Generator().manual_seed(1))
    logits = torch.randn(20, len(items), generator=Generator().manual_seed(2))
    expected = 0.0
    for user in range(20):
        mine = bags.columns[bags.rows == user].long()
        corrected = logits[user] - bags.log_shares
        corrected[mine] = logits[user, mine]
        expected -= float(torch.log_softmax(corrected, 0)[mine].sum()) / 20
    assert float(multinomial(bags)(logits.clone())) == pytest.approx(expected, rel=1e-5)


def test_a_sample_by_blocks_of_items_has_the_loss_and_gradient_of_the_whole() -> None:
    data = DeviceHistories(popular(), CPU)
    items, bags = Sampling(data, len(data), 300, 20, 30).draw(data.batch(torch.arange(20)), Generator().manual_seed(1))
    whole = torch.randn(20, len(items), generator=Generator().manual_seed(2))
    parted, blocks = whole.clone(), [slice(start, min(start + 31, len(items))) for start in range(0, len(items), 31)]
    excluded = torch.rand(len(bags.columns), generator=Generator().manual_seed(3)) < 0.3
    loss, writer = multinomial(bags, excluded)(whole), multinomial(bags, excluded)
    for block in blocks:
        writer.look(parted[:, block].clone(), block)
    torch.testing.assert_close(writer.loss(), loss)
    for block in blocks:
        writer.gradient(parted[:, block], block)
    torch.testing.assert_close(parted, whole)


def test_a_batch_over_the_items_of_its_step_is_the_same_batch() -> None:
    data = DeviceHistories(popular(), CPU)
    bags = data.batch(torch.tensor([3, 0, 8]))
    items, drawn = Sampling(data, len(data), 300, 3, 5).draw(bags, Generator().manual_seed(0))
    assert torch.equal(items[drawn.columns.long()].int(), bags.columns)
    assert torch.equal(items, items.unique())
    assert isinstance(drawn.normalised(), SampledBags)
    assert (drawn.log_shares <= 0).all()


def objective(parameters: dict[str, Tensor], bags: Bags) -> Tensor:
    """Of rows and of what all share, some loss."""
    rows = parameters["rows"][bags.columns.long()]
    return ((rows @ parameters["shared"]).square() * bags.weights).sum() + parameters["bias"][bags.columns.long()].exp().sum()


def begun() -> dict[str, Tensor]:
    generator = Generator().manual_seed(3)
    shapes = {"rows": (300, 4), "bias": (300,), "shared": (4,)}
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def test_rows_are_moved_as_by_sparse_adam_and_others_not_at_all() -> None:
    data = DeviceHistories(popular(), CPU)
    sampling, generator = (
        Sampling(data, len(data), 300, 10, 0),
        Generator().manual_seed(0),
    )  # which draws no row but the batch's
    mine, theirs = begun(), begun()
    steps = SampledSteps(mine, frozenset(("rows", "bias")), sampling, 0.0)
    reference = torch.optim.SparseAdam([theirs["rows"], theirs["bias"]], lr=0.01)
    others = torch.optim.Adam([theirs["shared"]], lr=0.01)
    mine["shared"].requires_grad_()
    theirs["shared"].requires_grad_()
    met = set[int]()
    for start in range(0, 60, 10):
        bags = data.batch(torch.arange(start, start + 10))
        met |= set(bags.columns.tolist())
        steps.step(mine, bags, objective, 0.01, generator)
        leaves = {name: theirs[name].detach().clone().requires_grad_() for name in ("rows", "bias")}
        others.zero_grad()
        objective(theirs | leaves, bags).backward()
        for name, leaf in leaves.items():
            theirs[name].grad = leaf.grad.to_sparse(1).coalesce()
        reference.step()
        others.step()
    for name, tensor in mine.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-5, atol=1e-6)
    before = begun()
    untouched = [item for item in range(300) if item not in met]
    drawn = (mine["rows"] != before["rows"]).any(1).nonzero().flatten().tolist()
    assert set(drawn) <= met
    assert torch.equal(mine["bias"][untouched], before["bias"][untouched])


def test_decay_shrinks_the_rows_of_a_step_alone() -> None:
    data = DeviceHistories(popular(), CPU)
    parameters = {"rows": torch.ones(300, 4), "shared": torch.ones(4, requires_grad=True)}
    steps = SampledSteps(parameters, frozenset(("rows",)), Sampling(data, len(data), 300, 10, 1), 0.5)
    bags = data.batch(torch.arange(10))
    steps.step(parameters, bags, lambda p, _: 0 * (p["rows"].sum() + p["shared"].sum()), 0.1, Generator())
    changed = (parameters["rows"] != 1).any(1)
    torch.testing.assert_close(parameters["rows"][changed], torch.full((int(changed.sum()), 4), 0.95))
    assert set(bags.columns.tolist()) <= set(changed.nonzero().flatten().tolist())
    assert not changed.all()


@pytest.mark.parametrize("name", ["mult_dae", "mult_vae", "h_vamp"])
def test_a_sampled_fit_learns_the_tastes_as_the_exact_one_does(name: str) -> None:
    found = {}
    for softmax in ("exact", "sampled"):
        model = MODELS[name](small_config(name, epochs=15, softmax=softmax, negatives=8, learning_rate=0.01), 42)
        record = model.fit(tastes(120), validation=None, run=cpu())
        assert record.softmax == softmax
        found[softmax] = mean_metric(model, holdout(150), "ndcg@10")
    assert found["sampled"] > 0.9 * found["exact"]
    chance = mean_metric(_popular(), holdout(150), "ndcg@10")
    assert found["sampled"] > 1.5 * chance


def _popular() -> object:
    model = MODELS["popularity"](MODELS["popularity"].Config(), 42)
    model.fit(tastes(120), validation=None, run=cpu())
    return model


@pytest.mark.parametrize("name", ["mult_dae", "mult_vae"])
def test_a_killed_sampled_fit_goes_on_bit_equal(name: str, tmp_path: object) -> None:
    def fit(**run: object) -> dict[str, Tensor]:
        model = MODELS[name](small_config(name, epochs=4, softmax="sampled", negatives=8, weight_decay=0.01), 42)
        model.fit(tastes(60), validation=None, run=cpu(**run))
        return model.tensors()

    def killed(progress: object) -> None:
        raise KeyboardInterrupt

    whole = fit()
    with pytest.raises(KeyboardInterrupt):
        fit(checkpoint_folder=tmp_path, progress=killed)
    resumed = fit(checkpoint_folder=tmp_path)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_loss_without_a_softmax_cannot_be_sampled() -> None:
    with pytest.raises(ValueError, match='expected loss = "multinomial"'):
        MODELS["mult_dae"].Config(softmax="sampled", loss="gaussian")


def test_a_large_catalogue_is_sampled_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys_ae.models.autoencoder.SAMPLED_FROM", 42)
    for name, softmax in (("mult_dae", "sampled"), ("rec_vae", "exact"), ("cdae", "exact")):
        model = MODELS[name](small_config(name), 42)
        assert model.fit(tastes(), validation=None, run=cpu()).softmax == softmax
    assert MODELS["mult_dae"](small_config("mult_dae", softmax="exact"), 42)._negatives() is None
