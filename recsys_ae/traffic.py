"""Shares of traffic by version, for an A/B test: who gets which is a salted hash of the user."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recsys_ae.errors import ConfigError

ROUNDING = 1e-9


@dataclass(frozen=True)
class Traffic:
    """Version -> share of users, oldest version first, which sum to 1; the salt decides who is where."""

    shares: Mapping[str, float]
    salt: str = ""

    def __post_init__(self) -> None:
        for version, share in self.shares.items():
            if not (math.isfinite(share) and share > 0):
                raise ConfigError(f"{version} has a share of {share:g}; expected more than 0")
        total = math.fsum(self.shares.values())
        if abs(total - 1) > ROUNDING:
            raise ConfigError(f"the shares sum to {total:.12g}; expected 1 (or 100, in percent)")

    @classmethod
    def of(cls, shares: Mapping[str, float], salt: str) -> "Traffic":
        """Of shares that sum to 1 or, in percent, to 100. Raises ConfigError where they do neither or one is not positive."""
        percent = abs(sum(shares.values()) - 100) <= 100 * ROUNDING
        return cls({version: shares[version] / (100 if percent else 1) for version in sorted(shares)}, salt)

    def version_of(self, user: object) -> str:
        """The version that serves a user: the same one as long as shares and salt are, and for most where shares move."""
        digest = hashlib.sha256(f"{self.salt}:{user}".encode("utf-8", "surrogatepass")).digest()
        place = int.from_bytes(digest[:8]) / 2**64
        for version, share in self.shares.items():
            place -= share
            if place < 0:
                return version
        return version  # where the shares sum to a little less than 1

    def as_json(self) -> dict[str, Any]:
        """As traffic.json has it."""
        return {"shares": dict(self.shares), "salt": self.salt}
