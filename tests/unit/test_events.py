import numpy as np
import pytest

from recsys_ae import IdMap, Preprocessing
from recsys_ae.errors import DataError
from recsys_ae.events import RawEvent, history_of

ITEMS = IdMap((10, 20, 30))


def test_a_history_is_in_order_of_time_and_names_what_is_unknown() -> None:
    events = [RawEvent(30, timestamp=5), RawEvent(99, timestamp=4), RawEvent("10", timestamp=1), RawEvent("x", timestamp=2)]
    history, unknown = history_of(events, ITEMS, Preprocessing())
    assert history.items.tolist() == [0, 2]
    assert history.times is not None
    assert history.times.tolist() == [1, 5]
    assert unknown == [99, "x"]


def test_unknown_items_take_their_places_within_the_cap_as_they_did_at_ingest() -> None:
    history, unknown = history_of([RawEvent(10), RawEvent(20), RawEvent(99)], ITEMS, Preprocessing(max_history=2))
    assert history.items.tolist() == [1]
    assert unknown == [99]


def test_a_robot_has_no_history() -> None:
    assert history_of([RawEvent(10)] * 3, ITEMS, Preprocessing(max_user_events=2))[0].n_interactions == 0


def test_event_types_weigh_and_one_without_a_type_counts_as_it_is() -> None:
    rule = Preprocessing(event_weights={"view": 1, "buy": 4}, repeats="sum", weight_transform="linear")
    events = [
        RawEvent(10, 2.0, None, "buy"),
        RawEvent(10, None, None, "view"),
        RawEvent(20, 3.0),
        RawEvent(30, 9.0, None, "spam"),
    ]
    history, unknown = history_of(events, ITEMS, rule)
    assert dict(zip(history.items.tolist(), history.weights.tolist(), strict=True)) == {0: 9.0, 1: 3.0}
    assert unknown == []


def test_times_are_known_of_all_events_or_of_none() -> None:
    with pytest.raises(DataError, match="1 of 2 events have a timestamp; expected all or none"):
        history_of([RawEvent(10, timestamp=3), RawEvent(20)], ITEMS, Preprocessing())


def test_no_events_are_an_empty_history() -> None:
    history, unknown = history_of([], ITEMS, Preprocessing(half_life_days=3, reference_time=0))
    assert (len(history), history.n_interactions, unknown) == (1, 0, [])
    assert np.array_equal(history.matrix.toarray(), np.zeros((1, 3)))
