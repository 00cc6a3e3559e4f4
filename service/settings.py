"""Settings of the service: arguments, or `RECSYS_AE__SERVICE__KEY` in the environment."""

import os
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

CEILING = 100_000
"""What no posted list may exceed whatever the settings say, so that checking a body never takes long."""


class Settings(BaseSettings):
    """What an operator may choose; the limits protect the service from single requests that cost too much."""

    model_config = SettingsConfigDict(env_prefix="RECSYS_AE__SERVICE__", frozen=True, populate_by_name=True)

    registry: Path = Field(description="Folder of the registry whose current version is served.")
    largest_k: int = Field(1_000, ge=1, description="Longest list that may be asked for.")
    largest_history: int = Field(10_000, ge=1, le=CEILING, description="Most events of a history, most ids of a filter.")
    largest_body_bytes: int = Field(4 * 2**20, ge=1, description="Most bytes of a request's body.")
    threads: int = Field(min(4, os.cpu_count() or 1), ge=1, description="Requests scored at once; others wait their turn.")
    store: SecretStr | None = Field(
        None,
        validation_alias="RECSYS_AE__STORE__URL",
        description="Database of users' events, sqlite:///FILE or postgresql://...; without one nothing can be written.",
    )
    largest_batch: int = Field(5_000, ge=1, le=CEILING, description="Most events of one POST to /v1/interactions.")
