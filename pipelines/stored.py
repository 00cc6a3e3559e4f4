"""The API's own store as a source of the log: its events, from which those of erased users are gone."""

from dataclasses import dataclass

from pipelines.config import RunConfig
from recsys_ae import sql
from recsys_ae.increments import EventSource
from recsys_ae.sources import identifier

ORDER = "sequence"
"""Tells an event and grows with each; writers take turns, so none appears below one that was read."""


@dataclass(frozen=True)
class StoreEvents:
    """Where they are, and how many were left out because of another type of item id than most have."""

    source: EventSource
    foreign: int


def store_events(config: RunConfig) -> StoreEvents:
    """The events as the API itself takes them: without a time, when they came; without a weight, the neutral one.

    Where most item ids are integers, events of others are left out: one of them would make texts of all. `ids = "string"`
    keeps all. Raises LogError where the store cannot be read.
    """
    section = config.log
    assert config.store.url is not None
    url = config.store.url.get_secret_value()
    foreign = _foreign(url) if section.ids == "auto" else 0
    columns = {
        "user_id": section.user,
        "item_id": section.item,
        'coalesce("timestamp", received_at)': section.timestamp,
        f"coalesce(weight, {section.preprocessing.neutral_weight!r})": section.weight,
    }
    if section.event_weights:
        columns["event_type"] = section.event_type
    picked = ", ".join(f"{what} as {identifier(name)}" for what, name in columns.items())
    query = f"select {ORDER}, {picked} from recsys_events" + (" where item_kind = 'integer'" if foreign else "")
    return StoreEvents(EventSource(url, query, ORDER, ORDER, overlap=0), foreign)


def _foreign(url: str) -> int:
    """Events of items that are no integers where most are."""
    with sql.reading(url) as session:
        kinds = {
            kind: sql.number(session, f"select count(*) as n from recsys_events where item_kind = '{kind}'")
            for kind in ("integer", "string")
        }
    return kinds["string"] if kinds["integer"] > kinds["string"] else 0
