"""Recommendations: what is asked goes to the engine, what it finds becomes the answer."""

from typing import Annotated

from fastapi import HTTPException, Path, Query, Request

from recsys_ae.errors import UnknownIdError
from service.engine import Engine, Filters, Found
from service.observing import note_list
from service.problems import invalid
from service.routes.reading import Serving, problems, settings_of, v1
from service.schemas import RecommendationRequest, Recommendations, SimilarQuery, UserQuery
from service.settings import Settings

router = v1()


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
    filters = Filters(query.exclude, None, query.category, query.include_seen)
    try:
        found = await engine.run(engine.for_user, user_id, query.k, filters)
    except UnknownIdError:
        raise HTTPException(404, "no history of this user is stored; POST one to /v1/recommendations") from None
    return _answer(request, engine, found)


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
    settings = settings_of(request)
    _refuse_longer(body.k, ("body", "k"), settings)
    _refuse_larger(body, settings)
    filters = Filters(body.exclude, body.allow, body.categories, body.include_seen)
    return _answer(request, engine, await engine.run(engine.for_history, body.history, body.k, filters))


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


def _refuse_longer(k: int, place: tuple[str, str], settings: Settings) -> None:
    if k > settings.largest_k:
        raise invalid(place, f"Input should be less than or equal to {settings.largest_k}")


def _refuse_larger(body: RecommendationRequest, settings: Settings) -> None:
    for name, values in (("history", body.history), ("exclude", body.exclude), ("allow", body.allow or [])):
        if len(values) > settings.largest_history:
            raise invalid(("body", name), f"List should have at most {settings.largest_history} items")


def _answer(request: Request, engine: Engine, found: Found) -> Recommendations:
    note_list(request.scope, found.source, engine.version)
    return Recommendations(
        items=found.items,
        source=found.source,
        unknown_items=list(found.unknown_items),
        model_version=engine.version,
        request_id=request.state.request_id,
    )
