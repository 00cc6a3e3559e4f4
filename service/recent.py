"""Recent: histories that lists were lately asked for; the next version makes lists of them before it is served."""

import time
from collections import deque

import numpy as np

from recsys_ae.histories import Histories
from recsys_ae.ids import Id, IdMap

KEPT = 64
APART_SECONDS = 0.25
LONGEST = 1_000  # interactions of a history


class Recent:
    """The last few histories by item id, at most some a second, in memory alone. Safe to use from many threads."""

    def __init__(self) -> None:
        self._kept: deque[tuple[tuple[Id, ...], list[float]]] = deque(maxlen=KEPT)
        self._next = 0.0

    def add(self, items: IdMap, history: Histories) -> None:
        """Note a history (1, I), unless one was noted just now or it is very long."""
        now = time.monotonic()
        if now >= self._next and history.n_interactions <= LONGEST:
            self._next = now + APART_SECONDS
            self._kept.append((tuple(items.at(history.items)), history.weights.tolist()))

    def over(self, items: IdMap) -> Histories:
        """The histories (B, I) over another catalogue, without the items that it has not, and without those of such alone."""
        rows, weights = [], []
        for ids, own in tuple(self._kept):
            columns = items.positions(items.parse(id_) for id_ in ids)
            known = columns >= 0
            if known.any():
                rows.append(columns[known].tolist())
                weights.append(np.array(own)[known].tolist())
        return Histories.from_rows(rows, len(items), weights)
