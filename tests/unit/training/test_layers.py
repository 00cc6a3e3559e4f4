import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from recsys_ae import products
from recsys_ae.training import layers
from recsys_ae.training.batches import Bags, DeviceHistories
from recsys_ae.training.layers import Scratch, bag_sum, gradient_of, head_loss
from recsys_ae.training.loss import multinomial
from tests.worlds import ragged

N_ITEMS = 3_000  # more than one block of layers.ROWS


def bags(n: int = 12) -> Bags:
    return DeviceHistories(ragged(0, n, N_ITEMS), torch.device("cpu")).whole()


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


@pytest.mark.parametrize("mkl", [True, False])
@pytest.mark.parametrize("dropped", ["none", "half", "a row", "all"])
def test_a_bags_gradient_is_that_of_the_dense_product(mkl: bool, dropped: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "transposed_product", lambda: mkl and torch.backends.mkl.is_available())
    whole, weight, other = bags(), drawn(N_ITEMS, 7), drawn(12, 7, seed=1)
    gone = {"none": whole.rows < 0, "half": whole.columns % 2 == 0, "a row": whole.rows == 5, "all": whole.rows >= 0}[dropped]
    targets = whole.reweighted(whole.weights * ~gone)
    dense = torch.zeros(12, N_ITEMS).index_put((targets.rows, targets.columns), targets.weights)
    found, expected = bag_sum(weight, targets), dense @ weight
    torch.testing.assert_close(found, expected)
    (gradient,) = torch.autograd.grad((expected * other).sum(), weight)
    for times in (1, 2):  # gathered, not overwritten
        (bag_sum(weight, targets) * other).sum().backward()
        torch.testing.assert_close(weight.grad, times * gradient)


@pytest.mark.parametrize(("narrow", "tolerance"), [(False, 1e-5), (True, 2e-2)])
@pytest.mark.parametrize("width", [8, 5])
@pytest.mark.parametrize("most", [2**28, 30_000, 1_570])
@pytest.mark.parametrize("by_numpy", [True, False])
def test_the_last_layer_with_its_loss_equals_a_dense_log_softmax(
    narrow: bool, tolerance: float, width: int, most: int, by_numpy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the layer is the first columns of a wider tensor, where the same memory has served another batch, and where
    the logits are more than may be at once."""
    monkeypatch.setitem(layers.MOST_LOGITS, "cpu", most)
    monkeypatch.setattr(products, "numpy_is_faster", lambda: by_numpy)
    scratch = Scratch()
    for rows in (12, 5):
        targets = bags(rows)
        weight, bias, query = drawn(N_ITEMS, 8), drawn(N_ITEMS, seed=1), drawn(rows, width, seed=2)
        x = torch.zeros(rows, N_ITEMS).index_put((targets.rows, targets.columns), targets.weights)
        expected = -(x * F.log_softmax(query @ weight[:, :width].T + bias, 1)).sum(1).mean()
        theirs = torch.autograd.grad(expected, [weight, bias, query])
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=narrow):
            found = head_loss(query, weight, bias, multinomial(targets), scratch)
        (3 * found).backward()
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=0)
        for tensor, gradient in zip((weight, bias, query), theirs, strict=True):
            assert tensor.grad is not None
            assert float((tensor.grad / 3 - gradient).norm() / gradient.norm()) < tolerance


def test_of_many_logits_only_so_many_are_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(layers.MOST_LOGITS, "cpu", 12 * 700)
    scratch, targets = Scratch(), bags()
    head_loss(drawn(12, 8), drawn(N_ITEMS, 8), drawn(N_ITEMS), multinomial(targets), scratch).backward()
    assert sum(len(held) for held in scratch._held.values()) == 12 * 700


@pytest.mark.parametrize("moving", [{"query"}, {"weight", "bias"}])
def test_what_is_detached_gets_no_gradient_and_the_rest_the_same(moving: set[str]) -> None:
    targets = bags()
    whole = {"query": drawn(12, 8, seed=2), "weight": drawn(N_ITEMS, 8), "bias": drawn(N_ITEMS, seed=1)}
    part = {name: t.detach().requires_grad_(name in moving) for name, t in whole.items()}
    for tensors in (whole, part):
        head_loss(*tensors.values(), multinomial(targets), Scratch()).backward()
    for name, tensor in part.items():
        assert (tensor.grad is not None) == (name in moving)
        if tensor.grad is not None:
            assert torch.equal(tensor.grad, whole[name].grad)


def test_gradients_of_both_ends_of_a_tied_tensor_are_added() -> None:
    targets, weight, bias = bags(), drawn(N_ITEMS, 8), drawn(N_ITEMS, seed=1)
    head_loss(bag_sum(weight, targets), weight, bias, multinomial(targets), Scratch()).backward()
    x = torch.zeros(12, N_ITEMS).index_put((targets.rows, targets.columns), targets.weights)
    expected = -(x * F.log_softmax(x @ weight @ weight.T + bias, 1)).sum(1).mean()
    torch.testing.assert_close(gradient_of(weight), *torch.autograd.grad(expected, weight), rtol=1e-4, atol=1e-5)


def test_scratch_hands_out_the_same_memory() -> None:
    scratch, like = Scratch(), torch.empty(0)
    first = scratch.take("logits", (10, 4), like, torch.float32)
    assert scratch.take("logits", (3, 4), like, torch.float32).data_ptr() == first.data_ptr()
    assert scratch.take("logits", (11, 4), like, torch.float32).shape == (11, 4)
    assert scratch.take("logits", (3, 4), like, torch.bfloat16).dtype == torch.bfloat16
    assert scratch.take("rows", (3, 4), like, torch.float32).data_ptr() != first.data_ptr()
