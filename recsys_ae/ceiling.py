"""What this machine can do at the shapes that training meets: matrix products, copies; and the times that follow from it."""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from recsys_ae.products import numpy_multiplies, numpy_product
from recsys_ae.training.layers import MOST_LOGITS

TIMES, PATIENCE = 6, 1.0  # how often, and for how many seconds, a work is timed
COPIED = 2**26  # floats: far more than any cache
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
ADAM = 7  # passes: the parameter and its two moments read and written, the gradient read
ROWS = 6  # passes: a sampled step takes rows and moments out and puts them back
ROW_SUMS = 5  # which ranks of some items add up: norms, totals, largest logits, sums of the softmax, logits that were met
LOGITS = 4  # passes: written, read for their sum, read and written as the gradient


@dataclass(frozen=True)
class Ceiling:
    """Operations a second by type and product, and bytes a second of a copy (read and written ones)."""

    products: dict[str, dict[str, float]]
    copy: float

    def best(self, product: str) -> float:
        """Operations a second in the faster type."""
        return max(rates[product] for rates in self.products.values())

    def as_json(self) -> dict[str, Any]:
        """In units that people read."""
        rates = {dtype: {name: round(rate / 1e9, 1) for name, rate in found.items()} for dtype, found in self.products.items()}
        return {"gigaflops": rates, "copy_gigabytes_per_second": round(self.copy / 1e9, 2)}


def ceiling(batch: int, width: int, items: int) -> Ceiling:
    """At the shapes of a last layer W (I, H) on a batch of B."""
    source, target = torch.ones(COPIED), torch.ones(COPIED)
    copy = 2 * source.nbytes / _median(lambda: target.copy_(source))
    return Ceiling({name: _products(batch, width, items, dtype) for name, dtype in DTYPES.items()}, copy)


def _products(batch: int, width: int, items: int, dtype: torch.dtype) -> dict[str, float]:
    """Operations a second of the logits, and of the gradients of the layer's input and of W."""
    x, w, g = (torch.randn(shape).to(dtype) for shape in ((batch, width), (items, width), (batch, items)))
    logits, x_gradient, w_gradient = (torch.empty_like(like) for like in (g, x, w))
    operations = 2 * batch * width * items

    def forward() -> object:
        if numpy_multiplies(x, w):
            return numpy_product(x.numpy(), w.numpy(), logits.numpy())
        return torch.mm(x, w.T, out=logits)

    return {
        "forward": operations / _median(forward),
        "backward_input": operations / _median(lambda: torch.mm(g, w, out=x_gradient)),
        "backward_weight": operations / _median(lambda: torch.mm(g.T, x, out=w_gradient)),
    }


def _median(work: Callable[[], object]) -> float:
    """Seconds, but for the first time; what is slow, as bfloat16 is where a processor has none, is done less often, or once."""
    times: list[float] = []
    while not times or (len(times) < TIMES and sum(times) < PATIENCE):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times[1:] or times)


@dataclass(frozen=True)
class StepCost:
    """What a step of a linear autoencoder, items-width-items, tied, costs at least: seconds, and the bytes that stay."""

    items: int
    softmax: str
    seconds: float
    model_bytes: int  # with both moments of Adam, and the gradient where it is of all items
    travels_bytes: dict[str, int]  # that a rank adds up with the others, by what is shared out

    def as_json(self) -> dict[str, Any]:
        """As `doctor` tells it."""
        return asdict(self)


def step_cost(
    limit: Ceiling, batch: int, width: int, items: int, exact: bool, length: int = 50, negatives: int = 8_192
) -> StepCost:
    """Of `batch` users who met `length` items each; where the softmax is sampled, of those items and `negatives`."""
    trained = items if exact else min(items, negatives + batch * length)
    rates = limit.products["float32"]
    products = sum(2 * batch * width * trained / rate for rate in rates.values())
    if batch * trained > MOST_LOGITS["cpu"]:  # which are then computed twice
        products += 2 * batch * width * trained / rates["forward"]
    passes = ADAM * trained * width + LOGITS * batch * trained + (0 if exact else ROWS * trained * width)
    parameters = items * (width + 1) + width
    return StepCost(
        items,
        "exact" if exact else "sampled",
        products + 4 * passes / limit.copy,
        4 * parameters * (4 if exact else 3),
        traffic(batch, width, trained),
    )


def traffic(batch: int, width: int, trained: int) -> dict[str, int]:
    """Bytes that each rank adds up with the others in a step of so many items, by what is shared out."""
    return {"users": 4 * trained * (width + 1), "items": 4 * (2 * batch * width + ROW_SUMS * batch)}
