"""The times that a benchmark's work would take at the machine's ceiling."""

from dataclasses import asdict, dataclass

from recsys_ae.ceiling import ADAM, LOGITS, Ceiling


@dataclass(frozen=True)
class Floor:
    """Seconds that the products and the passes over memory would take at the ceiling, one after the other."""

    products: float
    memory: float

    def reached(self, seconds: float) -> dict[str, float]:
        """As the result file has it, with our own time over it."""
        total = self.products + self.memory
        return asdict(self) | {"total": total, "ours": seconds, "ours_over_floor": round(seconds / total, 2)}


def epoch_floor(limit: Ceiling, users: int, items: int, hidden: int, latent: int, batch: int) -> Floor:
    """An epoch of items-hidden-latent-hidden-items with a sparse first layer, exact softmax and dense Adam."""
    steps = -(-users // batch)
    last = sum(2 * users * hidden * items / limit.best(product) for product in next(iter(limit.products.values())))
    small = 3 * 2 * users * 3 * latent * hidden / limit.best("forward")  # mean, log variance, first decoder layer
    parameters = 2 * items * hidden + 3 * latent * hidden
    passes = 4 * (ADAM * parameters * steps + LOGITS * users * items)
    return Floor(last + small, passes / limit.copy)


def ranking_floor(limit: Ceiling, users: int, items: int, width: int) -> Floor:
    """Scores of all items for all users in float32, written and read once."""
    return Floor(2 * users * width * items / limit.products["float32"]["forward"], 2 * 4 * users * items / limit.copy)
