"""The two wide layers of an autoencoder, which are nearly all of a step: a sparse first one, and a last one with its loss.

Both add to `weight.grad` themselves: what autograd would hand around is as large as the weight, and made anew every step.
"""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from recsys_ae.products import holds_threads, numpy_multiplies, numpy_product
from recsys_ae.training.batches import Bags
from recsys_ae.training.loss import Multinomial, Writer

MOST_LOGITS = {"cpu": 2**28, "cuda": 2**32}  # of a step at once: 1 GiB in float32, 16
ROWS = {"cpu": 2**11, "cuda": 2**20}  # items of the last layer worked on at once: what a cache holds; all


class Scratch:
    """Large arrays that every step needs, made once: a fresh one costs the kernel a page fault every 4 KiB."""

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}

    def take(self, name: str, shape: tuple[int, int], like: Tensor, dtype: torch.dtype) -> Tensor:
        """An uninitialised tensor on the device of `like`; the same memory as before where it suffices."""
        rows, width = shape
        held = self._held.get(name)
        if held is None or len(held) < rows * width or held.dtype != dtype or held.device != like.device:
            held = self._held[name] = torch.empty(rows * width, dtype=dtype, device=like.device)
        return held[: rows * width].view(rows, width)


def transposed_product() -> bool:
    """Whether this build multiplies a sparse matrix by a dense one on the CPU, several times faster than a bag's gradient."""
    return bool(torch.backends.mkl.is_available())  # type: ignore[no-untyped-call]


def bag_sum(weight: Tensor, bags: Bags) -> Tensor:
    """x W for histories x (B, I) and weight W (I, H): (B, H). Its gradient never makes a dense x, nor a second (I, H)."""
    if weight.device.type == "cpu" and transposed_product() and weight.requires_grad:
        found: Tensor = _BagSum.apply(weight, bags)  # type: ignore[no-untyped-call]
        return found
    return F.embedding_bag(bags.columns, weight, bags.offsets, mode="sum", per_sample_weights=bags.weights)


class _BagSum(torch.autograd.Function):
    """By the entries that are not 0: dropout has left as many as it kept."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bags: Bags) -> Tensor:
        ctx.weight, ctx.matrix = weight, _matrix(bags, len(weight))
        begins, columns, weights = (
            torch.from_numpy(array) for array in (ctx.matrix.indptr, ctx.matrix.indices, ctx.matrix.data)
        )
        return F.embedding_bag(columns, weight, begins[:-1], mode="sum", per_sample_weights=weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None]:
        gradient = gradient_of(ctx.weight)
        torch.addmm(gradient, _transposed(ctx.matrix), grad, out=gradient)
        return None, None


def _matrix(bags: Bags, n_items: int) -> csr_array:
    """The batch (B, I), of its entries that are not 0."""
    begins = np.append(bags.offsets.numpy(), np.int32(len(bags.columns)))
    matrix = csr_array((bags.weights.numpy().copy(), bags.columns.numpy().copy(), begins), shape=(len(bags), n_items))
    matrix.eliminate_zeros()
    return matrix


def _transposed(matrix: csr_array) -> Tensor:
    """The batch (B, I) as a sparse matrix (I, B) of torch's."""
    by_column = matrix.tocsc()
    begins, rows, weights = (torch.from_numpy(array) for array in (by_column.indptr, by_column.indices, by_column.data))
    with warnings.catch_warnings():  # that sparse CSR is in beta state
        warnings.simplefilter("ignore")
        return torch.sparse_csr_tensor(begins, rows, weights, matrix.shape[::-1], check_invariants=False)


def gradient_of(weight: Tensor) -> Tensor:
    """Where the gradient of a leaf tensor is gathered."""
    if weight.grad is None:
        weight.grad = torch.zeros_like(weight)
    return weight.grad


def head_loss(query: Tensor, weight: Tensor, bias: Tensor, write: Writer, scratch: Scratch) -> Tensor:
    """A loss of the logits query @ W.T + bias, query (B, H), bias (I,): scalar. The logits exist once, as their own gradient;
    those of a catalogue so wide that they would be too many never exist at once, and are computed twice.

    W are the first H columns of the leaf `weight` (I, H or more), to whose `.grad` the gradient is added; a detached one gets
    none. Products are in the type of the surrounding autocast.
    """
    loss: Tensor = _HeadLoss.apply(query, weight, bias, write, scratch)  # type: ignore[no-untyped-call]
    return loss


class _HeadLoss(torch.autograd.Function):
    """By blocks of items: what is converted of the weight, and computed of its gradient, is used while it is in the cache."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, weight: Tensor, bias: Tensor, write: Writer, scratch: Scratch) -> Tensor:
        device = query.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        parted = len(query) * len(weight) > MOST_LOGITS[device] and isinstance(write, Multinomial)
        size = max(1, MOST_LOGITS[device] // len(query)) if parted else len(weight)
        logits = scratch.take("logits", (len(query), min(size, len(weight))), weight, dtype)
        ctx.given, ctx.held = (query.dtype, weight, bias, write if parted else None), (query.to(dtype), logits)
        with torch.autocast(device, enabled=False):
            if not parted:
                _product(ctx.held[0], weight, bias, slice(0, len(weight)), logits)
                return write(logits)
            assert isinstance(write, Multinomial)
            for items in _slices(len(weight), size):
                write.look(_product(ctx.held[0], weight, bias, items, logits), items)
            return write.loss()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, Tensor | None, None, None]:
        (dtype, weight, bias, write), (query, logits) = ctx.given, ctx.held
        scaled = grad.device.type != "cpu" or float(grad) != 1  # asking a GPU would wait for it
        width = query.shape[1]
        into = gradient_of(weight) if weight.requires_grad else None
        of_query = torch.zeros(query.shape, dtype=weight.dtype, device=query.device) if ctx.needs_input_grad[0] else None
        of_bias = torch.empty(len(weight), dtype=weight.dtype, device=query.device) if ctx.needs_input_grad[2] else None
        for several in _slices(len(weight), logits.shape[1]):
            gradient = logits
            if write is not None:
                gradient = _product(query, weight, bias, several, logits)
                write.gradient(gradient, several)
            if scaled:
                gradient.mul_(grad)
            for items in _blocks_of(weight, several):
                part = gradient[:, items.start - several.start : items.stop - several.start]
                if into is not None:
                    rows = into[items, :width]
                    if query.dtype == rows.dtype:
                        rows.addmm_(part.T, query)
                    else:
                        rows += torch.mm(part.T, query).to(rows.dtype)
                if of_query is not None:
                    of_query += torch.mm(part, weight[items, :width].to(query.dtype)).to(weight.dtype)
                if of_bias is not None:
                    of_bias[items] = part.sum(0, dtype=weight.dtype)
        return None if of_query is None else of_query.to(dtype), None, of_bias, None, None


def _product(query: Tensor, weight: Tensor, bias: Tensor, several: slice, logits: Tensor) -> Tensor:
    """The logits of several items, written into the first columns of `logits`, in the query's type."""
    found = logits[:, : several.stop - several.start]
    if numpy_multiplies(query, weight) and holds_threads():
        numpy_product(query.detach().numpy(), weight.detach()[several, : query.shape[1]].numpy(), found.numpy())
        return found.add_(bias[several])
    for items in _blocks_of(weight, several):
        rows = weight[items, : query.shape[1]].to(query.dtype)
        place = slice(items.start - several.start, items.stop - several.start)
        torch.addmm(bias[items].to(query.dtype), query, rows.T, out=found[:, place])
    return found


def _blocks_of(weight: Tensor, several: slice) -> Iterator[slice]:
    """Several items by blocks."""
    size = ROWS[weight.device.type]
    return (slice(start, min(start + size, several.stop)) for start in range(several.start, several.stop, size))


def _slices(length: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, length)) for start in range(0, length, size))
