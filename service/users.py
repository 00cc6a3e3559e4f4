"""KnownUsers: the history of somebody known by id: what the version was published with, and what the store has heard since."""

import numpy as np

from recsys_ae.artifact import Artifact
from recsys_ae.errors import UnknownIdError
from recsys_ae.events import RawEvent, history_of
from recsys_ae.histories import Histories
from recsys_ae.ids import Id
from recsys_ae.preprocessing import Preprocessing
from recsys_ae.registry import StoredUsers
from service.store import Store, StoredEvent, UserEvents

FROM_STORE = "store"
"""The manifest's `source` of a version that was trained on the events of a store."""


NOTHING_STORED = UserEvents((), erased=False)


class KnownUsers:
    """Histories by user id, over the items of one version. Safe to use from many threads."""

    def __init__(self, artifact: Artifact, stored: StoredUsers, store: Store | None = None) -> None:
        self._artifact = artifact
        self._stored = stored
        self._store = store
        # Such a version's own histories are the store's events of that night: they would count twice.
        self._from_store = store is not None and artifact.manifest.get("source") == FROM_STORE

    def key(self, user_id: Id) -> str:
        """A user's id as the store has it."""
        return str(self._stored.users.parse(user_id))

    def history(self, user_id: Id, counter: int | None = None) -> Histories:
        """The history (1, I) as of now. `counter` is the store's of this user, where known: 0 says that it has nothing.

        Raises UnknownIdError, StoreError.

        The interactions published with the version count as events of their raw weights, as far as these can be told, before
        which the store's own follow: exact where repeats take the last weight or a sum; under `repeats = "count"` and under
        limits on a user's events a published interaction counts as one event, however many it was made of.
        """
        if self._store is None:
            return self._row(user_id)
        key = self.key(user_id)
        if "\0" in key:  # which no database keeps
            raise UnknownIdError("nothing is stored of this user")
        found = NOTHING_STORED if counter == 0 else self._store.of_user(key)
        published = self._published(user_id, found.erased)
        if not found.events:
            if published is None:
                raise UnknownIdError("nothing is stored of this user")
            return published
        preprocessing = self._artifact.preprocessing
        events = [_raw(event, preprocessing) for event in found.events]
        if published is not None:
            events = _merged(published, events, self._artifact)
        return history_of(events, self._artifact.items, preprocessing)[0]

    def published(self, user_id: Id) -> Histories | None:
        """What the version was published with of a user who is not erased, (1, I); None where that is nothing."""
        erased = self._store is not None and self._store.erased(self.key(user_id))
        return self._published(user_id, erased)

    def _published(self, user_id: Id, erased: bool) -> Histories | None:
        if erased or self._from_store:
            return None
        try:
            return self._row(user_id)
        except UnknownIdError:
            return None

    def _row(self, user_id: Id) -> Histories:
        row = self._stored.users.position(self._stored.users.parse(user_id))
        return self._stored.histories.take(np.array([row]))


def _raw(event: StoredEvent, preprocessing: Preprocessing) -> RawEvent:
    """As ingest reads it: without a type where types are weighed, it is left out."""
    kind = event.event_type if event.event_type is not None or not preprocessing.event_weights else ""
    return RawEvent(str(event.item_id), event.weight, event.time, kind)


def _merged(published: Histories, events: list[RawEvent], artifact: Artifact) -> list[RawEvent]:
    """The published interactions as events, then the others; without times, in this order, where the former have none."""
    items = artifact.items.at(published.items)
    weights = artifact.preprocessing.raw(published.weights, published.times).tolist()
    if published.times is None:
        ordered = sorted(events, key=lambda event: event.timestamp or 0)
        before = [RawEvent(item, weight) for item, weight in zip(items, weights, strict=True)]
        return before + [event._replace(timestamp=None) for event in ordered]
    times = published.times.tolist()
    return [RawEvent(item, weight, time) for item, weight, time in zip(items, weights, times, strict=True)] + events
