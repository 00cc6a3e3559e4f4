"""When things happen: users active in sessions within a lifetime of their own, more by evening and at weekends."""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from recsys_ae.datasets.generator.config import DAY, GeneratorConfig
from recsys_ae.datasets.generator.sampling import Floats, Ints

HOURS = np.array([3, 2, 1, 1, 1, 1, 2, 3, 4, 5, 5, 6, 7, 6, 6, 6, 7, 8, 10, 12, 13, 12, 9, 5], np.float64)  # of the day, UTC
WEEKDAYS = np.array([1.0, 1.0, 1.0, 1.0, 1.2, 1.6, 1.5])  # from Monday
MONDAY = 4 * DAY  # 1970-01-05


def rhythm(config: GeneratorConfig) -> tuple[Floats, Floats]:
    """Seconds from the start, and the share of all activity before: two arrays of one length, both ascending."""
    edges = np.append(np.arange(0, config.span_days * DAY, 3_600), config.span_days * DAY)
    clock = config.start + edges[:-1]
    rate = HOURS[(clock % DAY // 3_600).astype(int)] * WEEKDAYS[((clock - MONDAY) // DAY % 7).astype(int)]
    activity = np.concatenate([[0.0], np.cumsum(rate * np.diff(edges))])
    return edges, activity / activity[-1]


def event_times(rng: Generator, config: GeneratorConfig, users: Ints) -> NDArray[np.int64]:
    """Seconds since 1970 (N,) for users (N,), which ascend; times ascend within each user.

    A session begins with every interaction with probability 1 / session_length. Its time is uniform over the user's lifetime
    on the clock of `rhythm`, an inhomogeneous Poisson process by time change; gaps within it are exponential.
    """
    n_users = int(users[-1]) + 1
    half = min(config.lifetime / 2, 1 - config.lifetime)
    lifetimes = config.lifetime + rng.uniform(-half, half, n_users)
    births = rng.uniform(0, 1 - lifetimes)
    begins = rng.random(len(users)) < 1 / config.session_length
    begins[np.flatnonzero(np.diff(users, prepend=-1))] = True
    owners = users[begins]
    positions = births[owners] + lifetimes[owners] * rng.random(len(owners))
    edges, activity = rhythm(config)
    sessions = np.cumsum(begins) - 1
    gaps = rng.exponential(config.session_gap, len(users))
    gaps[begins] = 0.0
    elapsed = np.cumsum(gaps)
    elapsed += (np.interp(positions, activity, edges) - elapsed[begins])[sessions]
    span = int(config.span_days * DAY)
    # Sessions were placed in any order: sorting user and time as one number orders each user's times.
    keys = np.minimum(elapsed.astype(np.int64), span - 1)
    keys += users.astype(np.int64) * span
    keys.sort()
    return config.start + keys % span
