import math
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from recsys_ae import Preprocessing
from recsys_ae.preprocessing import Events

RAW = np.array([0.5, 1.0, 3.0, 5.0])


@pytest.mark.parametrize(
    ("transform", "expected"),
    [("binary", [1, 1, 1, 1]), ("linear", RAW.tolist()), ("log1p", [math.log(1 + w) for w in RAW])],
)
def test_transforms(transform: str, expected: list[float]) -> None:
    weights = Preprocessing(weight_transform=transform).weights(RAW, None)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


def test_a_weight_halves_with_each_half_life() -> None:
    rule = Preprocessing(half_life_days=10, reference_time=100 * 86_400, weight_transform="linear")
    times = np.array([100, 90, 80, 110]) * 86_400  # the last lies in the future of the reference
    np.testing.assert_allclose(rule.weights(np.full(4, 8.0), times), [8, 4, 2, 8], rtol=1e-6)


def test_events_without_times_do_not_age() -> None:
    rule = Preprocessing(half_life_days=1, reference_time=10**9)
    assert rule.weights(RAW, None).tolist() == [1, 1, 1, 1]


def test_an_interaction_never_ages_to_nothing() -> None:
    rule = Preprocessing(half_life_days=1, reference_time=4 * 10**9)
    assert rule.weights(np.ones(1), np.zeros(1, np.int64))[0] > 0


def test_weights_leave_their_input_alone() -> None:
    raw = RAW.copy()
    Preprocessing(weight_transform="linear", half_life_days=1, reference_time=99).weights(raw, np.zeros(4, np.int64))
    np.testing.assert_array_equal(raw, RAW)


# --- from events to interactions ------------------------------------------------------------------------------------------


def events(rows: list[tuple[int, ...]], names: str = "uiwt") -> Events:
    """Rows of user, item, weight, time and factor, as `names` says."""
    columns = dict(zip(names, np.array(rows, np.float64).reshape(-1, len(names)).T, strict=True))
    whole = {n: columns[n].astype(np.int64) for n in "uit" if n in columns}
    return Events(whole["u"], whole["i"], columns.get("w"), whole.get("t"), columns.get("f"))


def cleaned(rule: Preprocessing, given: Events) -> tuple[list[int], list[float] | None, dict[str, int]]:
    places, weights, dropped = rule.clean(given)
    return places.tolist(), None if weights is None else weights.tolist(), {c: n for c, n in dropped.items() if n}


def test_which_events_pass() -> None:
    raw = [-1, 0, 0.5, 3.9, 4.0]
    given = events([(0, item, weight) for item, weight in enumerate(raw)], "uiw")
    assert cleaned(Preprocessing(), given)[::2] == ([2, 3, 4], {"weight_not_positive": 2})
    assert cleaned(Preprocessing(min_weight=4), given)[::2] == ([4], {"weight_not_positive": 2, "below_min_weight": 2})


@pytest.mark.parametrize("least", [None, 0.2, 4.0])
def test_an_event_without_a_weight_passes(least: float | None) -> None:
    rule = Preprocessing(min_weight=least)
    assert cleaned(rule, events([(0, 0, rule.neutral_weight)], "uiw"))[0] == [0]  # type: ignore[list-item]


def test_an_event_without_a_weight_counts_as_one_where_events_are_added_up() -> None:
    for rule in (Preprocessing(min_weight=3, repeats="sum"), Preprocessing(min_weight=3, repeats="count")):
        assert rule.neutral_weight == 1
        assert cleaned(rule, events([(0, 7)] * 3 + [(0, 8)] * 2, "ui")) == ([2], [3], {"repeated": 3, "below_min_weight": 1})
    assert Preprocessing(min_weight=3, event_weights={"buy": 5}).neutral_weight == 1


REPEATED = [(0, 5, 2, 10), (0, 6, 1, 11), (0, 5, 4, 12), (1, 5, 3, 1), (1, 5, -1, 2), (1, 5, -1, 3)]


@pytest.mark.parametrize(
    ("repeats", "places", "weights"),
    [("last", [1, 2], [1, 4]), ("sum", [1, 2, 5], [1, 6, 1]), ("count", [1, 2, 5], [1, 2, 3])],
)
def test_repeats_fold_into_the_last(repeats: Any, places: list[int], weights: list[float]) -> None:
    assert cleaned(Preprocessing(repeats=repeats), events(REPEATED))[:2] == (places, weights)


def test_a_sum_is_that_of_its_own_order_whatever_else_is_in_the_batch() -> None:
    rng = np.random.default_rng(0)
    rows = [(0, 0, w, t) for t, w in enumerate(rng.lognormal(0, 3, 999))]
    alone = cleaned(Preprocessing(repeats="sum"), events(rows))[1]
    assert alone == [pytest.approx(sum(w for _, _, w, _ in rows))]
    others = [(1 + n, int(i), 1, n) for n, i in enumerate(rng.integers(0, 9, 5_000))]
    assert cleaned(Preprocessing(repeats="sum"), events(rows + others))[1][:1] == alone  # type: ignore[index]


def test_event_types_multiply_weights_and_unlisted_ones_do_not_count() -> None:
    rule = Preprocessing(event_weights={"view": 1, "buy": 5}, repeats="sum")
    assert rule.factor("buy") == 5
    assert rule.factor(None) == Preprocessing().factor("anything") == 1
    assert np.isnan(rule.factor("Buy"))
    given = events([(0, 1, 2, 1, 1), (0, 1, 3, 2, 5), (0, 2, 1, 3, np.nan)], "uiwtf")  # type: ignore[list-item]
    assert cleaned(rule, given) == ([1], [17], {"unlisted_event_type": 1, "repeated": 1})
    without_weights = events([(0, 1, 1), (0, 1, 5)], "uif")
    assert cleaned(rule, without_weights) == ([1], [6], {"repeated": 1})


def test_a_robot_is_left_out_whole_by_its_number_of_events_or_by_those_of_its_busiest_day() -> None:
    day = 86_400
    many = [(0, n, 1, n * day) for n in range(6)]
    hasty = [(1, n, 1, n + (day - 2 if n > 1 else 0)) for n in range(5)]  # two on the first day (UTC), three on the second
    given = events(many + hasty)
    assert cleaned(Preprocessing(max_user_events=5), given)[::2] == ([6, 7, 8, 9, 10], {"user_over_max_events": 6})
    rule = Preprocessing(max_user_events_per_day=2)
    assert cleaned(rule, given)[::2] == ([0, 1, 2, 3, 4, 5], {"user_over_max_events_per_day": 5})
    assert len(cleaned(Preprocessing(max_user_events_per_day=3), given)[0]) == 11


def test_robots_are_known_by_events_before_repeats_fold() -> None:
    assert cleaned(Preprocessing(max_user_events=2), events([(0, 1, 1, 1)] * 3 + [(1, 1, 1, 1)]))[0] == [3]


def test_the_cap_keeps_the_latest_interactions_that_count() -> None:
    given = events([(0, 1, 5, 1), (0, 2, 5, 2), (0, 3, 1, 3), (0, 2, 5, 4), (1, 9, 5, 0)])
    rule = Preprocessing(max_history=2, min_weight=2)
    assert cleaned(rule, given)[::2] == ([0, 3, 4], {"repeated": 1, "below_min_weight": 1})
    assert cleaned(Preprocessing(max_history=1), given)[0] == [3, 4]


def test_no_events_at_all() -> None:
    rule = Preprocessing(max_history=1, max_user_events=1, max_user_events_per_day=1, repeats="sum", event_weights={"a": 1})
    none = np.zeros(0, np.int64)
    assert cleaned(rule, Events(none, none, none.astype(float), none, none.astype(float)))[:2] == ([], [])


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_weight": 0},
        {"min_weight": float("inf")},
        {"half_life_days": -1},
        {"weight_transform": "square"},
        {"typo": 1},
        {"repeats": "first"},
        {"event_weights": {}},
        {"event_weights": {"view": 0}},
        {"event_weights": {"view": float("nan")}},
        {"max_history": 0},
        {"max_user_events": 1.5},
        {"max_item_idle_days": -1},
    ],
)
def test_impossible_rules_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Preprocessing(**wrong)


def test_round_trips_json() -> None:
    rule = Preprocessing(
        min_weight=4, half_life_days=90, reference_time=5, event_weights={"view": 1, "buy": 2.5}, repeats="sum"
    )
    assert Preprocessing.model_validate_json(rule.model_dump_json()) == rule
