"""What is posted and answered. Types are strict: `true` is no id and no number, 2.0 is no integer; unknown keys are refused."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema, field_validator
from pydantic_core import PydanticCustomError

from recsys_ae.ids import INT64_MAX, INT64_MIN, Id
from recsys_ae.preprocessing import EARLIEST, LARGEST_WEIGHT, LATEST
from service.settings import CEILING

LONGEST_ID = 200  # characters
EVENT_EXAMPLES: list[Any] = [{"item_id": 318, "weight": 5.0, "timestamp": 1_700_000_000}, {"item_id": 858}]


def _checked_id(value: Any) -> Id:
    if type(value) is int and INT64_MIN <= value <= INT64_MAX:
        return value
    if type(value) is str and len(value) <= LONGEST_ID:
        return value
    raise PydanticCustomError("id", "Input should be an integer of 64 bits or a string of at most 200 characters")


ID_SCHEMA = {"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": LONGEST_ID}]}
PostedId: TypeAlias = Annotated[Id, PlainValidator(_checked_id), WithJsonSchema(ID_SCHEMA)]
Categories: TypeAlias = Annotated[list[Annotated[str, Field(max_length=LONGEST_ID)]], Field(max_length=1_000, fail_fast=True)]
Ids: TypeAlias = Annotated[list[PostedId], Field(max_length=CEILING, fail_fast=True)]


class Posted(BaseModel):
    """What a client sends."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Event(Posted):
    """Something a user did with an item."""

    item_id: PostedId = Field(description="Integer or string as in the catalogue; an integer catalogue also takes digits.")
    weight: float | None = Field(
        None,
        ge=-LARGEST_WEIGHT,
        le=LARGEST_WEIGHT,
        description="Raw weight as in the log, say a rating; treated as in training. Without one the event counts as positive.",
    )
    timestamp: int | None = Field(
        None, ge=EARLIEST, le=LATEST, description="Seconds since 1970; on every event of a history or on none."
    )
    event_type: Annotated[str, Field(max_length=LONGEST_ID)] | None = Field(
        None,
        description="As in the log, where training weighs event types; one that it does not list does not count. Without one "
        "the event's own weight counts.",
    )


class RecommendationRequest(Posted):
    """A history, and what the list made from it should be like."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"history": EVENT_EXAMPLES, "k": 10, "exclude": [1]}]})

    history: Annotated[list[Event], Field(max_length=CEILING, fail_fast=True)] = Field(
        description="Events in any order with timestamps, else oldest first. Of several events of an item the last counts. "
        "Events that training would have dropped (a weight below its threshold) are left out as if not posted.",
        examples=[EVENT_EXAMPLES],
    )
    k: int = Field(10, ge=1, description="Length of the list; shorter only where fewer items are eligible.")
    exclude: Ids = Field([], description="Items never to return; unknown ones are ignored.")
    allow: Ids | None = Field(None, description="Only these items may be returned; null for all, [] for none.")
    categories: Categories | None = Field(None, description="Only items with any of these; null for all items.")
    include_seen: bool = Field(False, description="Whether items of the history may be returned.")
    diversity: float = Field(0.0, description="Reserved: anything but 0 is refused in this release.")
    explain: bool = Field(False, description="Reserved: true is refused in this release.")
    user_id: PostedId | None = Field(None, description="The caller's own reference; does not change the answer.")
    session_id: PostedId | None = Field(None, description="The caller's own reference; does not change the answer.")

    @field_validator("history")
    @classmethod
    def _times_all_or_none(cls, history: list[Event]) -> list[Event]:
        if len({event.timestamp is None for event in history}) > 1:
            raise PydanticCustomError("timestamps", "Either every event should have a timestamp or none")
        return history

    @field_validator("diversity")
    @classmethod
    def _no_diversity(cls, diversity: float) -> float:
        if diversity != 0:
            raise PydanticCustomError("unavailable", "diversity is not available in this release; expected 0")
        return diversity

    @field_validator("explain")
    @classmethod
    def _no_explanation(cls, explain: bool) -> bool:
        return refuse_explanation(explain)


def refuse_explanation(explain: bool) -> bool:
    """False as it came; raises the validation error for True."""
    if explain:
        raise PydanticCustomError("unavailable", "explain is not available in this release; expected false")
    return explain


class SimilarQuery(BaseModel):
    """Query of the similar items."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    k: int = Field(10, ge=1, description="Length of the list; shorter only where fewer items are eligible.")


class UserQuery(SimilarQuery):
    """Query of a stored user's recommendations."""

    exclude: list[Annotated[str, Field(max_length=LONGEST_ID)]] = Field(
        [], description="Item never to return; may be repeated. Unknown ones are ignored."
    )
    category: list[Annotated[str, Field(max_length=LONGEST_ID)]] | None = Field(
        None, description="Only items with this category; repeated: with any of them."
    )
    include_seen: bool = Field(False, description="Whether items of the user's history may be returned.")
    explain: bool = Field(False, description="Reserved: true is refused in this release.")

    @field_validator("explain")
    @classmethod
    def _no_explanation(cls, explain: bool) -> bool:
        return refuse_explanation(explain)


class RecommendedItem(BaseModel):
    """One place of a list."""

    item_id: Id = Field(description="Of the catalogue's own type.", examples=[527])
    score: float = Field(description="Descending; comparable within one list only.", examples=[0.8312])
    title: str | None = Field(description="Where known.", examples=["Schindler's List (1993)"])
    rank: int = Field(description="From 1.", examples=[1])


class Recommendations(BaseModel):
    """A list of recommended items, best first."""

    items: list[RecommendedItem]
    source: Literal["model", "popularity"] = Field(
        description="popularity where the history held no usable event of a known item; score is then the item's user count."
    )
    unknown_items: list[Id] = Field(description="Items of the history that the model does not know, in order, once each.")
    model_version: str = Field(examples=["20261124T031500-mult_vae-1a2b3c4d"])
    request_id: str = Field(description="As in the header X-Request-ID.")


class ModelInfo(BaseModel):
    """The version that is served."""

    version: str = Field(examples=["20261124T031500-mult_vae-1a2b3c4d"])
    model: str = Field(examples=["mult_vae"])
    data_digest: str | None = Field(description="sha256 of the data it was trained on, where recorded.")
    metrics: dict[str, Any] = Field(examples=[{"ndcg@100": {"mean": 0.42, "se": 0.004}}])
    trained_at: str = Field(description="ISO 8601.", examples=["2026-11-24T03:15:00+00:00"])
    items: int = Field(description="Size of the catalogue.")
    users: int = Field(description="Stored users.")


class Live(BaseModel):
    """The process answers."""

    status: Literal["live"] = "live"


class Ready(BaseModel):
    """A model is loaded."""

    status: Literal["ready"] = "ready"
    model_version: str
