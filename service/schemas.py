"""What is posted and answered. Types are strict: `true` is no id and no number, 2.0 is no integer; unknown keys are refused."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    field_validator,
)
from pydantic_core import PydanticCustomError

from recsys_ae.ids import INT64_MAX, INT64_MIN, Id
from recsys_ae.preprocessing import EARLIEST, LARGEST_WEIGHT, LATEST
from service.settings import CEILING

LONGEST_ID = 200  # characters
EVENT_EXAMPLES: list[Any] = [{"item_id": 318, "weight": 5.0, "timestamp": 1_700_000_000}, {"item_id": 858}]

DIVERSITY = (
    "0: the plain list; up to 1: an item is worth less the more it is like one before it (maximal marginal relevance). "
    "Chosen from the 4 k best items, at most 500 beyond k."
)
CALIBRATION = (
    "0: the plain list; up to 1: the categories of the list have the shares that they have in the history. Chosen from as many "
    "items as for diversity, and not together with it."
)
EXPLORE = (
    "0: the model's own scores; up to 1: they move towards one draw from what the model holds possible for this history "
    "(Thompson sampling). The same X-Request-ID gives the same draw. For a model without a posterior only 0."
)
EXPLAIN = "Whether to say of each item which items of the history speak most for it: `because`."


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


class FieldError(BaseModel):
    """What is wrong with one part of the request."""

    place: str = Field(description="Where: body, query or path, then keys and positions.", examples=["body/history/0/item_id"])
    message: str = Field(examples=["Field required"])


class Problem(BaseModel):
    """An RFC 9457 problem document."""

    type: str = Field("about:blank", description="about:blank: the title says no more than the status.")
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["the request is not valid"])
    request_id: str = Field(description="As in the header X-Request-ID.")
    errors: list[FieldError] = Field([], description="What is wrong where, at most 20.")


MOST_ERRORS, LONGEST_PLACE = 20, 80


def field_errors(errors: Sequence[Any]) -> list[FieldError]:
    """The first errors of a validation, without any value of the input.

    A place is body/history/0/item_id; a key that the client made up may be of any length, so it is cut.
    """
    return [FieldError(place="/".join(map(str, e["loc"]))[:LONGEST_PLACE], message=e["msg"]) for e in errors[:MOST_ERRORS]]


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


def times_all_or_none(history: list[Event]) -> list[Event]:
    """The history as it came; raises the validation error where only some of its events have a time."""
    if len({event.timestamp is None for event in history}) > 1:
        raise PydanticCustomError("timestamps", "Either every event should have a timestamp or none")
    return history


History: TypeAlias = Annotated[
    list[Event],
    Field(
        max_length=CEILING,
        fail_fast=True,
        description="Events in any order with timestamps, else oldest first. Of several events of an item the last counts. "
        "Events that training would have dropped (a weight below its threshold) are left out as if not posted.",
        examples=[EVENT_EXAMPLES],
    ),
    AfterValidator(times_all_or_none),
]


def one_order(calibration: float, info: ValidationInfo) -> float:
    """The calibration as it came; raises the validation error where diversity is asked for too."""
    if calibration and info.data.get("diversity"):
        raise PydanticCustomError("one_order", "Input should be 0 where diversity is not")
    return calibration


class RecommendationRequest(Posted):
    """A history, and what the list made from it should be like."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"history": EVENT_EXAMPLES, "k": 10, "exclude": [1]}]})

    history: History
    k: int = Field(10, ge=1, description="Length of the list; shorter only where fewer items are eligible.")
    exclude: Ids = Field([], description="Items never to return; unknown ones are ignored.")
    allow: Ids | None = Field(None, description="Only these items may be returned; null for all, [] for none.")
    categories: Categories | None = Field(None, description="Only items with any of these; null for all items.")
    include_seen: bool = Field(False, description="Whether items of the history may be returned.")
    diversity: float = Field(0.0, ge=0, le=1, description=DIVERSITY)
    calibration: float = Field(0.0, ge=0, le=1, description=CALIBRATION)
    explore: float = Field(0.0, ge=0, le=1, description=EXPLORE)
    explain: bool = Field(False, description=EXPLAIN)
    user_id: PostedId | None = Field(
        None,
        description="Whose list it is, as in the log: the arm of an A/B test goes by it; a store logs the list under it.",
    )
    session_id: PostedId | None = Field(None, description="For somebody without a user id: the arm goes by it.")

    _one_order = field_validator("calibration")(one_order)


class Refused(BaseModel):
    """What is wrong with one request of several, places from that request."""

    errors: list[Any]  # as pydantic lists them


def _or_why_not(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """One of several requests: a wrong one takes none of the others with it."""
    try:
        return check(value)
    except ValidationError as error:
        return Refused(errors=error.errors(include_url=False, include_context=False, include_input=False))


Batched: TypeAlias = Annotated[RecommendationRequest, WrapValidator(_or_why_not)]


class BatchRequest(Posted):
    """Several requests that have nothing to do with one another."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"requests": [{"history": EVENT_EXAMPLES, "k": 5}, {"history": [], "k": 5}]}]}
    )

    requests: Annotated[list[Batched], Field(max_length=CEILING, fail_fast=True)] = Field(
        description="Each as posted to /v1/recommendations. One that is not valid is answered in its place; the others stand."
    )


class RankRequest(Posted):
    """A history, and the candidates to bring into order."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"history": EVENT_EXAMPLES, "items": [527, 1, 260]}]})

    history: History
    items: Ids = Field(
        description="The candidates, each ranked once. Items of the history are candidates like all others.",
        examples=[[527, 1, 260]],
    )


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
    diversity: float = Field(0.0, ge=0, le=1, allow_inf_nan=False, description=DIVERSITY)
    calibration: float = Field(0.0, ge=0, le=1, allow_inf_nan=False, description=CALIBRATION)
    explore: float = Field(0.0, ge=0, le=1, allow_inf_nan=False, description=EXPLORE)
    explain: bool = Field(False, description=EXPLAIN)

    _one_order = field_validator("calibration")(one_order)


class Reason(BaseModel):
    """An item of the history, and what it says for a recommended one."""

    item_id: Id = Field(examples=[318])
    influence: float = Field(
        description="What the score would lose without this item in the history; negative where it speaks against.",
        examples=[0.2145],
    )


class RecommendedItem(BaseModel):
    """One place of a list."""

    item_id: Id = Field(description="Of the catalogue's own type.", examples=[527])
    score: float = Field(
        description="The model's; comparable within one list only. Descending but for diversity and calibration.",
        examples=[0.8312],
    )
    title: str | None = Field(description="Where known.", examples=["Schindler's List (1993)"])
    rank: int = Field(description="From 1.", examples=[1])
    because: list[Reason] | None = Field(
        None,
        exclude_if=lambda because: because is None,
        description="Where explained: the items of the history with the largest influence on this one, the largest first.",
    )


class FoundList(BaseModel):
    """What a list says whoever asked for it, and when."""

    items: list[RecommendedItem]
    source: Literal["model", "popularity"] = Field(
        description="popularity where the history held no usable event of a known item; score is then the item's user count."
    )
    unknown_items: list[Id] = Field(
        description="Items of the history, and of the candidates, that the model does not know, in order, once each."
    )
    model_version: str = Field(examples=["20261124T031500-mult_vae-1a2b3c4d"])


class Recommendations(FoundList):
    """A list of recommended items, best first."""

    arm: str | None = Field(
        None,
        exclude_if=lambda arm: arm is None,
        description="The version that the A/B test in progress has for this user or session; absent without a test or either.",
    )
    request_id: str = Field(description="As in the header X-Request-ID.")


class BatchResults(BaseModel):
    """One result for each request, in their order: a list, or a problem where that request could not be answered."""

    results: list[Recommendations | Problem]


class Arm(BaseModel):
    """A version of an A/B test."""

    version: str = Field(examples=["20261124T031500-mult_vae-1a2b3c4d"])
    share: float = Field(description="Of users and sessions, from 0 to 1.", examples=[0.1])
    served: bool = Field(description="False where it cannot be loaded: the main version answers for it.")


class IndexInfo(BaseModel):
    """An approximate index of the catalogue."""

    recall_at_100: float = Field(description="Share of the items of exact lists of 100 that it finds.", examples=[0.987])
    queries: int = Field(description="Stored histories by which that was measured when it was made.", examples=[200])
    cells: int = Field(description="Parts of the catalogue.", examples=[1264])
    probed: int = Field(description="Parts that are searched for a list.", examples=[64])


class ModelInfo(BaseModel):
    """The version that is served."""

    version: str = Field(examples=["20261124T031500-mult_vae-1a2b3c4d"])
    model: str = Field(examples=["mult_vae"])
    data_digest: str | None = Field(description="sha256 of the data it was trained on, where recorded.")
    metrics: dict[str, Any] = Field(examples=[{"ndcg@100": {"mean": 0.42, "se": 0.004}}])
    trained_at: str = Field(description="ISO 8601.", examples=["2026-11-24T03:15:00+00:00"])
    items: int = Field(description="Size of the catalogue.")
    users: int = Field(description="Stored users.")
    index: IndexInfo | None = Field(description="Null where lists are exact.")
    arms: list[Arm] = Field(description="The A/B test in progress, oldest version first; empty without one.")


class AnomalyQuery(BaseModel):
    """How sure to be before a user is flagged."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    false_positive_rate: float = Field(0.01, gt=0, le=0.5, description="The share of ordinary users that may be flagged.")


class Anomaly(BaseModel):
    """How unlike the population a user is."""

    score: float | None = Field(description="Higher is stranger; null where the model knows no item of the history.")
    threshold: float = Field(description="Above it a user is flagged; the share of ordinary users above it is the rate.")
    flagged: bool
    false_positive_rate: float
    parts: dict[str, float] = Field(
        description="What the score is made of, in widths from the middle of users with as many items: reconstruction and code "
        "count both ways, lift where it is low, spread where it is high."
    )
    model_version: str = Field(examples=["20261124T031500-mult_vae-1a2b3c4d"])
    request_id: str = Field(description="As in the header X-Request-ID.")


class Live(BaseModel):
    """The process answers."""

    status: Literal["live"] = "live"


class Ready(BaseModel):
    """A model is loaded."""

    status: Literal["ready"] = "ready"
    model_version: str
