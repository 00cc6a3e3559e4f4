"""What a step changes: all parameters (`WholeSteps`), or of a large catalogue the rows of some items (`SampledSteps`)."""

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

import torch
from torch import Generator, Tensor

from recsys_ae.training.batches import Bags
from recsys_ae.training.checkpoint import optimiser_tensors, restore_optimiser
from recsys_ae.training.ranks import ALONE, Ranks
from recsys_ae.training.sampling import Sampling

BETAS, EPSILON = (0.9, 0.999), 1e-8  # of Adam, torch's own
Loss: TypeAlias = Callable[[dict[str, Tensor], Bags], Tensor]
"""Parameters and a batch -> a scalar that autograd knows."""


class Steps(Protocol):
    """The optimiser's part of the loop."""

    def begin_walk(self) -> None:
        """Before a walk over the rows: gradients become None, which is what those of tensors that it detaches then stay."""

    def step(self, parameters: dict[str, Tensor], bags: Bags, loss: Loss, rate: float, generator: Generator) -> Tensor:
        """One step of Adam at a learning rate; gives the loss, detached."""

    def tensors(self) -> dict[str, Tensor]:
        """The state, for a checkpoint."""

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse, of a checkpoint's tensors."""


def gradients(parameters: dict[str, Tensor], bags: Bags, loss: Loss) -> Tensor:
    """Add to `.grad` this rank's share of the gradient of the whole batch's mean loss; gives the loss of its rows, detached."""
    found = loss(parameters, bags)
    share = 1.0 if bags.part is None else bags.part.share
    (found if share == 1 else found * share).backward()  # type: ignore[no-untyped-call]
    return found.detach() if share else torch.zeros_like(found)


class WholeSteps:
    """AdamW (Loshchilov, Hutter 2019) over all parameters."""

    def __init__(self, parameters: Mapping[str, Tensor], weight_decay: float, ranks: Ranks = ALONE) -> None:
        self._ranks = ranks
        self._optimiser = torch.optim.AdamW(
            parameters.values(), betas=BETAS, eps=EPSILON, weight_decay=weight_decay, fused=True
        )

    def begin_walk(self) -> None:
        self._optimiser.zero_grad()

    def step(self, parameters: dict[str, Tensor], bags: Bags, loss: Loss, rate: float, generator: Generator) -> Tensor:
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.zero_grad(set_to_none=False)
        found = gradients(parameters, bags, loss)
        self._ranks.add_gradients([tensor for group in self._optimiser.param_groups for tensor in group["params"]])
        self._optimiser.step()
        return found

    def tensors(self) -> dict[str, Tensor]:
        return optimiser_tensors(self._optimiser)

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        restore_optimiser(self._optimiser, tensors)


class SampledSteps:
    """Each step trains the small model of the items that it draws, as if there were no others.

    Of the tensors by item, whose first axis items are, the rows of those items are taken, trained by one step of Adam, and put
    back: neither the time nor the memory of a step hangs on the catalogue. A row's moments, and its decay, wait until it is
    drawn again, as those of torch.optim.SparseAdam do.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        by_item: frozenset[str],
        sampling: Sampling,
        weight_decay: float,
        ranks: Ranks = ALONE,
    ) -> None:
        self._ranks = ranks
        self._sampling = sampling
        self._decay = weight_decay
        self._number = 0
        # In the parameters' order, which is the same on all ranks, as that of a set is not.
        zeros = {name: torch.zeros_like(tensor) for name, tensor in parameters.items() if name in by_item}
        self._moments = {name: (tensor, tensor.clone()) for name, tensor in zeros.items()}
        self._others = WholeSteps({name: t for name, t in parameters.items() if name not in by_item}, weight_decay, ranks)

    def begin_walk(self) -> None:
        self._others.begin_walk()

    def step(self, parameters: dict[str, Tensor], bags: Bags, loss: Loss, rate: float, generator: Generator) -> Tensor:
        items, drawn = self._sampling.draw(bags, generator)
        rows = {name: parameters[name].detach()[items].requires_grad_() for name in self._moments}
        found = self._others.step(parameters | rows, drawn, loss, rate, generator)
        self._ranks.add_gradients(list(rows.values()))
        self._number += 1
        with torch.no_grad():
            for name, moments in self._moments.items():
                moved = self._moved(rows[name], items, moments, rate)
                parameters[name].index_copy_(0, items, moved)
        return found

    def _moved(self, rows: Tensor, items: Tensor, moments: tuple[Tensor, Tensor], rate: float) -> Tensor:
        """The rows after a step of AdamW; their moments are replaced."""
        gradient = rows.grad
        if gradient is None:  # of a tensor that this walk detaches
            return rows
        mean, square = (moment[items] for moment in moments)
        mean.lerp_(gradient, 1 - BETAS[0])
        square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
        for moment, of_rows in zip(moments, (mean, square), strict=True):
            moment.index_copy_(0, items, of_rows)
        size = square.div_(1 - BETAS[1] ** self._number).sqrt_().add_(EPSILON)
        return rows.mul(1 - rate * self._decay).addcdiv_(mean, size, value=-rate / (1 - BETAS[0] ** self._number))

    def tensors(self) -> dict[str, Tensor]:
        by_item = {f"moments.{name}.{n}": moment for name, both in self._moments.items() for n, moment in enumerate(both)}
        return self._others.tensors() | by_item | {"steps": torch.tensor(self._number)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self._others.restore(tensors)
        self._number = int(tensors["steps"])
        for name, both in self._moments.items():
            for n, moment in enumerate(both):
                moment.copy_(tensors[f"moments.{name}.{n}"])
