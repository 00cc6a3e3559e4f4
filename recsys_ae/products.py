"""Scores as inner products: what they are made of, and the product itself by whoever is fast here; numpy's work in threads."""

import itertools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LEAST_WORK = 2**22  # multiplications that are worth a thread


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


def numpy_multiplies(left: Tensor, right: Tensor) -> bool:
    """Whether the product of these is numpy's to make: float32, in memory, where numpy is faster."""
    return left.device.type == "cpu" and left.dtype == right.dtype == torch.float32 and numpy_is_faster()


def dense_product(left: Tensor, right: Tensor) -> Tensor:
    """left (B, H) times right (I, H) transposed, (B, I), in the precision they have, without recording gradients."""
    if numpy_multiplies(left, right):
        return torch.from_numpy(numpy_product(left.detach().numpy(), right.detach().numpy()))
    return (left @ right.T).detach()


def numpy_product(
    left: NDArray[np.float32], right: NDArray[np.float32], out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """left (B, H) times right (I, H) transposed, (B, I), by as many threads as torch has, none of which is OpenBLAS' own.

    Those go on spinning after a product, on the cores that torch's threads need for what comes next. OpenBLAS' number of
    threads is the whole process's, so only the main thread changes it, where batch jobs run; a service's threads multiply
    as they are.
    """
    n = threads()
    out = np.empty((len(left), len(right)), np.float32) if out is None else out
    if not holds_threads():
        return _multiply(left, right, out)
    with _controller().limit(limits=1, user_api="blas"):
        if n == 1 or left.size * len(right) < n * LEAST_WORK:
            return _multiply(left, right, out)
        cut = [len(right) * part // n for part in range(n + 1)]
        in_threads(
            lambda block: _multiply(left, right[block], out[:, block]),
            [slice(*ends) for ends in itertools.pairwise(cut)],
        )
    return out


def holds_threads() -> bool:
    """Whether a product of numpy's can be told here how many threads to take."""
    return threading.current_thread() is threading.main_thread() and _controller() is not None


def _multiply(left: NDArray[np.float32], right: NDArray[np.float32], out: NDArray[np.float32]) -> NDArray[np.float32]:
    """Into `out`. Whoever asked looks for what is not finite; a warning here would be one more."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.matmul(left, right.T, out=out)


def in_threads(work: Callable[[slice], object], blocks: Sequence[slice]) -> None:
    """Work of numpy's on each block, by as many threads as torch has."""
    n = threads()
    if n == 1 or len(blocks) == 1:
        for block in blocks:
            work(block)
        return
    workers = _workers(os.getpid(), n)
    for done in [workers.submit(work, block) for block in blocks]:
        done.result()


@lru_cache(maxsize=1)
def _controller() -> Any:
    """What sets BLAS' threads; None where models are only trained and threadpoolctl is absent."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return None
    return ThreadpoolController()


@lru_cache(maxsize=1)
def _workers(process: int, threads: int) -> ThreadPoolExecutor:
    """This process' own: threads do not survive a fork."""
    return ThreadPoolExecutor(threads, thread_name_prefix=f"numpy-{process}")


def threads() -> int:
    """How many threads this process may use: torch's number."""
    return torch.get_num_threads()


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
