"""What users did, what they were shown and what operators say of items, in SQL."""

from service.store.records import Added, ItemFacts, NewEvent, Shown, StoredEvent, UserEvents, listed
from service.store.stamps import Stamp
from service.store.store import Store

__all__ = ["Added", "ItemFacts", "NewEvent", "Shown", "Stamp", "Store", "StoredEvent", "UserEvents", "listed"]
