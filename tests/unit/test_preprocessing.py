import math

import numpy as np
import pytest
from pydantic import ValidationError

from recsys_ae import Preprocessing

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


def test_which_events_pass() -> None:
    raw = np.array([np.nan, np.inf, -1, 0, 0.5, 3.9, 4.0])
    assert Preprocessing().passes(raw).tolist() == [False, False, False, False, True, True, True]
    assert Preprocessing(min_weight=4).passes(raw).tolist() == [False] * 6 + [True]


@pytest.mark.parametrize("least", [None, 0.2, 4.0])
def test_an_event_without_a_weight_passes(least: float | None) -> None:
    rule = Preprocessing(min_weight=least)
    assert rule.passes(np.array([rule.neutral_weight])).all()


@pytest.mark.parametrize(
    "wrong",
    [{"min_weight": 0}, {"min_weight": float("inf")}, {"half_life_days": -1}, {"weight_transform": "square"}, {"typo": 1}],
)
def test_impossible_rules_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Preprocessing(**wrong)


def test_round_trips_json() -> None:
    rule = Preprocessing(min_weight=4, half_life_days=90, reference_time=5)
    assert Preprocessing.model_validate_json(rule.model_dump_json()) == rule
