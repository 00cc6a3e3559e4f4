from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from recsys_ae import products


@pytest.mark.parametrize("faster", [True, False])
def test_a_product_is_the_same_by_whomever_it_is_computed(faster: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "numpy_is_faster", lambda: faster)
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(5, 9, generator=generator, requires_grad=True), torch.randn(40, 18, generator=generator)[:, ::2]
    found = products.dense_product(left, right)
    torch.testing.assert_close(found.double(), left.detach().double() @ right.double().T, rtol=0, atol=1e-5)
    assert not found.requires_grad


def test_a_product_by_several_threads_is_that_of_one_and_leaves_blas_as_it_was() -> None:
    threads = torch.get_num_threads()
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((70, 64), np.float32), rng.standard_normal((5_001, 64), np.float32)
    assert left.size * len(right) > 3 * products.LEAST_WORK
    before = [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
    try:
        torch.set_num_threads(3)
        found = [products.numpy_product(left, right) for _ in range(3)]
        with ThreadPoolExecutor(4) as callers:
            found += callers.map(lambda _: products.numpy_product(left, right), range(8))
    finally:
        torch.set_num_threads(threads)
    for one in found:
        np.testing.assert_allclose(one, left.astype(np.float64) @ right.T.astype(np.float64), rtol=0, atol=1e-4)
    assert [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"] == before


def test_without_threadpoolctl_a_product_is_numpys_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_controller", lambda: None)
    left, right = np.eye(3, dtype=np.float32), np.arange(12, dtype=np.float32).reshape(4, 3)
    assert np.array_equal(products.numpy_product(left, right), right.T)
