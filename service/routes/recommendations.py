"""Recommendations: what is asked goes to the engine, what it finds becomes the answer."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeAlias

from fastapi import HTTPException, Path, Query, Request
from fastapi.exceptions import RequestValidationError

from recsys_ae.errors import UnknownIdError
from recsys_ae.ids import Id
from service.engine import Engine, Filters, Found
from service.impressions import note_shown
from service.observing import note_list
from service.problems import INVALID, described, invalid
from service.routes.reading import Serving, problems, settings_of, v1
from service.schemas import (
    BatchRequest,
    BatchResults,
    Problem,
    RankRequest,
    RecommendationRequest,
    Recommendations,
    Refused,
    SimilarQuery,
    UserQuery,
    field_errors,
)
from service.settings import Settings
from service.shaping import HistoryTooLongError, Shape

router = v1()
Place: TypeAlias = tuple[int | str, ...]


@router.get(
    "/users/{user_id:path}/recommendations",
    tags=["recommendations"],
    summary="Recommend to a stored user",
    responses=problems(404, 422, 503),
)
async def recommend_to_user(
    request: Request,
    engine: Serving,
    user_id: Annotated[str, Path(description="As in the log.", examples=["42"])],
    query: Annotated[UserQuery, Query()],
) -> Recommendations:
    """The k best items for a user whose history was stored with the model; items of that history are left out."""
    _refuse_longer(query.k, ("query", "k"), settings_of(request))
    filters = Filters(query.exclude, None, query.category, query.include_seen, _shape(query))
    try:
        found = await engine.run(engine.for_user, user_id, query.k, filters)
    except HistoryTooLongError as error:
        raise invalid(("query", "explain"), str(error)) from None
    except UnknownIdError:
        raise HTTPException(404, "no history of this user is stored; POST one to /v1/recommendations") from None
    return _shown(request, engine, found, user_id)


@router.post(
    "/recommendations",
    tags=["recommendations"],
    summary="Recommend from a posted history",
    responses=problems(400, 413, 415, 422, 503),
)
async def recommend_from_history(request: Request, engine: Serving, body: RecommendationRequest) -> Recommendations:
    """The k best items for a history, of whoever it is: a user who appeared a second ago is served like any other.

    Unknown items are skipped and named in `unknown_items`. With no usable event of a known item the most popular items are
    returned (`source` is then popularity).
    """
    return await _recommended(request, engine, body, ("body",))


@router.post(
    "/recommendations/batch",
    tags=["recommendations"],
    summary="Recommend from several posted histories",
    responses=problems(400, 413, 415, 422, 503),
)
async def recommend_in_batch(request: Request, engine: Serving, body: BatchRequest) -> BatchResults:
    """What each request would be answered by itself, in their order; a problem takes the place of a list that cannot be had."""
    most = settings_of(request).largest_batch
    if len(body.requests) > most:
        raise invalid(("body", "requests"), f"List should have at most {most} items")

    async def result(place: int, one: RecommendationRequest | Refused) -> Recommendations | Problem:
        try:
            if isinstance(one, Refused):
                raise RequestValidationError([e | {"loc": ("body", "requests", place, *e["loc"])} for e in one.errors])
            return await _recommended(request, engine, one, ("body", "requests", place), place)
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
    return _answer(request, engine, await engine.run(engine.ranked, body.history, body.items))


@router.get(
    "/items/{item_id:path}/similar",
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
    _refuse_longer(query.k, ("query", "k"), settings_of(request))
    try:
        found = await engine.run(engine.similar, item_id, query.k)
    except UnknownIdError:
        raise HTTPException(404, "this item is not in the catalogue") from None
    return _answer(request, engine, found)


async def _recommended(
    request: Request, engine: Engine, one: RecommendationRequest, place: Place, number: int = 0
) -> Recommendations:
    """The answer to one request that stands at `place`, the number-th of several. Raises RequestValidationError."""
    settings = settings_of(request)
    _refuse_longer(one.k, (*place, "k"), settings)
    lists: dict[str, Sequence[Any]] = {"history": one.history, "exclude": one.exclude, "allow": one.allow or []}
    _refuse_larger(lists, settings.largest_history, place)
    filters = Filters(one.exclude, one.allow, one.categories, one.include_seen, _shape(one))
    try:
        found = await engine.run(engine.for_history, one.history, one.k, filters)
    except HistoryTooLongError as error:
        raise invalid((*place, "explain"), str(error)) from None
    return _shown(request, engine, found, one.user_id, number)


def _shape(asked: RecommendationRequest | UserQuery) -> Shape:
    return Shape(asked.diversity, asked.calibration, asked.explain)


def _refuse_longer(k: int, place: Place, settings: Settings) -> None:
    if k > settings.largest_k:
        raise invalid(place, f"Input should be less than or equal to {settings.largest_k}")


def _refuse_larger(lists: Mapping[str, Sequence[Any]], most: int, place: Place) -> None:
    for name, values in lists.items():
        if len(values) > most:
            raise invalid((*place, name), f"List should have at most {most} items")


def _shown(request: Request, engine: Engine, found: Found, user_id: Id | None, place: int = 0) -> Recommendations:
    """The answer with a list that somebody is shown, which is logged: at `place` of its batch."""
    user = None if user_id is None else engine.users.key(user_id)
    note_shown(request, user, place, found.source, [item.item_id for item in found.items], engine.version)
    return _answer(request, engine, found)


def _answer(request: Request, engine: Engine, found: Found) -> Recommendations:
    note_list(request.scope, found.source, engine.version)
    return Recommendations(
        items=found.items,
        source=found.source,
        unknown_items=list(found.unknown_items),
        model_version=engine.version,
        request_id=request.state.request_id,
    )
