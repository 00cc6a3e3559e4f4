"""history_of(): the history that ingest would have made of one user's raw events, for whoever posts or stores them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from recsys_ae.errors import DataError
from recsys_ae.histories import Histories
from recsys_ae.ids import Id, IdMap
from recsys_ae.preprocessing import Events, Preprocessing


class RawEvent(NamedTuple):
    """Something a user did with an item. Only the item must be known; times are known of all events or of none."""

    item_id: Id
    weight: float | None = None
    timestamp: int | None = None  # seconds since 1970
    event_type: str | None = None


def history_of(events: Sequence[RawEvent], items: IdMap, preprocessing: Preprocessing) -> tuple[Histories, list[Id]]:
    """The history (1, I) of one user's events, in any order with times, else oldest first; and the unknown items.

    Unknown items are in order of appearance, once each. They count where events are counted (robots, `max_history`), as they
    did at ingest before it dropped them. Raises DataError where only some events have a time.
    """
    ids = [items.parse(event.item_id) for event in events]
    codes: dict[Id, int] = {}
    item_codes = np.array([codes.setdefault(id_, len(codes)) for id_ in ids], np.int64)
    columns = items.positions(codes)  # by code
    unknown = [id_ for id_, column in zip(codes, columns, strict=True) if column < 0]

    neutral = preprocessing.neutral_weight
    weights = np.array([neutral if event.weight is None else event.weight for event in events], np.float64)
    factors = np.array([preprocessing.factor(event.event_type) for event in events], np.float64)
    times = np.array([event.timestamp for event in events if event.timestamp is not None], np.int64)
    if 0 < len(times) < len(events):
        raise DataError(f"{len(times)} of {len(events)} events have a timestamp; expected all or none")
    # By time, events of the same second by place, as ingest orders them: the same events give the same scores.
    order = np.argsort(times, kind="stable") if len(times) else np.arange(len(events))
    ordered = times[order] if len(times) else None
    raw = Events(np.zeros(len(events), np.int64), item_codes[order], weights[order], ordered, factors[order])

    places, cleaned, _ = preprocessing.clean(raw)
    known = columns[raw.items[places]] >= 0
    places = places[known]
    assert cleaned is not None
    kept = None if ordered is None else ordered[places]
    indptr = np.array([0, len(places)], np.int64)
    row = columns[raw.items[places]].astype(np.int32)
    return Histories(indptr, row, preprocessing.weights(cleaned[known], kept), len(items), kept), unknown
