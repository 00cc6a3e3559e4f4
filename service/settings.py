"""What an operator may set."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, PositiveInt


class Settings(BaseModel):
    """Where the models are, and the limits of one request."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    registry: Path
    largest_k: PositiveInt = 1_000
    largest_history: PositiveInt = 10_000
    largest_body: PositiveInt = 2 * 2**20  # bytes
    workers: PositiveInt = 2  # threads that score; torch shares its own among them
