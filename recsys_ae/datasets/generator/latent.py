"""Tastes and popularity, what users draw from them, and how they rate it."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from recsys_ae.datasets.generator.config import DAY, GeneratorConfig, RatingScale
from recsys_ae.datasets.generator.sampling import Flags, Floats, Ints, Tables, blocks, draw_distinct
from recsys_ae.errors import DataError

ROUNDS_OF_COVER = 200
LEAST_WEIGHT = 1e-12  # of an item, to that of the most popular one: no taste is without weight
SECOND_SHARE = 0.4  # of an item's weight that stands with its second taste


@dataclass(frozen=True, eq=False)
class Latent:
    """What nobody sees: U users, I items, K tastes a user; `late` is where drift leads at the end of the span.

    item_tastes (I, 2): -1 where there is no second; popularity, late_popularity (I,): sum to 1; tastes, late_tastes (U, K);
    shares (U, K): of a user's tastes, sum to 1.
    """

    item_tastes: NDArray[np.int32]
    popularity: Floats
    late_popularity: Floats
    tastes: NDArray[np.int32]
    late_tastes: NDArray[np.int32]
    shares: Floats


def draw_latent(rng: Generator, config: GeneratorConfig) -> Latent:
    """Each taste has as many items as any other; users take to a taste in proportion to its items' popularity."""
    first = rng.permutation(np.arange(config.n_items) % config.n_tastes)
    other = (first + rng.integers(1, max(config.n_tastes, 2), config.n_items)) % config.n_tastes
    second = np.where((rng.random(config.n_items) < config.second_taste) & (other != first), other, -1)
    item_tastes = np.stack([first, second], axis=1).astype(np.int32)
    by_rank = popularity_by_rank(config)
    popularity = by_rank[rng.permutation(config.n_items)]
    shares = rng.dirichlet(np.full(config.tastes_per_user, 2.0), config.n_users)
    tastes = draw_tastes(rng, config, first, popularity)
    # What drift leads to is drawn last: with and without it the beginning is the same.
    late_popularity = by_rank[rng.permutation(config.n_items)] if config.popularity_drift else popularity
    late_tastes = draw_tastes(rng, config, first, popularity) if config.taste_drift else tastes
    return Latent(item_tastes, popularity, late_popularity, tastes, late_tastes, shares)


def draw_tastes(rng: Generator, config: GeneratorConfig, first: Ints, popularity: Floats) -> NDArray[np.int32]:
    """(U, K): K distinct tastes of each user."""
    everyone = np.zeros(config.n_tastes, np.int64)
    crowd = Tables.of(everyone, np.arange(config.n_tastes), np.bincount(first, popularity).astype(np.float64))
    owners = np.repeat(np.arange(config.n_users), config.tastes_per_user)
    tastes = draw_distinct(rng, owners, config.n_tastes, lambda places: crowd.draw(rng, np.zeros(len(places), np.int64)))
    return tastes.reshape(config.n_users, config.tastes_per_user)


def popularity_by_rank(config: GeneratorConfig) -> Floats:
    """(I,), sums to 1: (r + shift)^-exponent exp(-r / cutoff), Mandelbrot's law, with a tail that may be cut off."""
    ranks = np.arange(1, config.n_items + 1)
    logs = -config.popularity_exponent * np.log(ranks + config.popularity_shift * config.n_items)
    if config.popularity_cutoff is not None:
        logs -= ranks / (config.popularity_cutoff * config.n_items)
    weights = np.maximum(np.exp(logs - logs.max()), LEAST_WEIGHT)
    return weights / weights.sum()


def item_tables(config: GeneratorConfig, latent: Latent) -> Tables:
    """Groups 0 to T - 1: tastes; T: all items by popularity; T + 1: all items alike; from T + 2: 0 to T by late popularity."""
    n, n_tastes = config.n_items, config.n_tastes
    first, second = latent.item_tastes.T
    items, two = np.arange(n), np.flatnonzero(second >= 0)
    groups, values, weights = [np.full(n, n_tastes + 1)], [items], [np.ones(n)]
    for base, popularity in ((0, latent.popularity), (n_tastes + 2, latent.late_popularity)):
        groups += [base + first, base + second[two], np.full(n, base + n_tastes)]
        values += [items, two, items]
        weights += [np.where(second >= 0, 1 - SECOND_SHARE, 1.0) * popularity, SECOND_SHARE * popularity[two], popularity]
    return Tables.of(np.concatenate(groups), np.concatenate(values), np.concatenate(weights))


def draw_items(
    rng: Generator, config: GeneratorConfig, latent: Latent, users: Ints, times: Ints, is_noise: Flags
) -> NDArray[np.int32]:
    """Items (N,) of users (N,), which ascend, at times (N,); none twice for a user.

    Noise draws from all items alike. All else draws with probability taste_strength from one of the user's tastes, otherwise
    from all items by popularity; with the probability that drift has reached by then, the late tastes, the late popularity.
    """
    tables = item_tables(config, latent)
    bounds = np.cumsum(latent.shares, axis=1)[:, :-1].T  # (K - 1, U)

    def draw(places: Ints) -> Ints:
        who, chance = users[places], rng.random(len(places))
        which = np.zeros(len(places), np.int64)
        for bound in bounds:
            which += chance >= bound[who]
        groups = latent.tastes[who, which]
        progress = (times[places] - config.start) / (config.span_days * DAY)
        if config.taste_drift:
            moved = rng.random(len(places)) < config.taste_drift * progress
            groups[moved] = latent.late_tastes[who[moved], which[moved]]
        groups[rng.random(len(places)) >= config.taste_strength] = config.n_tastes
        if config.popularity_drift:
            groups[rng.random(len(places)) < config.popularity_drift * progress] += config.n_tastes + 2
        groups[is_noise[places]] = config.n_tastes + 1
        return tables.draw(rng, groups)

    return draw_distinct(rng, users, config.n_items, draw)


def cover(rng: Generator, users: Ints, items: NDArray[np.int32], latent: Latent, least: int) -> None:
    """Give every item its least number of interactions, in place.

    An interaction with an item that has more, of the same first taste where there is one, becomes one with the item that
    lacks it, if its user has not met that item. Raises DataError where this leads nowhere.
    """
    taste, n_items = latent.item_tastes[:, 0], len(latent.item_tastes)
    for _ in range(ROUNDS_OF_COVER):
        counts = np.bincount(items, minlength=n_items)
        wanted = rng.permutation(np.repeat(np.arange(n_items), np.maximum(least - counts, 0)))
        if not len(wanted):
            return
        donors = np.flatnonzero((counts > least)[items])
        donors = donors[np.argsort(taste[items[donors]], kind="stable")]
        ends = np.cumsum(np.bincount(taste[items[donors]], minlength=taste.max() + 1))
        begins = np.append(0, ends[:-1])
        low, high = begins[taste[wanted]], ends[taste[wanted]]
        low, high = np.where(low < high, low, 0), np.where(low < high, high, len(donors))
        givers = donors[(low + rng.random(len(wanted)) * (high - low)).astype(np.int64)]
        keys = users[givers].astype(np.int64) * n_items + wanted
        lacking = np.flatnonzero((counts < least)[items])
        taken = np.isin(keys, users[lacking].astype(np.int64) * n_items + items[lacking])
        free = np.flatnonzero(~taken)
        free = free[np.unique(keys[free], return_index=True)[1]]
        free = free[np.unique(givers[free], return_index=True)[1]]
        items[givers[free]] = wanted[free]
    raise DataError(f"min_popularity {least} could not be reached for every item; expected more interactions or fewer items")


def rate(rng: Generator, config: GeneratorConfig, scale: RatingScale, latent: Latent, users: Ints, items: Ints) -> Floats:
    """Ratings (N,): higher where the item carries a taste of the user, with a mood of the user and a quality of the item."""
    moods, qualities = rng.normal(0, 0.1, config.n_users), rng.normal(0, 0.1, config.n_items)
    tastes = np.hstack([latent.tastes, latent.late_tastes] if config.taste_drift else [latent.tastes])
    ratings = np.empty(len(users))
    for block in blocks(users):
        who, what = users[block], items[block]
        first, second = latent.item_tastes[what].T
        liked = np.zeros(len(who), np.bool_)
        for taste in tastes[who].T:
            liked |= (taste == first) | (taste == second)
        share = 0.48 + 0.3 * liked + moods[who] + qualities[what] + rng.normal(0, 0.15, len(who))
        ratings[block] = on_scale(scale, scale.low + (scale.high - scale.low) * share)
    return ratings


def on_scale(scale: RatingScale, values: Floats) -> Floats:
    """The nearest rating of each."""
    steps = np.floor((scale.high - scale.low) / scale.step + 1e-9)
    return scale.low + scale.step * np.clip(np.rint((values - scale.low) / scale.step), 0, steps)
