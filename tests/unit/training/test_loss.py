from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence
from torch.nn import functional as F

from recsys_ae import Histories
from recsys_ae.training.batches import Bags, DeviceHistories
from recsys_ae.training.loss import (
    BLOCK,
    Writer,
    bernoulli,
    cosine,
    focal,
    gaussian,
    kl_of_normals,
    kl_to_standard_normal,
    log_mixture,
    log_normal,
    multinomial,
    of_logits,
    poisson,
)
from tests.worlds import ragged

HISTORIES = ragged(0, 12, 20)


def bags(dtype: torch.dtype) -> Bags:
    whole = DeviceHistories(HISTORIES, torch.device("cpu")).whole()
    return whole.reweighted(whole.weights.to(dtype))


def logits(dtype: torch.dtype, scale: float = 3.0) -> Tensor:
    drawn = scale * torch.randn(12, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return drawn.to(dtype).requires_grad_()


def dense(logits: Tensor) -> Tensor:
    """Liang et al. 2018, eq. 2, with a dense target."""
    target = torch.from_numpy(HISTORIES.matrix.toarray()).to(logits.dtype)
    return -(target * logits.log_softmax(1)).sum(1).mean()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("scale", [3.0, 50.0])
def test_loss_and_gradient_equal_dense_log_softmax(dtype: torch.dtype, tolerance: float, scale: float) -> None:
    ours, reference = logits(dtype, scale), logits(dtype, scale)
    found, expected = of_logits(ours.clone(), multinomial(bags(dtype))), dense(reference)
    (2 * found).backward()
    (2 * expected).backward()
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(ours.grad, reference.grad, rtol=tolerance, atol=tolerance)


FOCAL = partial(focal, focus=2.0, balance=0.25)


def focal_term(x: Tensor, logits: Tensor) -> Tensor:
    """Lin et al. 2017, eq. 5: -alpha_t (1 - p_t)^gamma log p_t, times the weight of what was met."""
    right = torch.where(x > 0, logits.sigmoid(), (-logits).sigmoid())  # p_t
    return torch.where(x > 0, 0.25 * x, 0.75) * (1 - right) ** 2 * -right.log()


POINTWISE = {
    "focal": (FOCAL, focal_term),
    "gaussian": (gaussian, lambda x, logits: (x - logits).square()),
    "poisson": (poisson, lambda x, logits: logits.exp() - x * logits),
    "bernoulli": (bernoulli, lambda x, logits: torch.where(x > 0, -x * logits.sigmoid().log(), -(-logits).sigmoid().log())),
}


@pytest.mark.parametrize("thinned", [False, True])
@pytest.mark.parametrize("name", POINTWISE)
def test_pointwise_loss_and_gradient_equal_those_of_a_dense_target(name: str, thinned: bool) -> None:
    """Over all items, zeros included; an excluded entry counts neither as met nor as not met."""
    loss, term = POINTWISE[name]
    ours, reference, targets = logits(torch.float64), logits(torch.float64), bags(torch.float64)
    excluded = torch.arange(len(targets.weights)) % 3 == 0
    counted = torch.ones(12, 20)
    if thinned:
        counted[targets.rows[excluded], targets.columns[excluded]] = 0
    x = torch.from_numpy(HISTORIES.matrix.toarray()).double()
    found = of_logits(ours.clone(), loss(targets, excluded if thinned else None))
    expected = (term(x, reference) * counted).sum(1).mean()
    found.backward()
    expected.backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(ours.grad, reference.grad)


def test_gradient_equals_finite_differences() -> None:
    double = bags(torch.float64)
    assert torch.autograd.gradcheck(lambda x: of_logits(x.clone(), multinomial(double)), (logits(torch.float64),))


@pytest.mark.parametrize("write", [multinomial, bernoulli, poisson, FOCAL])
def test_large_logits_do_not_overflow(write: Callable[[Bags], Writer]) -> None:
    huge = torch.full((12, 20), 1e4, requires_grad=True)
    loss = of_logits(huge.clone(), write(bags(torch.float32)))
    loss.backward()
    assert loss.isfinite()
    assert huge.grad is not None
    assert huge.grad.isfinite().all()


@pytest.mark.parametrize("loss", [multinomial, gaussian, bernoulli, poisson, FOCAL])
def test_the_gradient_is_written_over_the_logits(loss: Callable[[Bags], Writer]) -> None:
    """There is no second array of their size; and who still needs the logits gets an error, not a wrong gradient."""
    ours = logits(torch.float32)
    activations = ours * 1
    of_logits(activations, loss(bags(torch.float32))).backward()
    assert ours.grad is not None
    assert torch.equal(ours.grad, activations.detach())
    activations = ours * 1
    needed = activations.square().sum()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        (needed + of_logits(activations, loss(bags(torch.float32)))).backward()


@pytest.mark.parametrize("loss", [multinomial, gaussian, bernoulli, poisson, FOCAL])
def test_a_loss_does_not_depend_on_the_blocks_it_is_computed_by(
    loss: Callable[[Bags], Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for size in (1, 50, 2**20):
        monkeypatch.setitem(BLOCK, "cpu", size)
        activations = logits(torch.float64).clone()
        found.append((of_logits(activations, loss(bags(torch.float64))).detach(), activations.detach()))
    for value, gradient in found[1:]:
        torch.testing.assert_close(value, found[0][0])
        torch.testing.assert_close(gradient, found[0][1])


@pytest.mark.parametrize("loss", [multinomial, gaussian, bernoulli, poisson, FOCAL])
def test_bfloat16_logits_are_summed_in_float32(loss: Callable[[Bags], Writer]) -> None:
    """A thousand items: a sum in bfloat16 would stand still long before its end."""
    histories = ragged(0, 12, 1_000)
    wide = DeviceHistories(histories, torch.device("cpu")).whole()
    narrow = torch.randn(12, 1_000, generator=torch.Generator().manual_seed(0)).bfloat16()
    expected = of_logits(narrow.double(), loss(wide.reweighted(wide.weights.double())))
    torch.testing.assert_close(of_logits(narrow.clone(), loss(wide)).double(), expected, rtol=1e-5, atol=0)


def test_an_empty_row_has_no_loss_and_no_gradient() -> None:
    empty = DeviceHistories(Histories.from_rows([[], [1]], 4), torch.device("cpu")).whole()
    ours = torch.randn(2, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    of_logits(ours.clone(), multinomial(empty)).backward()
    assert ours.grad is not None
    assert (ours.grad[0] == 0).all()
    assert (ours.grad[1] != 0).all()


def test_kl_equals_torch_distributions_by_dimension() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = (torch.randn(9, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).mean(0)
    torch.testing.assert_close(kl_to_standard_normal(mean, log_variance), expected)


def test_kl_of_two_normals_and_log_density_equal_torch_distributions() -> None:
    generator = torch.Generator().manual_seed(0)
    z, a, b, c, d = (torch.randn(9, 5, generator=generator, dtype=torch.float64) for _ in range(5))
    one, other = Normal(a, (0.5 * b).exp()), Normal(c, (0.5 * d).exp())
    torch.testing.assert_close(kl_of_normals(a, b, c, d), kl_divergence(one, other))
    torch.testing.assert_close(log_normal(z, a, b), one.log_prob(z))


@pytest.mark.parametrize("bfloat16", [False, True])
def test_the_mixture_equals_torch_distributions_under_autocast_too(bfloat16: bool) -> None:
    """Narrow components: squares that are multiplied out leave little of much."""
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(7, 50, generator=generator)
    log_variances = torch.randn(7, 50, generator=generator) - 4
    z = means[[0, 3, 3, 6]] + 0.1 * torch.randn(4, 50, generator=generator)
    exact = Independent(Normal(means.double(), (0.5 * log_variances.double()).exp()), 1)
    expected = MixtureSameFamily(Categorical(torch.ones(7)), exact).log_prob(z.double())
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        found = log_mixture(z, means, log_variances)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-3)


def test_kl_of_the_prior_is_zero() -> None:
    assert kl_to_standard_normal(torch.zeros(4, 3), torch.zeros(4, 3)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("thinned", [False, True])
def test_cosine_loss_and_gradient_equal_those_of_dense_rows(thinned: bool) -> None:
    ours, reference = logits(torch.float64), logits(torch.float64)
    x = torch.from_numpy(HISTORIES.matrix.toarray()).double()
    met = x.sum(1) > 0
    targets = bags(torch.float64)
    shown = targets.reweighted(targets.weights * (torch.arange(len(targets.weights)) % 3 != 0)) if thinned else targets
    s = torch.zeros_like(x).index_put((shown.rows, shown.columns), shown.weights)
    found = of_logits(ours.clone(), cosine(targets, shown))
    distances = (F.normalize(x) - F.normalize(reference - s)).square().sum(1)
    expected = torch.where(met, distances, 2.0).mean()  # an empty row has no direction
    found.backward()
    expected.backward()
    torch.testing.assert_close(found, expected)
    assert ours.grad is not None
    assert reference.grad is not None
    torch.testing.assert_close(ours.grad[met], reference.grad[met])
    assert ours.grad.isfinite().all()
