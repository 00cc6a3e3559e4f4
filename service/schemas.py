"""Bodies in and out. Types are strict: a boolean is no id, a string no weight."""

import math
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, model_validator

from recsys_ae.ids import Id

LONGEST_ID = 200
EARLIEST, LATEST = -2_208_988_800, 4_102_444_800  # the years 1900 and 2100


def an_id(value: object) -> object:
    """An integer or a string of at most 200 characters that UTF-8 can carry."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("an id is an integer or a string")
    if isinstance(value, str):
        if len(value) > LONGEST_ID:
            raise ValueError(f"an id has at most {LONGEST_ID} characters")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("an id is valid Unicode text") from None
    return value


def a_number(value: object) -> object:
    """A finite number; pydantic alone would take true and "1"."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("expected a number")
    try:
        value = float(value)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise ValueError("expected a finite number")
    return value


ItemId = Annotated[Id, BeforeValidator(an_id)]
Number = Annotated[float, BeforeValidator(a_number)]
Seconds = Annotated[StrictInt, Field(ge=EARLIEST, le=LATEST, description="Seconds since 1970.")]


class Body(BaseModel):
    """Unknown keys are refused: a misspelt filter must not silently filter nothing."""

    model_config = ConfigDict(extra="forbid")


class Event(Body):
    """One interaction of a history."""

    item_id: ItemId = Field(examples=[260])
    weight: Annotated[Number, Field(gt=0)] | None = Field(None, description="As in the log; enough to count where absent.")
    timestamp: Seconds | None = None


class RecommendationRequest(Body):
    """A history and what to make of it."""

    history: list[Event] = Field(description="In order of time, or with timestamps: all of them or none.")
    k: StrictInt = Field(10, ge=1, description="List length; the service has an upper limit.")
    exclude: list[ItemId] = Field([], description="Items to leave out.")
    allow: list[ItemId] | None = Field(None, description="Only these items may be returned.")
    categories: list[str] | None = Field(None, description="Only items of one of these categories.")
    include_seen: StrictBool = Field(False, description="Whether items of the history may be returned.")
    diversity: Number = Field(0.0, ge=0, le=0, description="Not in this release; 0.")
    explain: Literal[False] = Field(False, description="Not in this release; false.")
    user_id: ItemId | None = None
    session_id: ItemId | None = None

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"history": [{"item_id": 260}, {"item_id": 2571}], "k": 5}]},
    )

    @model_validator(mode="after")
    def _times_all_or_none(self) -> Self:
        with_time = sum(event.timestamp is not None for event in self.history)
        if with_time not in (0, len(self.history)):
            raise ValueError(f"{with_time} of {len(self.history)} events have a timestamp; expected all or none")
        return self


class Item(BaseModel):
    """One recommended item."""

    item_id: Id
    score: float
    title: str | None
    rank: int


class Recommendations(BaseModel):
    """A list, best first; shorter than k only where no more items are eligible."""

    items: list[Item]
    source: Literal["model", "popularity"] = Field(description="popularity: nothing of the history is known to the model.")
    unknown_items: list[Id] = Field(description="Items of the history that the catalogue does not have; they were skipped.")
    model_version: str
    request_id: str


class Score(BaseModel):
    """A metric's mean over the validation users."""

    mean: float
    se: float | None
    ci95: tuple[float, float] | None
    users: int


class ModelDescription(BaseModel):
    """What is being served."""

    version: str
    model: str
    data_digest: str
    trained_at: str
    items: int
    users: int
    metrics: dict[str, Score]


class Health(BaseModel):
    """A probe's answer."""

    status: Literal["live", "ready"]
    model_version: str | None = None


class ProblemDocument(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, str]] | None = None
