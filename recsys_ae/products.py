"""Scores as inner products: what they are made of, and the product itself by whoever is fast here."""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor


class Factors(NamedTuple):
    """Scores as inner products, queries @ weight.T + bias: queries (B, H), weight (I, H), bias (I,), all float32."""

    queries: Tensor
    weight: Tensor
    bias: Tensor | None = None


def products(factors: Factors, items: Tensor | None = None) -> Tensor:
    """The scores (B, I), or (B, J) of the columns `items` (J,)."""
    queries, weight, bias = factors
    if items is not None:
        items = items.to(weight.device)
        weight, bias = weight[items], None if bias is None else bias[items]
    scores = dense_product(queries, weight)
    return scores if bias is None else scores.add_(bias)


def dense_product(left: Tensor, right: Tensor) -> Tensor:
    """left (B, H) times right (I, H) transposed, (B, I), in the precision they have, without recording gradients."""
    if left.device.type == "cpu" and left.dtype == right.dtype == torch.float32 and numpy_is_faster():
        return torch.from_numpy(left.detach().numpy() @ right.detach().numpy().T)
    return (left @ right.T).detach()


def limit_threads(threads: int) -> None:
    """How many threads a product takes, of torch and of numpy's BLAS, which torch's own limit does not reach."""
    from threadpoolctl import threadpool_limits  # absent where models are only trained

    torch.set_num_threads(threads)
    threadpool_limits(threads, "blas")


@lru_cache(maxsize=1)
def numpy_is_faster() -> bool:
    """Whether numpy's float32 products are: those of MKL, which torch calls, take up to twice OpenBLAS' time on AMD's CPUs.

    A fact, not a measurement: two processes that score the same history must come to the same bits.
    """
    facts = Path("/proc/cpuinfo")
    return bool(torch.backends.mkl.is_available()) and facts.exists() and "AuthenticAMD" in facts.read_text()  # type: ignore[no-untyped-call]
