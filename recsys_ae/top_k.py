"""The k best of rows of scores, exactly, and of equal ones the first: by torch on any device, by numpy where it is faster."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys_ae import top_k_numpy, top_k_torch
from recsys_ae.top_k_numpy import MOST

FEW = 2**16  # scores in which torch's own topk is the fastest
ROWS = 16  # numpy's search takes a tenth of a millisecond at least,
WIDEST = 2_048  # and reads a row twice, which of so many times k columns costs more than it saves


def top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Values and columns (B, min(k, I)) of the k best scores (B, I), descending; equal scores in order of column."""
    k = min(k, scores.shape[1])
    if k == 0:
        return scores[:, :0], torch.empty(len(scores), 0, dtype=torch.int64, device=scores.device)
    if scores.numel() <= FEW and (found := top_k_torch.untied(scores, k)) is not None:
        return found
    if _by_numpy(scores, len(scores), scores.shape[1], k):
        return _tensors(*top_k_numpy.top_k(scores.numpy(), k))
    return top_k_torch.top_k(scores, k)


def contenders(scores: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows and columns (N,), in order of row, of all entries that reach a lower bound of their row's k-th largest, of (B, I).

    Third the rows (B,) that fail and have no entries here, since too many are equal or one is not a number; then the bounds
    (B,).
    """
    if _by_numpy(scores, len(scores), scores.shape[1], k):
        return _tensors(*top_k_numpy.contenders(scores.numpy(), k))
    return top_k_torch.contenders(scores, k)


def reaching(scores: Tensor, bound: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """As `contenders`, with the bound (B,) given: rows, columns and failed rows."""
    if _by_numpy(scores, len(scores), scores.shape[1], k):
        return _tensors(*top_k_numpy.reaching(scores.numpy(), bound.numpy(), MOST * k))
    return top_k_torch.reaching(scores, bound, MOST * k)


def lists(scores: Tensor, rows: Tensor, columns: Tensor, n_rows: int, k: int) -> tuple[Tensor, Tensor]:
    """Values and columns (B, k) of entries (N,) in order of row, of which a row has k or more, or none."""
    if _by_numpy(scores, n_rows, k, k):
        return _tensors(*top_k_numpy.lists(scores.numpy(), rows.numpy(), columns.numpy(), n_rows, k))
    return top_k_torch.lists(scores, rows, columns, n_rows, k)


def _by_numpy(scores: Tensor, n_rows: int, width: int, k: int) -> bool:
    at_hand = scores.device.type == "cpu" and scores.dtype == torch.float32 and not scores.requires_grad
    return at_hand and n_rows >= ROWS and width <= WIDEST * k


def _tensors(*arrays: NDArray[Any]) -> tuple[Any, ...]:
    return tuple(torch.from_numpy(array) for array in arrays)
