"""Settings of the service. They come from arguments, the environment and a file by `sources.load_settings`."""

import os
from pathlib import Path
from typing import Self

from limits import parse
from pydantic import Field, FiniteFloat, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

CEILING = 100_000
"""What no posted list may exceed whatever the settings say, so that checking a body never takes long."""


class Settings(BaseSettings):
    """What an operator may choose; the limits protect the service from single requests that cost too much."""

    model_config = SettingsConfigDict(
        env_prefix="RECSYS_AE__SERVICE__", frozen=True, populate_by_name=True, hide_input_in_errors=True
    )

    registry: Path = Field(
        validation_alias="RECSYS_AE__REGISTRY__PATH", description="Folder of the registry whose current version is served."
    )
    workers: int = Field(1, ge=1, le=256, description="Processes that share the port, each with a model of its own.")
    largest_k: int = Field(1_000, ge=1, description="Longest list that may be asked for.")
    largest_history: int = Field(10_000, ge=1, le=CEILING, description="Most events of a history, most ids of a filter.")
    largest_batch: int = Field(100, ge=1, le=CEILING, description="Most requests of a batch.")
    largest_because: int = Field(5, ge=1, description="Most items of the history that explain an item.")
    largest_explained: int = Field(1_000, ge=1, le=CEILING, description="Most items of a history whose list is explained.")
    largest_body_bytes: int = Field(4 * 2**20, ge=1, description="Most bytes of a request's body.")
    cache_mib: FiniteFloat = Field(
        64, ge=0, description="Memory for lists of stored users that have not changed since; 0 for none."
    )
    threads: int = Field(
        min(4, os.cpu_count() or 1), ge=1, description="Threads of a process that score; lists wait their turn."
    )
    index_from_items: int | None = Field(
        None, ge=1, description="Catalogue from which on an approximate index (extra `faiss`) finds the items; none without."
    )
    watch_seconds: FiniteFloat = Field(2, gt=0, description="Time between two looks at the registry for another version.")
    keys: Path | None = Field(None, description="File of API keys; without one only this machine is served.")
    without_keys: bool = Field(False, description="Serve beyond this machine without keys: whoever reaches the port may all.")
    rate_limit: str | None = Field(None, description="Most requests of one key, as `600/minute`; none without.")
    rate_limit_store: str = Field(
        "memory://",
        pattern=r"^(memory://|rediss?://.+)$",
        repr=False,
        description="Where requests are counted; redis://HOST:PORT/DATABASE for all processes together.",
    )
    largest_in_flight: int = Field(64, ge=1, description="Requests that a process works on at once; beyond it 503.")
    largest_receiving: int = Field(256, ge=1, description="Bodies that a process receives at once; beyond it 503.")
    body_seconds: FiniteFloat = Field(10, gt=0, description="Longest that a body may take to arrive; then 408.")
    request_seconds: FiniteFloat = Field(10, gt=0, description="Longest that an answer may take from the body on; then 503.")
    drain_seconds: FiniteFloat = Field(
        1, ge=0, description="Time from being told to stop, when ready turns 503, to the last accept."
    )
    stop_seconds: FiniteFloat = Field(8, gt=0, description="Longest that requests under way may take after it.")
    cors_origins: list[str] = Field([], description="Origins whose pages may call the API; a JSON list in the environment.")
    page: bool = Field(True, description="The page for people at `/`.")
    access_log: bool = Field(True, description="One JSON line on stderr for each request.")
    store: SecretStr | None = Field(
        None,
        min_length=1,
        repr=False,
        validation_alias="RECSYS_AE__STORE__URL",
        description="Database of users' events, sqlite:///FILE or postgresql://...; without one nothing can be written.",
    )
    largest_events: int = Field(5_000, ge=1, le=CEILING, description="Most events of one POST to /v1/interactions.")
    impressions: bool = Field(True, description="Whether the store, where there is one, logs the lists that are shown.")
    impressions_days: int = Field(30, ge=1, description="Days that such lists are kept.")

    def indexes(self, items: int) -> bool:
        """Whether a catalogue of so many items is searched by an index."""
        return self.index_from_items is not None and items >= self.index_from_items

    @field_validator("rate_limit")
    @classmethod
    def _rate(cls, limit: str | None) -> str | None:
        if limit is not None:
            try:
                parse(limit)
            except ValueError:
                raise ValueError("expected a rate as `100/second` or `600/minute`") from None
        return limit

    @model_validator(mode="after")
    def _counted_together(self) -> Self:
        if self.workers > 1 and self.rate_limit is not None and self.rate_limit_store == "memory://":
            raise ValueError(
                f"rate_limit is counted in memory:// by each process alone; with workers = {self.workers} expected "
                "rate_limit_store = redis://HOST:PORT/DATABASE, which counts for all"
            )
        return self
