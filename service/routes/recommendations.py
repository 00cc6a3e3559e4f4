"""Recommendations: what is asked goes to the engine, what it finds becomes the answer."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, TypeAlias

from fastapi import HTTPException, Path, Query, Request
from fastapi.exceptions import RequestValidationError

from recsys_ae.errors import UnknownIdError
from service.engine import Engine, Filters, Found
from service.impressions import note_shown
from service.live import Served
from service.observing import GivenList, note_list
from service.problems import INVALID, described, invalid, serving
from service.routes.reading import ServedNow, Serving, batcher_of, problems, settings_of, v1
from service.schemas import (
    BatchRequest,
    BatchResults,
    Problem,
    RankRequest,
    RecommendationRequest,
    Recommendations,
    Refused,
    SimilarQuery,
    field_errors,
)
from service.settings import Settings
from service.shaping import CannotShapeError, shape_of
from service.store import listed

router = v1()
Place: TypeAlias = tuple[int | str, ...]


@router.post(
    "/recommendations",
    tags=["recommendations"],
    summary="Recommend from a posted history",
    responses=problems(400, 413, 415, 422, 503),
)
async def recommend_from_history(
    request: Request, engine: Serving, served: ServedNow, body: RecommendationRequest
) -> Recommendations:
    """The k best items for a history, of whoever it is: a user who appeared a second ago is served like any other.

    Unknown items are skipped and named in `unknown_items`. With no usable event of a known item the most popular items are
    returned (`source` is then popularity).
    """
    return await _recommended(request, _served_to(engine, served, body), body, ("body",))


@router.post(
    "/recommendations/batch",
    tags=["recommendations"],
    summary="Recommend from several posted histories",
    responses=problems(400, 413, 415, 422, 503),
)
async def recommend_in_batch(request: Request, engine: Serving, served: ServedNow, body: BatchRequest) -> BatchResults:
    """What each request would be answered by itself, in their order; a problem takes the place of a list that cannot be had."""
    most = settings_of(request).largest_batch
    if len(body.requests) > most:
        raise invalid(("body", "requests"), f"List should have at most {most} items")

    async def result(place: int, one: RecommendationRequest | Refused) -> Recommendations | Problem:
        try:
            if isinstance(one, Refused):
                raise RequestValidationError([e | {"loc": ("body", "requests", place, *e["loc"])} for e in one.errors])
            return await _recommended(request, _served_to(engine, served, one), one, ("body", "requests", place), place)
        except RequestValidationError as error:
            return described(422, INVALID, request.state.request_id, field_errors(error.errors()))

    return BatchResults(results=list(await asyncio.gather(*(result(place, one) for place, one in enumerate(body.requests)))))


@router.post(
    "/rank",
    tags=["recommendations"],
    summary="Bring candidates into order",
    responses=problems(400, 413, 415, 422, 503),
)
async def rank(request: Request, engine: Serving, body: RankRequest) -> Recommendations:
    """All posted candidates that the model knows, best first for this history; those that it does not are in `unknown_items`.

    Items of the history are candidates like all others. With no usable event of a known item popularity orders them.
    """
    settings = settings_of(request)
    _refuse_larger({"history": body.history}, settings.largest_history, ("body",))
    _refuse_larger({"items": body.items}, settings.largest_k, ("body",))
    found = await batcher_of(request).ask(partial(engine.ranked, body.history, body.items))
    return _answer(request, engine, None, found)


@router.get(
    "/items/{item_id:id}/similar",
    tags=["recommendations"],
    summary="Items like this one",
    responses=problems(404, 422, 503),
)
async def similar(
    request: Request,
    engine: Serving,
    item_id: Annotated[str, Path(description="As in the catalogue.", examples=["318"])],
    query: Annotated[SimilarQuery, Query()],
) -> Recommendations:
    """The k items most like one item: the list of a history of that item alone."""
    refuse_longer(query.k, ("query", "k"), settings_of(request))
    try:
        found = await batcher_of(request).ask(partial(engine.similar, item_id, query.k))
    except UnknownIdError:
        raise HTTPException(404, "this item is not in the catalogue") from None
    return _answer(request, engine, None, found)


def _served_to(main: Engine, served: Served, one: RecommendationRequest) -> tuple[Engine, str | None]:
    """Who answers a request, and the arm that its user or else its session is in."""
    user = main.users.key(one.user_id) if one.user_id is not None else one.session_id
    engine, arm = served.engine_for(user)
    return serving(engine), arm


async def _recommended(
    request: Request, served: tuple[Engine, str | None], one: RecommendationRequest, place: Place, number: int = 0
) -> Recommendations:
    """The answer to one request that stands at `place`, the number-th of several, by an engine for an arm.

    Raises RequestValidationError.
    """
    engine, arm = served
    settings = settings_of(request)
    refuse_longer(one.k, (*place, "k"), settings)
    lists: dict[str, Sequence[Any]] = {"history": one.history, "exclude": one.exclude, "allow": one.allow or []}
    _refuse_larger(lists, settings.largest_history, place)
    filters = Filters(one.exclude, one.allow, one.categories, one.include_seen, shape_of(request.state.request_id, one, number))
    try:
        found = await batcher_of(request).ask(partial(engine.for_history, one.history, one.k, filters))
    except CannotShapeError as error:
        raise invalid((*place, error.key), str(error)) from None
    user = None if one.user_id is None else engine.users.key(one.user_id)
    items = listed(item.item_id for item in found.items)
    note_shown(request.app, request.scope, user, number, found.source, items, engine.version, arm)
    return _answer(request, engine, arm, found)


def refuse_longer(k: int, place: Place, settings: Settings) -> None:
    """Raises the validation error, at its place, for a k beyond the limit."""
    if k > settings.largest_k:
        raise invalid(place, f"Input should be less than or equal to {settings.largest_k}")


def _refuse_larger(lists: Mapping[str, Sequence[Any]], most: int, place: Place) -> None:
    for name, values in lists.items():
        if len(values) > most:
            raise invalid((*place, name), f"List should have at most {most} items")


def _answer(request: Request, engine: Engine, arm: str | None, found: Found) -> Recommendations:
    note_list(request.scope, GivenList(found.source, engine.version, arm, found.popularity))
    return Recommendations(**found.contents(engine.version), arm=arm, request_id=request.state.request_id)
