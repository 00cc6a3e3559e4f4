"""Events: interactions by position, before they become a table."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recsys_ae.datasets.generator.sampling import Flags, Floats, Ints


@dataclass(frozen=True, eq=False)
class Events:
    """N interactions of users and items by position, in order of user, then time; ratings are None in an implicit log."""

    users: Ints
    items: NDArray[np.int32]
    times: NDArray[np.int64]
    ratings: Floats | None
    is_noise: Flags

    @classmethod
    def joined(cls, parts: Sequence["Events"]) -> "Events":
        """All of them in order; no user is in two parts."""
        users = np.concatenate([part.users for part in parts])
        order = np.argsort(users, kind="stable")
        ratings = [part.ratings for part in parts if part.ratings is not None]
        return cls(
            users[order],
            np.concatenate([part.items for part in parts])[order],
            np.concatenate([part.times for part in parts])[order],
            np.concatenate(ratings)[order] if ratings else None,
            np.concatenate([part.is_noise for part in parts])[order],
        )
