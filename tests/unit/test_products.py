import pytest
import torch

from recsys_ae import products


@pytest.mark.parametrize("faster", [True, False])
def test_a_product_is_the_same_by_whomever_it_is_computed(faster: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "numpy_is_faster", lambda: faster)
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(5, 9, generator=generator, requires_grad=True), torch.randn(40, 18, generator=generator)[:, ::2]
    found = products.dense_product(left, right)
    torch.testing.assert_close(found.double(), left.detach().double() @ right.double().T, rtol=0, atol=1e-5)
    assert not found.requires_grad
