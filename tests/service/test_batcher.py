"""The batcher: scores are the same in any company, a fault stays with whoever brought it, nothing is lost at the end."""

import asyncio
import threading
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from prometheus_client import CollectorRegistry
from torch import Tensor

from recsys_ae import MODELS, Histories, rank_top_k
from recsys_ae.ranking import Ranking
from service.batcher import Asked, Batcher
from service.observing import BatchMetrics
from tests.worlds import N_ITEMS, fitted, tastes

HISTORIES = [tastes(23).take(slice(row, row + 1)) for row in range(23)]


@pytest.fixture
def batcher() -> Any:
    made = Batcher(2, BatchMetrics(CollectorRegistry()))
    yield made
    made.close()


def asked(model: Any, history: Histories, k: int = 7, **options: Any) -> Asked[Ranking]:
    return Asked(history, model, k, lambda ranking: ranking, **options)


def same(one: Ranking, other: Ranking) -> bool:
    return one.items.tolist() == other.items.tolist() and np.allclose(one.scores, other.scores, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_list_is_the_same_in_any_company(batcher: Batcher, name: str) -> None:
    model = fitted(name, tastes())

    async def walk() -> tuple[list[Ranking], list[Ranking]]:
        alone = [await batcher.ask(partial(asked, model, history)) for history in HISTORIES]
        together = await asyncio.gather(*(batcher.ask(partial(asked, model, history)) for history in HISTORIES))
        return alone, together

    for one, other, history in zip(*asyncio.run(walk()), HISTORIES, strict=True):
        assert same(one, other) and same(one, rank_top_k(model, history, 7, exclude_seen=False))


def test_each_gets_as_many_as_it_asks_for_of_what_it_may(batcher: Batcher) -> None:
    model = fitted("ease", tastes())
    even, few = np.arange(N_ITEMS) % 2 == 0, np.arange(N_ITEMS) < 3
    wishes = [
        {"k": 1 + row % 9, "left_out": history.items[: row % 4], "allow": (None, even, few)[row % 3], "long": row % 5 == 0}
        for row, history in enumerate(HISTORIES)
    ]

    async def walk() -> list[Ranking]:
        some = zip(HISTORIES, wishes, strict=True)
        return await asyncio.gather(*(batcher.ask(partial(asked, model, history, **wish)) for history, wish in some))

    for found, history, wish in zip(asyncio.run(walk()), HISTORIES, wishes, strict=True):
        exclude = Histories.from_rows([wish["left_out"].tolist()], N_ITEMS)
        wanted = rank_top_k(model, history, wish["k"], exclude_seen=False, exclude=exclude, allow=wish["allow"])
        assert same(found, wanted) and found.items.shape == (1, wish["k"])


class Counting:
    """A model that scores item i of a history by how many it holds, and notes how many rows it was asked for."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.free = threading.Event()
        self.n_items = N_ITEMS

    def score(self, histories: Histories) -> Tensor:
        self.free.wait(10)
        self.rows.append(int((histories.lengths > 0).sum()))
        return torch.from_numpy(np.repeat(histories.lengths[:, None], histories.n_items, 1).astype(np.float32))


def test_what_waits_is_scored_together_and_what_is_given_up_is_not_scored() -> None:
    batcher, model = Batcher(1, BatchMetrics(CollectorRegistry())), Counting()

    async def walk() -> list[Any]:
        first = asyncio.create_task(batcher.ask(partial(asked, model, HISTORIES[0])))
        while not batcher._tasks and not first.done():  # taken by the one thread, which waits in the model
            await asyncio.sleep(0)
        while batcher._tasks:
            await asyncio.sleep(0.001)
        rest = [asyncio.create_task(batcher.ask(partial(asked, model, history))) for history in HISTORIES[1:12]]
        await asyncio.sleep(0)
        rest[3].cancel()
        await asyncio.sleep(0)
        model.free.set()
        return await asyncio.gather(first, *rest, return_exceptions=True)

    found = asyncio.run(walk())
    batcher.close()
    assert isinstance(found.pop(4), asyncio.CancelledError)
    kept = [history for n, history in enumerate(HISTORIES[:12]) if n != 4]
    assert [float(each.scores[0, 0]) for each in found] == [history.n_interactions for history in kept]
    assert model.rows[0] == 1 and sum(model.rows) == 11 and model.rows[1:] == [10]


def test_a_fault_stays_with_whoever_brought_it(batcher: Batcher) -> None:
    model = fitted("ease", tastes())

    def broken(*_: Any) -> Any:
        raise LookupError("mine")

    async def walk() -> list[Any]:
        good = [batcher.ask(partial(asked, model, history)) for history in HISTORIES[:3]]
        bad = [
            batcher.ask(broken),
            batcher.ask(lambda: Asked(HISTORIES[0], model, 3, broken)),
            batcher.ask(lambda: Asked(HISTORIES[0], model, 3, broken, long=True)),
            batcher.ask(lambda: None),  # type: ignore[arg-type,return-value]
        ]
        return await asyncio.gather(*good, *bad, return_exceptions=True)

    for _ in range(20):
        found = asyncio.run(walk())
        assert all(isinstance(each, Ranking) for each in found[:3])
        assert [str(each) for each in found[3:6]] == ["mine"] * 3 and isinstance(found[6], AttributeError)


def test_a_model_that_fails_fails_its_own_lists_alone(batcher: Batcher) -> None:
    class Broken:
        n_items = N_ITEMS

        def score(self, _: Histories) -> Tensor:
            raise ValueError("no scores")

    model = fitted("ease", tastes())

    async def walk() -> list[Any]:
        some = [asked(each, history) for history in HISTORIES[:4] for each in (Broken(), model)]
        return await asyncio.gather(*(batcher.ask(lambda one=one: one) for one in some), return_exceptions=True)

    found = asyncio.run(walk())
    assert [isinstance(each, Ranking) for each in found] == [False, True] * 4


def test_closing_answers_what_was_asked_and_refuses_the_rest() -> None:
    batcher, model = Batcher(1, BatchMetrics(CollectorRegistry())), Counting()

    async def walk() -> list[Ranking]:
        waiting = [asyncio.create_task(batcher.ask(partial(asked, model, history))) for history in HISTORIES]
        await asyncio.sleep(0)
        closing = asyncio.create_task(asyncio.to_thread(batcher.close))
        await asyncio.sleep(0.01)
        model.free.set()
        found = await asyncio.gather(*waiting)
        await closing
        with pytest.raises(RuntimeError, match="closed"):
            await batcher.ask(partial(asked, model, HISTORIES[0]))
        return found

    assert len(asyncio.run(walk())) == len(HISTORIES)
