"""Settings of the service: arguments, or `RECSYS_AE__SERVICE__KEY` in the environment."""

import os
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

CEILING = 100_000
"""What no posted list may exceed whatever the settings say, so that checking a body never takes long."""


class Settings(BaseSettings):
    """What an operator may choose; the limits protect the service from single requests that cost too much."""

    model_config = SettingsConfigDict(env_prefix="RECSYS_AE__SERVICE__", frozen=True)

    registry: Path = Field(description="Folder of the registry whose current version is served.")
    largest_k: int = Field(1_000, ge=1, description="Longest list that may be asked for.")
    largest_history: int = Field(10_000, ge=1, le=CEILING, description="Most events of a history, most ids of a filter.")
    largest_batch: int = Field(100, ge=1, le=CEILING, description="Most requests of a batch.")
    largest_because: int = Field(5, ge=1, description="Most items of the history that explain an item.")
    largest_explained: int = Field(1_000, ge=1, le=CEILING, description="Most items of a history whose list is explained.")
    largest_body_bytes: int = Field(4 * 2**20, ge=1, description="Most bytes of a request's body.")
    threads: int = Field(min(4, os.cpu_count() or 1), ge=1, description="Requests scored at once; others wait their turn.")
