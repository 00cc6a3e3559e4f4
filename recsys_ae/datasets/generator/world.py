"""A world: interactions of genuine users, of attackers, and the truth behind both."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.random import Generator
from numpy.typing import NDArray

from recsys_ae.datasets.generator.attacks import draw_attack
from recsys_ae.datasets.generator.config import GeneratorConfig
from recsys_ae.datasets.generator.events import Events
from recsys_ae.datasets.generator.latent import Latent, cover, draw_items, draw_latent, rate
from recsys_ae.datasets.generator.sampling import Flags, Ints, lengths_of
from recsys_ae.datasets.generator.times import event_times
from recsys_ae.datasets.raw import RawData
from recsys_ae.ids import Id


@dataclass(frozen=True, eq=False)
class Truth:
    """What was planted. A position is the number of an id, less one.

    Users (U,) and items (I,) are by position; attackers stand among the users. genuine: the positions of the users of
    `latent`, in its order. attack (U,): the number of the attack that a user belongs to, -1 for a genuine one. targets: item
    positions of each attack. Which interactions are noise is with the events.
    """

    latent: Latent
    genuine: NDArray[np.int64]
    attack: NDArray[np.int32]
    targets: tuple[NDArray[np.int64], ...]


@dataclass(frozen=True, eq=False)
class World:
    """A generated log by position and as a table, row by row the same; titles and categories; the truth behind them."""

    events: Events
    log: pa.Table
    titles: dict[Id, str]
    categories: dict[Id, tuple[str, ...]]
    truth: Truth

    @property
    def raw(self) -> RawData:
        """As any other data set comes."""
        return RawData(self.log, self.titles, self.categories)


def generate(config: GeneratorConfig) -> World:
    """Exactly `n_interactions` of `n_users`, and the profiles of attacks. The same config gives the same world (and numpy)."""
    # Each part has a stream of its own: what one draws does not move the others.
    tastes, doings, marks, places, *attacks = np.random.default_rng(config.seed).spawn(4 + len(config.attacks))
    latent = draw_latent(tastes, config)
    events = _genuine(doings, marks, config, latent)
    truth = Truth(latent, np.arange(config.n_users), np.full(config.n_users, -1, np.int32), ())
    if config.attacks:
        events, truth = _attacked(places, attacks, config, events, latent)
    return World(events, _table(config, events), *_described(config, latent), truth)


def _attacked(
    rng: Generator, streams: list[Generator], config: GeneratorConfig, genuine: Events, latent: Latent
) -> tuple[Events, Truth]:
    """Attackers at random positions among the users."""
    membership = np.repeat(
        np.arange(-1, len(config.attacks), dtype=np.int32), [config.n_users, *(attack.profiles for attack in config.attacks)]
    )
    rng.shuffle(membership)
    rows = np.flatnonzero(membership < 0)
    parts, targets = [replace(genuine, users=rows[genuine.users])], []
    for number, (stream, attack) in enumerate(zip(streams, config.attacks, strict=True)):
        events, aims = draw_attack(stream, config, attack, np.flatnonzero(membership == number), genuine)
        parts.append(events)
        targets.append(aims)
    return Events.joined(parts), Truth(latent, rows, membership, tuple(targets))


def _genuine(rng: Generator, moods: Generator, config: GeneratorConfig, latent: Latent) -> Events:
    """What genuine users do; users by row of `latent`."""
    lengths = lengths_of(rng, config.n_users, config.n_interactions, config.min_length, config.longest, config.length_spread)
    users = np.repeat(np.arange(config.n_users, dtype=np.int32), lengths)
    times = event_times(rng, config, users)
    is_noise = rng.random(len(users)) < config.noise
    first = np.cumsum(lengths) - lengths
    new = rng.random(len(users)) >= config.repeats
    new[first] = True
    items = draw_items(rng, config, latent, users[new], times[new], is_noise[new])
    cover(rng, users[new], items, latent, config.min_popularity)
    if not new.all():
        items = _with_repeats(rng, items, new, first, lengths)
        is_noise &= new
    ratings = None if config.ratings is None else rate(moods, config, config.ratings, latent, users, items)
    return Events(users, items, times, ratings, is_noise)


def _with_repeats(rng: Generator, items: NDArray[np.int32], new: Flags, first: Ints, lengths: Ints) -> NDArray[np.int32]:
    """Items (N,): where an interaction is not new, that of a random earlier new one of its user. items: of the new ones."""
    met = np.cumsum(new)  # new interactions up to each, over all users
    before = np.repeat(met[first] - 1, lengths)
    places = met - 1
    old = ~new
    places[old] = before[old] + (rng.random(int(old.sum())) * (met - before)[old]).astype(np.int64)
    return items[places]


def _table(config: GeneratorConfig, events: Events) -> pa.Table:
    """Positions become ids."""
    columns = {
        "user_id": _ids(config, "u", int(events.users.max()) + 1, events.users),
        "item_id": _ids(config, "i", config.n_items, events.items),
        "timestamp": pa.array(events.times),
    }
    if events.ratings is not None:
        columns["weight"] = pa.array(events.ratings)
    return pa.table(columns)


def _described(config: GeneratorConfig, latent: Latent) -> tuple[dict[Id, str], dict[Id, tuple[str, ...]]]:
    """Titles and categories, which name an item's tastes."""
    titles: dict[Id, str] = {}
    categories: dict[Id, tuple[str, ...]] = {}
    for place, (item, tastes) in enumerate(zip(_names(config, "i", config.n_items), latent.item_tastes.tolist(), strict=True)):
        named = [str(taste + 1) for taste in tastes if taste >= 0]
        titles[item] = f"Item {place + 1} of taste {' and '.join(named)}"
        categories[item] = tuple(f"taste {name}" for name in named)
    return titles, categories


def _names(config: GeneratorConfig, letter: str, n: int) -> list[Id]:
    return [f"{letter}{number}" if config.string_ids else number for number in range(1, n + 1)]


def _ids(config: GeneratorConfig, letter: str, n: int, places: Ints) -> pa.Array:
    if config.string_ids:
        return pa.array(_names(config, letter, n)).take(pa.array(places))
    return pa.array(places.astype(np.int64) + 1)
