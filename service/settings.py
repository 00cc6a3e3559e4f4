"""Settings of the service: arguments, or `RECSYS_AE__SERVICE__KEY` in the environment."""

import os
from pathlib import Path

from limits import parse
from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

CEILING = 100_000
"""What no posted list may exceed whatever the settings say, so that checking a body never takes long."""


class Settings(BaseSettings):
    """What an operator may choose; the limits protect the service from single requests that cost too much."""

    model_config = SettingsConfigDict(env_prefix="RECSYS_AE__SERVICE__", frozen=True, populate_by_name=True)

    registry: Path = Field(description="Folder of the registry whose current version is served.")
    largest_k: int = Field(1_000, ge=1, description="Longest list that may be asked for.")
    largest_history: int = Field(10_000, ge=1, le=CEILING, description="Most events of a history, most ids of a filter.")
    largest_batch: int = Field(100, ge=1, le=CEILING, description="Most requests of a batch.")
    largest_because: int = Field(5, ge=1, description="Most items of the history that explain an item.")
    largest_explained: int = Field(1_000, ge=1, le=CEILING, description="Most items of a history whose list is explained.")
    largest_body_bytes: int = Field(4 * 2**20, ge=1, description="Most bytes of a request's body.")
    threads: int = Field(min(4, os.cpu_count() or 1), ge=1, description="Requests scored at once; others wait their turn.")
    keys: Path | None = Field(None, description="File of API keys; without one only this machine is served.")
    without_keys: bool = Field(False, description="Serve beyond this machine without keys: whoever reaches the port may all.")
    rate_limit: str | None = Field(None, description="Most requests of one key, as `600/minute`; none without.")
    rate_limit_store: str = Field(
        "memory://",
        pattern=r"^(memory://|rediss?://.+)$",
        repr=False,
        description="Where requests are counted; redis://HOST:PORT/DATABASE for all processes together.",
    )
    largest_in_flight: int = Field(64, ge=1, description="Requests worked on at once; beyond it 503.")
    largest_receiving: int = Field(256, ge=1, description="Bodies received at once; beyond it 503.")
    body_seconds: float = Field(10, gt=0, description="Longest that a body may take to arrive; then 408.")
    request_seconds: float = Field(10, gt=0, description="Longest that an answer may take from the body on; then 503.")
    drain_seconds: float = Field(1, ge=0, description="Time from being told to stop, when ready turns 503, to the last accept.")
    stop_seconds: float = Field(8, gt=0, description="Longest that requests under way may take after it.")
    cors_origins: list[str] = Field([], description="Origins whose pages may call the API; a JSON list in the environment.")
    page: bool = Field(True, description="The page for people at `/`.")
    access_log: bool = Field(True, description="One JSON line on stderr for each request.")
    store: SecretStr | None = Field(
        None,
        validation_alias="RECSYS_AE__STORE__URL",
        description="Database of users' events, sqlite:///FILE or postgresql://...; without one nothing can be written.",
    )
    largest_events: int = Field(5_000, ge=1, le=CEILING, description="Most events of one POST to /v1/interactions.")

    @field_validator("rate_limit")
    @classmethod
    def _rate(cls, limit: str | None) -> str | None:
        if limit is not None:
            try:
                parse(limit)
            except ValueError:
                raise ValueError("expected a rate as `100/second` or `600/minute`") from None
        return limit
