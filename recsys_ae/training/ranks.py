"""Ranks: the processes that train one model together, each with its part of the users, or of the items. Who trains alone is
the only one.

All draw the same numbers from the same generator and take the same step. By users all hold the whole model, and what each
computes of its own users is added up. By items each holds the rows of its own items, and what a user's entries make of them is
added up. So a fit by several is that of one, up to the order in which floats are summed.
"""

from collections.abc import Iterable
from typing import Any, Literal, Self

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable

from recsys_ae.training.run import RunContext


class Ranks:
    """One process among `size`; this one's users, or items, are `rank`, `rank + size`, and so on."""

    def __init__(self, rank: int = 0, size: int = 1, by: Literal["users", "items"] = "users") -> None:
        self.rank, self.size, self.by = rank, size, by

    @classmethod
    def of(cls, run: RunContext) -> Self:
        """Those of a run."""
        return cls(run.rank, run.world_size, run.shared)

    @property
    def alone(self) -> bool:
        return self.size == 1

    @property
    def by_items(self) -> bool:
        """Whether this one has but some of the items."""
        return not self.alone and self.by == "items"

    def mine(self, n: int) -> slice:
        """This one's rows of n."""
        return slice(self.rank, n, self.size)

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Each becomes its sum over all ranks, in place."""
        if not self.alone:
            for tensor in tensors:
                distributed.all_reduce(tensor)

    def add_gradients(self, tensors: Iterable[Tensor]) -> None:
        """The gradient of each becomes its sum over all ranks; of the same tensors everywhere there is none."""
        self.add(tensor.grad for tensor in tensors if tensor.grad is not None)

    def total(self, value: float) -> float:
        """The sum of a number over all ranks."""
        found = torch.tensor(value, dtype=torch.float64)
        self.add([found])
        return float(found)

    def agree(self, tensors: Iterable[Tensor]) -> None:
        """All take the first one's, in place."""
        if not self.alone:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def largest(self, tensor: Tensor) -> None:
        """It becomes the largest of all ranks, in place."""
        if not self.alone:
            distributed.all_reduce(tensor, distributed.ReduceOp.MAX)

    def of_all(self, tensor: Tensor) -> list[Tensor]:
        """The tensors of all ranks, which are of one shape."""
        found = [torch.empty_like(tensor) for _ in range(self.size)]
        distributed.all_gather(found, tensor)
        return found

    def gathered(self, partial: Tensor) -> Tensor:
        """The sum over all ranks, whose gradient each rank's part has."""
        found: Tensor = _Gathered.apply(partial, self)  # type: ignore[no-untyped-call]
        return found

    def spread(self, values: Tensor) -> Tensor:
        """The same values, which each rank uses for its own part: their gradient is the sum over all ranks."""
        found: Tensor = _Spread.apply(values, self)  # type: ignore[no-untyped-call]
        return found

    def union(self, values: Tensor) -> Tensor:
        """Which values (N,) int64, none negative, any rank has, ascending."""
        found = torch.unique(values)
        if self.alone:
            return found
        longest = int(torch.cat(self.of_all(torch.tensor([len(found)], device=found.device))).max())
        filled = found.new_full((longest,), -1)
        filled[: len(found)] = found
        together = torch.unique(torch.cat(self.of_all(filled)))
        return together[together >= 0]


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, partial: Tensor, ranks: Ranks) -> Tensor:
        total = partial.clone()
        ranks.add([total])
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return values.view_as(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        total = grad.float() if grad.dtype == torch.bfloat16 else grad.clone()
        ctx.ranks.add([total])
        return total.to(grad.dtype), None


ALONE = Ranks()
