"""The cost of a step is what its operations and bytes take at given rates."""

import pytest

from recsys_ae import ceiling
from recsys_ae.ceiling import Ceiling, step_cost

LIMIT = Ceiling({"float32": {"forward": 2e11, "backward_input": 1e11, "backward_weight": 4e11}}, 1e10)
BATCH, WIDTH = 500, 64


@pytest.mark.parametrize("items", [10_000, 1_000_000])
def test_an_exact_step(items: int) -> None:
    """Logits of a million items, beyond what is held at once, are computed twice."""
    operations = 2 * BATCH * WIDTH * items
    products = operations / 2e11 * (2 if items > 2**28 / BATCH else 1) + operations / 1e11 + operations / 4e11
    memory = 4 * (7 * items * WIDTH + 4 * BATCH * items) / 1e10
    cost = step_cost(LIMIT, BATCH, WIDTH, items, exact=True)
    assert (cost.softmax, cost.seconds) == ("exact", pytest.approx(products + memory))
    assert cost.model_bytes == 16 * (items * (WIDTH + 1) + WIDTH)
    assert cost.travels_bytes == {"users": 4 * items * (WIDTH + 1), "items": 266_000}  # as counted by benchmarks.ranks


def test_a_sampled_step_hangs_on_its_sample_alone() -> None:
    small, large = (step_cost(LIMIT, BATCH, WIDTH, items, False, 50, 8_192) for items in (100_000, 10_000_000))
    rows = 8_192 + BATCH * 50
    operations = 2 * BATCH * WIDTH * rows
    memory = 4 * (13 * rows * WIDTH + 4 * BATCH * rows) / 1e10
    assert small.seconds == pytest.approx(operations * (1 / 2e11 + 1 / 1e11 + 1 / 4e11) + memory) == large.seconds
    assert large.model_bytes == 12 * (10_000_000 * (WIDTH + 1) + WIDTH)
    assert step_cost(LIMIT, BATCH, WIDTH, 1_000, False).travels_bytes["users"] == 4 * 1_000 * (WIDTH + 1)


@pytest.mark.parametrize(("patience", "times"), [(0.0, 1), (60.0, ceiling.TIMES)])
def test_what_takes_long_is_timed_once(patience: float, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products in bfloat16 took minutes on a processor that has none."""
    monkeypatch.setattr(ceiling, "PATIENCE", patience)
    done: list[None] = []
    assert ceiling._median(lambda: done.append(None)) >= 0
    assert len(done) == times
