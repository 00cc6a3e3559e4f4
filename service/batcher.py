"""Batcher: lists that are asked for at the same time are scored together, by a fixed number of threads off the event loop.

Nobody waits for company: a thread that is free takes what is there. While all are busy the next batch fills by itself.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from recsys_ae.histories import Histories
from recsys_ae.index import Index
from recsys_ae.models.base import Recommender
from recsys_ae.ranking import Ranking, rank_scores
from service.observing import BatchMetrics

log = logging.getLogger("service")

T = TypeVar("T")

NOTHING = np.empty(0, np.int32)

MOST = 32
"""Histories of one product. On a CPU, a product of 32 rows takes hardly longer than one of 8: reading the weights is what takes
time. How a score is rounded hangs on how many are there; lists are the same but for ties within that."""


@dataclass(frozen=True, eq=False)
class Asked(Generic[T]):
    """The k best items of a history (1, I) by a model, and what to make of that ranking (1, k).

    `left_out` (N,) are columns that may not be in it, `allow` (I,) those that may, all where None; who passes the same array is
    ranked together. `index`: of the model, to look in where all items are allowed. `drawn`: makes of the scores (1, I) those
    that rank. `long`: finishing it takes much longer than a plain list; it comes last in its batch.
    """

    history: Histories
    model: Recommender
    k: int
    finish: Callable[[Ranking], T]
    left_out: NDArray[np.integer] = field(default_factory=lambda: NOTHING)
    allow: NDArray[np.bool_] | None = None
    long: bool = False
    index: Index | None = None
    drawn: Callable[[Tensor], Tensor] | None = None


@dataclass(eq=False)
class _Task:
    prepare: Callable[[], Asked[Any]]
    future: "asyncio.Future[Any]"
    since: float = field(default_factory=time.perf_counter)


Outcome = tuple[_Task, Any, BaseException | None]


class Batcher:
    """Threads that answer, until closed."""

    def __init__(self, threads: int, metrics: BatchMetrics) -> None:
        self._tasks: deque[_Task] = deque()
        self._condition = threading.Condition()
        self._closed = False
        self._metrics = metrics
        self._threads = [threading.Thread(target=self._work, name=f"batcher-{n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    async def ask(self, prepare: Callable[[], Asked[T]]) -> T:
        """What is asked, which a thread finds out by `prepare`, scored with others. Raises what `prepare` and `finish` do."""
        future = asyncio.get_running_loop().create_future()
        with self._condition:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            self._tasks.append(_Task(prepare, future))
            self._metrics.waiting.inc()
            self._condition.notify()
        return cast(T, await future)

    def close(self) -> None:
        """Answer what is asked and end the threads."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while tasks := self._next():
            try:
                self._answer(tasks)
            except Exception as error:  # the thread must not end before the service
                log.exception("a batch failed")
                _deliver([(task, None, error) for task in tasks])
            del tasks  # else the last batch's engine outlives its swap while the thread waits

    def _next(self) -> list[_Task]:
        """The next few that somebody still waits for; none once closed."""
        with self._condition:
            while True:
                first = [self._tasks.popleft() for _ in range(min(MOST, len(self._tasks)))]
                self._metrics.waiting.dec(len(first))
                tasks = [task for task in first if not task.future.cancelled()]  # whose time was not up before their turn
                if tasks or (self._closed and not first):
                    return tasks
                if not first:
                    self._condition.wait()

    def _answer(self, tasks: list[_Task]) -> None:
        began = time.perf_counter()
        self._metrics.batch(len(tasks), [began - task.since for task in tasks])
        outcomes: list[Outcome] = []
        together: dict[Recommender, list[tuple[_Task, Asked[Any]]]] = {}
        for task in tasks:
            try:
                asked = task.prepare()
                together.setdefault(asked.model, []).append((task, asked))
            except Exception as error:
                outcomes.append((task, None, error))
        late: list[tuple[_Task, Asked[Any], Ranking]] = []
        for model, some in together.items():
            try:
                rankings = _ranked(model, [asked for _, asked in some])
            except Exception as error:
                outcomes += [(task, None, error) for task, _ in some]
                continue
            ranked = [(task, asked, ranking) for (task, asked), ranking in zip(some, rankings, strict=True)]
            outcomes += [_finished(*each) for each in ranked if not each[1].long]
            late += [each for each in ranked if each[1].long]
        _deliver(outcomes)
        for each in late:
            _deliver([_finished(*each)])


def _ranked(model: Recommender, asked: Sequence[Asked[Any]]) -> list[Ranking]:
    """What each asks for: by the index where there is one for it, else by the scores of all items."""
    found = _by_index(model, asked)
    rest = [place for place in range(len(asked)) if place not in found]
    if rest:
        found |= dict(zip(rest, _by_scores(model, [asked[place] for place in rest]), strict=True))
    return [found[place] for place in range(len(asked))]


def _by_index(model: Recommender, asked: Sequence[Asked[Any]]) -> dict[int, Ranking]:
    """The lists that an index gives, by place."""
    places = [place for place, each in enumerate(asked) if each.index is not None and each.allow is None]
    if not places:
        return {}
    some = [asked[place] for place in places]
    factors, index = model.factors(Histories.stack([each.history for each in some])), some[0].index
    assert factors is not None and index is not None
    lists = index.ranked(factors.queries.cpu().numpy(), [each.left_out for each in some], [each.k for each in some])
    return {place: ranking for place, ranking in zip(places, lists, strict=True) if ranking is not None}


def _by_scores(model: Recommender, asked: Sequence[Asked[Any]]) -> list[Ranking]:
    """One product for all, and one search for those that may return the same items."""
    scores = model.score(Histories.stack([each.history for each in asked]))
    for place, each in enumerate(asked):
        if each.drawn is not None:
            scores[place] = each.drawn(scores[place : place + 1])[0]
    found: dict[int, Ranking] = {}
    alike: dict[int, list[int]] = {}
    for place, each in enumerate(asked):
        alike.setdefault(id(each.allow), []).append(place)
    for places in alike.values():
        some = [asked[place] for place in places]
        left_out = Histories.from_columns([each.left_out for each in some], model.n_items)
        own = scores if len(some) == len(asked) else scores[places]
        ranking = rank_scores(own, left_out, max(each.k for each in some), allow=some[0].allow)
        found |= {place: ranking.part(row, asked[place].k) for row, place in enumerate(places)}
    return [found[place] for place in range(len(asked))]


def _finished(task: _Task, asked: Asked[Any], ranking: Ranking) -> Outcome:
    try:
        return task, asked.finish(ranking), None
    except Exception as error:
        return task, None, error


def _deliver(outcomes: Iterable[Outcome]) -> None:
    """To whoever waits, on the event loop of each."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Outcome]] = {}
    for outcome in outcomes:
        by_loop.setdefault(outcome[0].future.get_loop(), []).append(outcome)
    for loop, some in by_loop.items():
        with suppress(RuntimeError):  # a loop that is closed: nobody waits
            loop.call_soon_threadsafe(_set, some)


def _set(outcomes: list[Outcome]) -> None:
    for task, value, error in outcomes:
        if task.future.done():  # given up meanwhile
            continue
        if error is None:
            task.future.set_result(value)
        else:
            task.future.set_exception(error)
