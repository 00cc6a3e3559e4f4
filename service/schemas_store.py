"""What is posted to the store and answered from it."""

from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from recsys_ae.ids import INT64_MAX, Id
from recsys_ae.preprocessing import EARLIEST, LATEST
from service.schemas import LONGEST_ID, Event, Posted, PostedId
from service.settings import CEILING

LONGEST_TITLE = 1_000
Checked = TypeVar("Checked", int, str, Id)
INTERACTIONS_EXAMPLE: dict[str, Any] = {
    "events": [
        {"event_id": "9c1f", "user_id": 42, "item_id": 318, "weight": 5.0, "timestamp": 1_700_000_000},
        {"event_id": "9c20", "user_id": 42, "item_id": 858},
    ]
}


def is_storable(text: str) -> bool:
    """Whether every database keeps a text as it is."""
    return bool(text) and text == text.strip() and "\0" not in text


def checked_text(value: Checked) -> Checked:
    """An id, or any text, that every database keeps as it is. Raises the validation error for others."""
    if isinstance(value, str) and not is_storable(value):
        raise PydanticCustomError("text", "Input should neither be empty, begin or end with white space, nor hold a null byte")
    return value


PathText: TypeAlias = Annotated[str, AfterValidator(checked_text)]
StoredId: TypeAlias = Annotated[PostedId, AfterValidator(checked_text)]
Text: TypeAlias = Annotated[str, Field(min_length=1, max_length=LONGEST_ID), AfterValidator(checked_text)]


class Interaction(Event):
    """Something a user did with an item, told by an id of its own."""

    event_id: StoredId = Field(description="The caller's own, one for each event: what is stored once is not stored again.")
    user_id: StoredId = Field(description="As in the log; one that nobody has heard of is a new user.")
    item_id: StoredId = Field(description="As in the catalogue; one that the model does not know is kept for the next one.")
    timestamp: int | None = Field(
        None, ge=EARLIEST, le=LATEST, description="Seconds since 1970; without one, when the event came."
    )
    event_type: Text | None = Field(
        None,
        description="As in the log; where training weighs event types, none or one that it does not list does not count.",
    )
    request_id: Text | None = Field(None, description="Of the answer that the user reacted to.")


class Interactions(Posted):
    """Events of any users, in any order."""

    model_config = ConfigDict(json_schema_extra={"examples": [INTERACTIONS_EXAMPLE]})

    events: Annotated[list[Interaction], Field(max_length=CEILING, fail_fast=True)] = Field(
        description="Stored all or none; the service limits how many."
    )


class Taken(BaseModel):
    """What became of posted events."""

    accepted: int = Field(description="Events that are stored now and were not before.", examples=[2])
    duplicates: int = Field(description="Events whose id was there already; nothing changed.", examples=[0])
    conflicts: list[str] = Field(description="Ids of those duplicates whose stored event says something else.", examples=[[]])


class StoredQuery(BaseModel):
    """Which page of a user's events."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: int = Field(100, ge=1, le=1_000, description="Most events of a page.")
    after: int = Field(0, ge=0, le=INT64_MAX, description="`next` of the page before; 0 for the first.")


class StoredInteraction(BaseModel):
    """An event of the store."""

    sequence: int = Field(description="Place in the order of arrival; grows over all users.", examples=[17])
    event_id: str
    item_id: Id
    weight: float | None
    timestamp: int | None
    event_type: str | None
    request_id: str | None
    received_at: int = Field(description="Seconds since 1970.", examples=[1_700_000_000])


class PublishedInteraction(BaseModel):
    """An interaction that the served version was published with."""

    item_id: Id
    weight: float = Field(description="As the model sees it.")
    timestamp: int | None


class StoredInteractions(BaseModel):
    """What is stored of a user."""

    events: list[StoredInteraction] = Field(description="Of the store, in order of arrival.")
    next: int | None = Field(description="`after` of the next page; null on the last.")
    published: list[PublishedInteraction] = Field(
        description="On the first page: what the served version brought with it, unless it was trained on this store."
    )


class PutItem(Posted):
    """What is said of an item."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"title": "Heat (1995)", "categories": ["Crime"], "available": True}]}
    )

    title: Annotated[str, Field(max_length=LONGEST_TITLE), AfterValidator(checked_text)] | None = Field(
        None, description="null: as in the model's own data."
    )
    categories: Annotated[list[Text], Field(max_length=1_000, fail_fast=True)] | None = Field(
        None, description="null: as in the model's own data; [] for none."
    )
    available: bool = Field(True, description="Whether it may be in lists.")


class ItemState(BaseModel):
    """What is said of an item now."""

    title: str | None
    categories: list[str] | None
    available: bool
    known: bool = Field(description="Whether the served version knows the item; if not, this waits for one that does.")
