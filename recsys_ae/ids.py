"""IdMap: external id <-> position (row or column), with a content digest."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recsys_ae.errors import DataError, UnknownIdError

Id: TypeAlias = int | str
IdKind: TypeAlias = Literal["integer", "string"]

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1


def parse_id(text: Id, kind: IdKind) -> Id:
    """Text as an id of that kind: digits become an integer where ids are integers, all else stays as it is."""
    if kind == "integer" and isinstance(text, str):
        digits = text[1:] if text.startswith("-") else text
        if digits.isascii() and digits.isdigit() and len(digits) <= 19:
            return int(text)
    return text


@dataclass(frozen=True, eq=False)
class IdMap:
    """Distinct ids of one kind, in a fixed order; position i holds the id of row (or column) i.

    Raises DataError where ids repeat, are of two kinds, or are neither integers of 64 bits nor strings.
    """

    ids: tuple[Id, ...]

    def __post_init__(self) -> None:
        kinds = {type(i) for i in self.ids}
        if not kinds <= {int} and not kinds <= {str}:
            names = sorted(k.__name__ for k in kinds)
            raise DataError(f"ids of types {', '.join(names)} in one map; expected all int or all str")
        if len(self._positions) != len(self.ids):
            seen: set[Id] = set()
            twice = next(i for i in self.ids if i in seen or seen.add(i))  # type: ignore[func-returns-value]
            raise DataError(f"id {twice!r} stands twice in one map; expected distinct ids")
        if self.kind == "integer" and self.ids:
            low, high = min(self.ids), max(self.ids)
            if low < INT64_MIN or high > INT64_MAX:  # type: ignore[operator]
                raise DataError(f"id {low if low < INT64_MIN else high} does not fit 64 bits")  # type: ignore[operator]

    @classmethod
    def of(cls, ids: Iterable[Id] | NDArray[np.generic]) -> "IdMap":
        """From any sequence of ids; numpy scalars become plain Python ones."""
        return cls(tuple(i.item() if isinstance(i, np.generic) else i for i in ids))

    @cached_property
    def _positions(self) -> dict[Id, int]:
        return {id_: position for position, id_ in enumerate(self.ids)}

    @property
    def kind(self) -> IdKind:
        """What an id is; an empty map counts as integer."""
        return "string" if self.ids and isinstance(self.ids[0], str) else "integer"

    def __len__(self) -> int:
        return len(self.ids)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IdMap) and self.ids == other.ids

    def __hash__(self) -> int:
        return hash(self.ids)

    def __contains__(self, id_: object) -> bool:
        return id_ in self._positions

    def position(self, id_: Id) -> int:
        """The position of one id. Raises UnknownIdError."""
        try:
            return self._positions[id_]
        except KeyError:
            raise UnknownIdError(f"id {id_!r} is unknown; the map holds {len(self)} {self.kind} ids") from None

    def positions(self, ids: Iterable[Id]) -> NDArray[np.int64]:
        """Positions (n,) of ids; -1 where one is unknown."""
        get = self._positions.get
        return np.fromiter((get(i, -1) for i in ids), np.int64)

    def parse(self, text: Id) -> Id:
        """An id as a person or a URL gives it: digits become an integer where the ids are integers."""
        return parse_id(text, self.kind)

    def at(self, positions: NDArray[np.integer] | Sequence[int]) -> list[Id]:
        """The ids at positions."""
        ids = self.ids
        return [ids[int(p)] for p in positions]

    def take(self, positions: NDArray[np.integer]) -> "IdMap":
        """A map of the ids at positions, in that order."""
        return IdMap(tuple(self.at(positions)))

    @cached_property
    def digest(self) -> str:
        """sha256 over kind, order and content."""
        digest = hashlib.sha256(self.kind.encode())
        for array in self.arrays().values():
            digest.update(np.ascontiguousarray(array).tobytes())
        return "sha256:" + digest.hexdigest()

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """As arrays to save: integers (n,) int64, or UTF-8 bytes with offsets (n + 1,) int64."""
        if self.kind == "integer":
            return {"integers": np.array(self.ids, np.int64)}
        texts = [str(i).encode() for i in self.ids]
        offsets = np.zeros(len(texts) + 1, np.int64)
        np.cumsum([len(t) for t in texts], out=offsets[1:])
        return {"bytes": np.frombuffer(b"".join(texts), np.uint8), "offsets": offsets}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> "IdMap":
        """The inverse of `arrays`."""
        if "integers" in arrays:
            return cls.of(arrays["integers"])
        data, offsets = arrays["bytes"].tobytes(), arrays["offsets"].tolist()
        return cls(tuple(data[a:b].decode() for a, b in zip(offsets, offsets[1:], strict=False)))
