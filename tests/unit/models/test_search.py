"""Search spaces stand beside the hyperparameters, and every model's own are sound."""

from typing import Annotated

import pytest
from pydantic import Field, PositiveInt, TypeAdapter

from recsys_ae import MODELS
from recsys_ae.models import ModelConfig
from recsys_ae.models.search import Choice, Search, search_space


class Base(ModelConfig):
    width: Annotated[PositiveInt, Search(8, 64, log=True)] = 16
    dropout: Annotated[float, Field(ge=0, lt=1), Search(0.1, 0.8)] = 0.2
    hidden: Annotated[tuple[int, ...], Choice((), (600,))] = ()
    epochs: PositiveInt = 100


class OtherDefault(Base):
    width: PositiveInt = 32
    dropout: float = Field(0.5, ge=0, lt=1)


class Restated(OtherDefault):
    dropout: Annotated[float, Field(ge=0, lt=1), Search(0.0, 0.5)] = 0.0
    hidden: Annotated[tuple[int, ...], Choice(())] = ()


def test_a_space_stands_beside_its_key_and_a_key_without_one_is_not_searched() -> None:
    assert search_space(Base) == {"width": Search(8, 64, log=True), "dropout": Search(0.1, 0.8), "hidden": Choice((), (600,))}


def test_another_default_keeps_the_space() -> None:
    assert OtherDefault().dropout == 0.5
    assert search_space(OtherDefault) == search_space(Base)


def test_a_restated_space_replaces_it_and_a_single_option_is_not_searched() -> None:
    assert search_space(Restated) == {"width": Search(8, 64, log=True), "dropout": Search(0.0, 0.5)}


@pytest.mark.parametrize("empty", [lambda: Search(2, 1), lambda: Search(0.0, 1.0, log=True), lambda: Choice()])
def test_an_empty_space_is_refused(empty: type) -> None:
    with pytest.raises(ValueError, match="empty"):
        empty()


def test_whole_numbers_are_those_between_two_ints() -> None:
    assert Search(1, 10).whole
    assert not Search(1.0, 10).whole


@pytest.mark.parametrize("name", MODELS)
def test_every_space_of_a_model_holds_its_default_and_nothing_that_the_config_refuses(name: str) -> None:
    kind = MODELS[name].Config
    for key, space in search_space(kind).items():
        field = kind.model_fields[key]
        accepts = TypeAdapter(Annotated[field.annotation, field])
        if isinstance(space, Choice):
            assert field.default in space.options, key
            values = space.options
        else:
            assert space.low <= field.default <= space.high, key
            assert space.whole == (field.annotation is int), key
            values = (space.low, space.high)
        for value in values:
            assert accepts.validate_python(value) == value, key


def test_every_model_but_popularity_has_something_to_search() -> None:
    assert [name for name, model in MODELS.items() if not search_space(model.Config)] == ["popularity"]
