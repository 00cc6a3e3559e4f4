"""What is stored, and what is read of it."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from recsys_ae.ids import Id


class NewEvent(NamedTuple):
    """Something a user did with an item, as it is posted; ids as the model has them."""

    event_id: str
    user_id: str
    item_id: Id
    weight: float | None = None
    timestamp: int | None = None  # seconds since 1970
    event_type: str | None = None
    request_id: str | None = None


class Shown(NamedTuple):
    """A list that an answer held, best item first."""

    request_id: str
    place: int  # in its batch, from 0
    user_id: str | None  # as the store has it, where known
    model_version: str
    arm: str | None  # of an A/B test
    source: str
    items: str  # as `listed` writes them
    shown_at: int  # seconds since 1970


def listed(items: Iterable[Id]) -> str:
    """Items of a list, best first, as the table of impressions has them: JSON, each id as text."""
    return json.dumps([str(item) for item in items])


class StoredEvent(NamedTuple):
    """An event with its place in the order of arrival."""

    sequence: int
    event_id: str
    item_id: Id
    weight: float | None
    timestamp: int | None
    event_type: str | None
    request_id: str | None
    received_at: int

    @property
    def time(self) -> int:
        """When it happened, or else when it came, in seconds since 1970."""
        return self.received_at if self.timestamp is None else self.timestamp


@dataclass(frozen=True)
class Added:
    """What became of posted events. Those that were there already are duplicates, and conflicts if they say something else."""

    accepted: int
    duplicates: int
    conflicts: tuple[str, ...]


@dataclass(frozen=True)
class ItemFacts:
    """What is said of an item; None: what the model's own data say."""

    title: str | None = None
    categories: tuple[str, ...] | None = None
    available: bool = True


@dataclass(frozen=True)
class UserEvents:
    """The events of a user in order of arrival, and whether the user was erased before them."""

    events: tuple[StoredEvent, ...]
    erased: bool
