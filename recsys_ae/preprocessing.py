"""Preprocessing: how raw events become a user's history. One object for logs, posted histories and stored events."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt

SECONDS_PER_DAY = 86_400
EARLIEST, LATEST = -2_208_988_800, 4_102_444_800  # times of events: the years 1900 and 2100, in seconds since 1970
LARGEST_WEIGHT = 1e12  # of an event: sums and squares over the longest history stay far within float32
TRANSFORMS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "binary": np.ones_like,
    "linear": np.copy,
    "log1p": np.log1p,
}

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Events:
    """N raw events in order of user, then time, then place. Ids are small integers; which, is the caller's affair.

    users (N,) count from 0 and never fall; items (N,) are not negative. weights (N,) are finite, times (N,) seconds since
    1970, factors (N,) what the type of an event multiplies its weight by, NaN for a type that does not count; None: unknown.
    """

    users: Integers
    items: Integers
    weights: Floats | None = None
    times: Integers | None = None
    factors: Floats | None = None

    def __len__(self) -> int:
        return len(self.users)

    def at(self, mask: Mask) -> "Events":
        """The events where mask (N,) is true."""
        weights, times, factors = (None if a is None else a[mask] for a in (self.weights, self.times, self.factors))
        return Events(self.users[mask], self.items[mask], weights, times, factors)  # type: ignore[arg-type]


class Cleaned(NamedTuple):
    """What is left of events: their places (K,), ascending, their raw weights (K,) where known; the others by cause."""

    places: Integers
    weights: Floats | None
    dropped: dict[str, int]


class Preprocessing(BaseModel):
    """What makes a history of a user's raw events; saved in the artefact. Everything here looks at one user at a time.

    In this order: events of unlisted types are left out; so is every event of a robot; repeats of an item fold into one
    interaction at the time of the last; one whose raw weight is not positive or below `min_weight` is left out; only the last
    `max_history` stay. The raw weight then becomes a training weight: `weight_transform` (binary: 1; linear: the weight;
    log1p: log(1 + weight)), with a half-life multiplied by 2^-(age / half-life), age counted back from `reference_time`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    event_weights: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] | None = Field(None, min_length=1)
    max_user_events: PositiveInt | None = None  # a user with more raw events is a robot
    max_user_events_per_day: PositiveInt | None = None  # or with more of them on one day (UTC)
    repeats: Literal["last", "sum", "count"] = "last"  # raw weight of a repeated item: of the last event, their sum or number
    min_weight: float | None = Field(None, gt=0, allow_inf_nan=False)
    max_history: PositiveInt | None = None  # interactions of a user, the latest
    max_item_idle_days: float | None = Field(None, gt=0, allow_inf_nan=False)  # an item not met since leaves the catalogue
    weight_transform: Literal["binary", "linear", "log1p"] = "binary"
    half_life_days: float | None = Field(None, gt=0, allow_inf_nan=False)
    reference_time: int | None = None  # seconds since 1970; of a log without one, its last event's

    @property
    def neutral_weight(self) -> float:
        """The raw weight of an event that states none: one, or where a rating is asked for, enough to pass `min_weight`."""
        return max(1.0, self.min_weight or 1.0) if self.repeats == "last" and not self.event_weights else 1.0

    def factor(self, event_type: str | None) -> float:
        """What an event's type multiplies its weight by: NaN for an unlisted type, 1 without types."""
        if self.event_weights is None or event_type is None:
            return 1.0
        return self.event_weights.get(event_type, np.nan)

    def clean(self, events: Events) -> Cleaned:
        """The interactions that events come down to, with raw weights; every event left out is counted by cause."""
        places, dropped = np.arange(len(events)), dict[str, int]()

        def keep(mask: Mask, cause: str) -> None:
            nonlocal events, places
            dropped[cause] = len(mask) - int(np.count_nonzero(mask))
            if dropped[cause]:
                events, places = events.at(mask), places[mask]

        if self.event_weights is not None and events.factors is not None:
            keep(~np.isnan(events.factors), "unlisted_event_type")
            assert events.factors is not None
            own = 1.0 if events.weights is None else events.weights
            events = replace(events, weights=events.factors * own)
        if self.max_user_events is not None:
            keep(np.bincount(events.users)[events.users] <= self.max_user_events, "user_over_max_events")
        if self.max_user_events_per_day is not None and events.times is not None:
            keep(~_busy(events.users, events.times, self.max_user_events_per_day), "user_over_max_events_per_day")
        last, weights = _folded(events, self.repeats)
        events = replace(events, weights=weights)
        keep(last, "repeated")
        if events.weights is not None:
            keep(events.weights > 0, "weight_not_positive")
            if self.min_weight is not None:
                assert events.weights is not None
                keep(events.weights >= self.min_weight, "below_min_weight")
        if self.max_history is not None:
            ends = np.cumsum(np.bincount(events.users))
            keep(ends[events.users] - np.arange(len(events)) <= self.max_history, "beyond_max_history")
        return Cleaned(places, events.weights, dropped)

    def weights(self, raw: NDArray[np.floating], times: Integers | None) -> NDArray[np.float32]:
        """Training weights (N,) of interactions with raw weights (N,); those without times do not age."""
        weights = TRANSFORMS[self.weight_transform](raw.astype(np.float64))
        if self.half_life_days and times is not None and self.reference_time is not None:
            age_days = np.maximum(self.reference_time - times, 0) / SECONDS_PER_DAY
            weights = weights * np.exp2(-age_days / self.half_life_days)
        # An interaction never ages to nothing: float32 would round it to 0, and 0 means that it never was.
        return np.maximum(weights, np.finfo(np.float32).tiny).astype(np.float32)

    def raw(self, weights: NDArray[np.floating], times: Integers | None) -> Floats:
        """Raw weights (N,) of which `weights` makes these (N,), up to rounding; the neutral one where the transform is binary.

        None is below `min_weight`: what is an interaction has passed that.
        """
        found = weights.astype(np.float64)
        if self.weight_transform == "binary":
            found = np.full(len(found), self.neutral_weight)
        else:
            if self.half_life_days and times is not None and self.reference_time is not None:
                age_days = np.maximum(self.reference_time - times, 0) / SECONDS_PER_DAY
                found = found * np.exp2(np.minimum(age_days / self.half_life_days, 1_000))
            if self.weight_transform == "log1p":
                found = np.expm1(np.minimum(found, np.log1p(LARGEST_WEIGHT)))
        return np.clip(found, self.min_weight or 0.0, LARGEST_WEIGHT)


def _busy(users: Integers, times: Integers, most: int) -> Mask:
    """Events (N,) of users with more than `most` of them on one day."""
    days = times // SECONDS_PER_DAY
    starts = _starts((users[1:] != users[:-1]) | (days[1:] != days[:-1]))
    lengths = np.diff(starts, append=len(users))
    robots = np.zeros(users[-1] + 1 if len(users) else 0, np.bool_)
    robots[users[starts[lengths > most]]] = True
    return robots[users]


def _folded(events: Events, repeats: str) -> tuple[Mask, Floats | None]:
    """The last event of each user and item (N,), and with it the raw weight of all of them."""
    keys = events.users * (int(events.items.max(initial=0)) + 1) + events.items
    ordered = np.sort(keys)
    if not (ordered[1:] == ordered[:-1]).any():
        weights = events.weights if repeats != "count" else None
        return np.ones(len(keys), np.bool_), np.ones(len(keys)) if weights is None and repeats != "last" else weights
    # Only a sum depends on the order of addition, which must be that of time whatever the size of the batch.
    order = np.argsort(keys, kind="stable" if repeats == "sum" else None)
    ordered = keys[order]
    starts = _starts(ordered[1:] != ordered[:-1])
    last = np.maximum.reduceat(order, starts)
    mask = np.zeros(len(keys), np.bool_)
    mask[last] = True
    if repeats == "last":
        return mask, events.weights
    folded = np.zeros(len(keys))
    if repeats == "count" or events.weights is None:
        folded[last] = np.diff(starts, append=len(keys))
    else:
        folded[last] = np.add.reduceat(events.weights[order], starts)
    return mask, folded


def _starts(changes: Mask) -> Integers:
    """Where runs begin, given where an entry differs from the one before."""
    return np.flatnonzero(np.concatenate([[True], changes])) if len(changes) else np.zeros(1, np.int64)
