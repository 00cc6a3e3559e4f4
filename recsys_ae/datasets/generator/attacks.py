"""What attackers do: shilling attacks (Mobasher et al. 2007) and bots."""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from recsys_ae.datasets.generator.config import DAY, Attack, GeneratorConfig, RatingScale
from recsys_ae.datasets.generator.events import Events
from recsys_ae.datasets.generator.latent import on_scale
from recsys_ae.datasets.generator.sampling import Floats, Ints

SECONDS_APART = {"bot": 1.0}  # between the interactions of a profile, in the mean
SECONDS_APART_OF_OTHERS = 15.0


def draw_attack(
    rng: Generator, config: GeneratorConfig, attack: Attack, members: Ints, genuine: Events
) -> tuple[Events, NDArray[np.int64]]:
    """Events of the members (P,), and the targets (T,), in answer to the genuine events, which an attacker can see.

    A profile is the targets, then the selected items (bandwagon), then a filler of its own, shuffled.
    """
    counts = np.bincount(genuine.items, minlength=config.n_items)
    by_popularity = np.argsort(-counts, kind="stable")
    head, tail = np.array_split(by_popularity, 2)
    pool = tail if attack.direction == "push" else head
    targets = rng.choice(pool if len(pool) >= attack.n_targets else by_popularity, attack.n_targets, replace=False)
    others = by_popularity[~np.isin(by_popularity, targets)]
    n_filler = attack.length - attack.n_targets
    n_selected = n_filler // 2 if attack.kind == "bandwagon" else 0
    fixed = np.concatenate([targets, others[:n_selected]])
    filler = [rng.choice(others[n_selected:], n_filler - n_selected, replace=False) for _ in members]
    items = np.hstack([np.tile(fixed, (len(members), 1)), np.stack(filler)])  # (P, L)
    shuffled = np.argsort(rng.random(items.shape), axis=1)
    ratings = None
    if config.ratings is not None and genuine.ratings is not None:
        marks = _ratings(rng, config.ratings, attack, items, genuine.items, genuine.ratings)
        marks[:, attack.n_targets : len(fixed)] = config.ratings.high
        ratings = np.take_along_axis(marks, shuffled, axis=1).ravel()
    return Events(
        np.repeat(members, attack.length),
        np.take_along_axis(items, shuffled, axis=1).ravel().astype(np.int32),
        _times(rng, config, attack, items.shape).ravel(),
        ratings,
        np.zeros(items.size, np.bool_),
    ), targets


def _ratings(rng: Generator, scale: RatingScale, attack: Attack, items: Ints, rated: Ints, ratings: Floats) -> Floats:
    """(P, L): targets at the end of the scale, others about the log's mean, or the item's own in an average attack."""
    mean = ratings.mean()
    about = np.full(items.shape, mean)
    if attack.kind == "average":
        n_items = max(int(items.max()), int(rated.max())) + 1
        counts = np.bincount(rated, minlength=n_items)
        means = np.bincount(rated, ratings, n_items) / np.maximum(counts, 1)
        about = np.where(counts > 0, means, mean)[items]
    marks = on_scale(scale, about + rng.normal(0, ratings.std(), items.shape))
    marks[:, : attack.n_targets] = scale.high if attack.direction == "push" else scale.low
    return marks


def _times(rng: Generator, config: GeneratorConfig, attack: Attack, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """(P, L) ascending: one session a profile, all profiles within the attack's days."""
    span = int(config.span_days * DAY)
    window = min(attack.days * DAY, span)
    begin = rng.uniform(0, span - window) + rng.uniform(0, window, (shape[0], 1))
    apart = rng.exponential(SECONDS_APART.get(attack.kind, SECONDS_APART_OF_OTHERS), shape)
    seconds = (begin + np.cumsum(apart, axis=1)).astype(np.int64)
    return config.start + np.minimum(seconds, span - 1)
