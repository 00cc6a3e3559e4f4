"""[log], [items], [content]: what is read."""

import zoneinfo
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import ByteSize, Field, PositiveInt, SecretStr, field_validator, model_validator

from pipelines.config.base import Paths, Section, encoded, without_secret
from recsys_ae.cleaning import Cleaning
from recsys_ae.datasets import check_name
from recsys_ae.errors import ConfigError
from recsys_ae.latent.features import WORDS
from recsys_ae.preprocessing import Preprocessing
from recsys_ae.staging import Columns

LEAST_MEMORY = 128 * 10**6
"""Bytes that reading and cleaning a log need whatever its size: DuckDB's own buffers."""


class LogSection(Preprocessing):
    """Where interactions come from: `path`, `dataset`, a database's `url` with a `query` or a `table`, or `source = "store"`.

    With `event_id` and `since` only what is new or changed is read of a database. And what becomes of a row: every key of
    Preprocessing too.
    """

    path: Paths | None = None
    url: SecretStr | None = None
    query: str | None = None
    table: str | None = None
    event_id: str | None = None
    since: str | None = None
    since_overlap: float = Field(3600.0, ge=0, allow_inf_nan=False)
    dataset: str | None = None
    source: Literal["store"] | None = None
    data_folder: Path | None = None
    user: str = "user_id"
    item: str = "item_id"
    timestamp: str = "timestamp"
    weight: str = "weight"
    event_type: str = "event_type"
    timezone: str = "UTC"
    ids: Literal["auto", "string"] = "auto"
    min_user_interactions: PositiveInt = 1
    min_item_interactions: PositiveInt = 1
    memory_limit: Annotated[ByteSize, Field(ge=LEAST_MEMORY)] | None = None

    _no_secret = field_validator("path")(without_secret)
    _encoded = field_validator("url")(encoded)

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.dataset is not None:
            try:
                check_name(self.dataset)
            except ConfigError as error:
                raise ValueError(str(error)) from None
        sources = [name for name in ("path", "dataset", "url", "source") if getattr(self, name) is not None]
        if len(sources) > 1:
            raise ValueError(f"{' and '.join(sources)} are set; expected one of them")
        asked = [name for name in ("query", "table") if getattr(self, name) is not None]
        if self.url is not None and len(asked) != 1:
            raise ValueError(f"url needs either a query or a table; found {' and '.join(asked) or 'neither'}")
        if asked and self.url is None:
            raise ValueError(f"{asked[0]} is of a database; expected its url too")
        marks = [name for name in ("event_id", "since") if getattr(self, name) is not None]
        if len(marks) == 1:
            raise ValueError(f"{marks[0]} is set; expected both event_id and since, two columns of the source")
        if marks and self.url is None:
            raise ValueError("event_id and since are of a database; expected its url too")
        if self.timezone not in zoneinfo.available_timezones():
            raise ValueError(f"timezone {self.timezone!r} is unknown; expected an IANA name like UTC or Europe/Berlin")
        return self

    @property
    def columns(self) -> Columns:
        """Column names; a timestamp or weight that the file names must be there."""
        roles = ("user", "item", "timestamp", "weight")
        required = frozenset({"user", "item"} | ({"timestamp", "weight"} & self.model_fields_set))
        names = {role: getattr(self, role) for role in (*roles, "event_type")}
        return Columns(**names, required=required, timezone=self.timezone)

    @property
    def preprocessing(self) -> Preprocessing:
        """What is saved in the artefact."""
        return Preprocessing(**{name: getattr(self, name) for name in Preprocessing.model_fields})

    @property
    def cleaning(self) -> Cleaning:
        """What a row must pass."""
        return Cleaning(self.preprocessing, self.min_user_interactions, self.min_item_interactions)


class ItemsSection(Section):
    """Titles and categories (separated by |) by item id."""

    path: Paths | None = None
    id: str = "item_id"
    title: str | None = None
    category: str | None = None

    _no_secret = field_validator("path")(without_secret)


class ContentSection(Section):
    """What cold items are placed by, those of `[items]` or with an image that nobody has met: titles, categories, images of a
    folder; so many words of titles and categories at most."""

    titles: bool = True
    categories: bool = True
    images: Path | None = None
    words: PositiveInt = WORDS
