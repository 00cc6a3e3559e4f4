"""Search spaces, each beside the hyperparameter it is of; what searches them is not known here.

    dropout: Annotated[float, Field(ge=0, lt=1), Search(0.1, 0.8)] = 0.2
    hidden: Annotated[tuple[PositiveInt, ...], Choice((), (600,))] = ()

A subclass that gives a key another default keeps its space, and replaces it by an annotation of its own. A model's default
lies within its space; a hyperparameter without a space is not searched.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

from pydantic import BaseModel


@dataclass(frozen=True)
class Search:
    """Numbers from `low` to `high`, both included; whole numbers where both are int. `log`: evenly by order of magnitude."""

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"{self} is empty; expected low < high{' and low > 0' if self.log else ''}")

    @property
    def whole(self) -> bool:
        """Only whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)


@dataclass(frozen=True, init=False)
class Choice:
    """One of `options`, without an order: text, booleans, numbers, or tuples of them. One option alone is not searched."""

    options: tuple[Any, ...]

    def __init__(self, *options: Any) -> None:
        if not options:
            raise ValueError("Choice() is empty; expected an option")
        object.__setattr__(self, "options", options)


Space: TypeAlias = Search | Choice


def search_space(config: type[BaseModel]) -> dict[str, Space]:
    """The spaces of a Config by key, inherited ones too; a key with a single option is left out."""
    found = {name: _nearest(config, name) for name in config.model_fields}
    return {name: space for name, space in found.items() if space and not _single(space)}


def _nearest(config: type[BaseModel], name: str) -> Space | None:
    """Annotated by the class itself, else by the nearest that it inherits from."""
    for cls in config.__mro__:
        field = cls.model_fields.get(name) if issubclass(cls, BaseModel) else None
        for annotation in field.metadata if field else ():
            if isinstance(annotation, Search | Choice):
                return annotation
    return None


def _single(space: Space) -> bool:
    return isinstance(space, Choice) and len(space.options) == 1
