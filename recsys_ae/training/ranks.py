"""Ranks: the processes that train one model together, each with its part of the users. Who trains alone is the only one.

All hold the whole model, draw the same numbers from the same generator, and take the same step: what each computes of its own
users is added up. So a fit by several is that of one, up to the order in which floats are summed.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, distributed


class Ranks:
    """One process among `size`; this one's users are `rank`, `rank + size`, and so on."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @classmethod
    def now(cls) -> "Ranks":
        """Those of the process group, where torch.distributed was told of one."""
        if distributed.is_available() and distributed.is_initialized():
            return cls(distributed.get_rank(), distributed.get_world_size())
        return ALONE

    @property
    def alone(self) -> bool:
        return self.size == 1

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

    def union(self, values: Tensor) -> Tensor:
        """Which values (N,) int64, none negative, any rank has, ascending."""
        found = torch.unique(values)
        if self.alone:
            return found
        lengths = [torch.zeros(1, dtype=torch.int64, device=found.device) for _ in range(self.size)]
        distributed.all_gather(lengths, torch.tensor([len(found)], device=found.device))
        longest = int(torch.cat(lengths).max())
        filled = found.new_full((longest,), -1)
        filled[: len(found)] = found
        of_all = [torch.empty_like(filled) for _ in range(self.size)]
        distributed.all_gather(of_all, filled)
        together = torch.unique(torch.cat(of_all))
        return together[together >= 0]


ALONE = Ranks()
