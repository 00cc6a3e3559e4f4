"""Preprocessing: how a raw event becomes a weight. One object for ingest, evaluation, scoring and the API."""

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

SECONDS_PER_DAY = 86_400
TRANSFORMS: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "binary": np.ones_like,
    "linear": np.copy,
    "log1p": np.log1p,
}


class Preprocessing(BaseModel):
    """What makes a training weight of an event's raw weight and time; saved in the artefact.

    An event passes where its raw weight is at least `min_weight`; then `weight_transform` is applied (binary: 1; linear:
    the weight; log1p: log(1 + weight)); then, with a half-life, it is multiplied by 2^-(age / half-life), age counted back
    from `reference_time` (seconds since 1970).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_weight: float | None = Field(None, gt=0, allow_inf_nan=False)
    weight_transform: Literal["binary", "linear", "log1p"] = "binary"
    half_life_days: float | None = Field(None, gt=0, allow_inf_nan=False)
    reference_time: int | None = None

    @property
    def neutral_weight(self) -> float:
        """The raw weight of an event that states none: enough to pass `min_weight`."""
        return max(1.0, self.min_weight or 1.0)

    def passes(self, raw: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which events (N,) count as interactions at all."""
        return np.isfinite(raw) & (raw >= self.min_weight if self.min_weight else raw > 0)

    def weights(self, raw: NDArray[np.floating], times: NDArray[np.int64] | None) -> NDArray[np.float32]:
        """Training weights (N,) of events that pass; events without times do not age."""
        weights = TRANSFORMS[self.weight_transform](raw.astype(np.float64))
        if self.half_life_days and times is not None and self.reference_time is not None:
            age_days = np.maximum(self.reference_time - times, 0) / SECONDS_PER_DAY
            weights = weights * np.exp2(-age_days / self.half_life_days)
        # An interaction never ages to nothing: float32 would round it to 0, and 0 means that it never was.
        return np.maximum(weights, np.finfo(np.float32).tiny).astype(np.float32)
