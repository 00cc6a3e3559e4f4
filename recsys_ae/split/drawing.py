"""Who is held out: drawn by a seed, or by a salted hash of the id, which knows nothing of the rest of the log.

By seed, one more user shuffles all; by hash, each id has a number in [0, 1) of its own, so that what is held out tonight is
held out tomorrow, however the log has grown. An integer id 1 and a string id "1" are two ids and have two numbers.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from recsys_ae.dataset import Dataset
from recsys_ae.errors import DataError
from recsys_ae.histories import Histories, Indices
from recsys_ae.ids import IdMap

Hashes = NDArray[np.uint64]
Sides = dict[str, Indices]
"""Positions by the side that they are held out for: `test` and `validation`."""


def number_of(share: int | float, n: int, most: int | None = None) -> int:
    """A number as it stands; a fraction of n, at least one and at most `most`."""
    if not isinstance(share, float):
        return share
    number = max(1, round(share * n))
    return number if most is None else min(number, most)


def shuffled_sides(eligible: Indices, n_validation: int, n_test: int, rng: np.random.Generator) -> Sides:
    """The first of the shuffled positions are for the test, the next for validation."""
    order = rng.permutation(eligible)
    return {"test": order[:n_test], "validation": order[n_test : n_test + n_validation]}


def hashed_sides(ids: IdMap, validation: int | float, test: int | float, salt: str, what: str) -> Sides:
    """Ids whose number lies below `test` are for the test, the next `validation` of [0, 1) for validation; 0 is nobody.

    Numbers of ids are refused: to hold out exactly n, one that comes would have to push another one out. Raises DataError,
    which calls the ids `what`.
    """
    for share in (validation, test):
        if share and not isinstance(share, float):
            raise DataError(
                f"{share} held-out {what} by hash; expected a fraction: a number would move {what} as the log grows"
            )
    if validation + test >= 1:
        raise DataError(f"fractions {validation} and {test} of the {what} leave nothing to train on")
    place = uniform(hashes(ids, salt))
    sides = {"test": np.flatnonzero(place < test), "validation": np.flatnonzero((place >= test) & (place < test + validation))}
    for name, share in (("test", test), ("validation", validation)):
        if share and not len(sides[name]):
            raise DataError(
                f"of {len(ids)} {what} no hash falls within the {name} fraction {share}; "
                "expected more of them, a larger fraction or another salt"
            )
    return sides


def random_share(histories: Histories, fraction: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """True (N,) for a random share of each row: at least one entry, never all; none of a row of fewer than two."""
    lengths = histories.lengths
    wanted = np.clip(np.floor(lengths * fraction).astype(np.int64), 1, np.maximum(lengths - 1, 0))
    wanted[lengths < 2] = 0
    order = np.lexsort((rng.random(histories.n_interactions), histories.rows))
    place = np.arange(histories.n_interactions) - np.repeat(histories.indptr[:-1], lengths)
    chosen = np.zeros(histories.n_interactions, np.bool_)
    chosen[order] = place < np.repeat(wanted, lengths)
    return chosen


def hashed_share(data: Dataset, fraction: float, salt: str) -> NDArray[np.bool_]:
    """True (N,) for the interactions whose number, of user and item, lies below `fraction`; thus of a row also none or all."""
    users, items = (hashes(ids, f"{salt}\0pair") for ids in (data.users, data.items))
    return uniform(_mixed(_mixed(users)[data.histories.rows] + items[data.histories.items])) < fraction


def hashes(ids: IdMap, salt: str) -> Hashes:
    """blake2b of 8 bytes over salt, kind of id (`integer` or `string`) and id, zero bytes between, big-endian, (n,)."""
    start = f"{salt}\0{ids.kind}\0"
    found = b"".join(hashlib.blake2b(f"{start}{id_}".encode(), digest_size=8).digest() for id_ in ids.ids)
    return np.frombuffer(found, ">u8").astype(np.uint64)


def uniform(found: Hashes) -> NDArray[np.float64]:
    """Hashes as numbers in [0, 1)."""
    return (found >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(z: Hashes) -> Hashes:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every bit of the input turns half of the output."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
