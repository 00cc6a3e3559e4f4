"""The routes: HTTP in, one call of the engine off the event loop, HTTP out."""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Query, Request

from service.engine import Answer, Engine, Filters
from service.problems import MEDIA_TYPE, Problem
from service.schemas import (
    Health,
    Item,
    ModelDescription,
    ProblemDocument,
    RecommendationRequest,
    Recommendations,
)

T = TypeVar("T")


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Problem documents in the OpenAPI description."""
    schema = ProblemDocument.model_json_schema()
    return {status: {"description": "Problem", "content": {MEDIA_TYPE: {"schema": schema}}} for status in statuses}


router = APIRouter(prefix="/v1", tags=["recommendations"])
health = APIRouter(prefix="/health", tags=["health"])


def engine_of(request: Request) -> Engine:
    """What is being served; a 503 problem where nothing is."""
    engine = request.app.state.engine
    if not isinstance(engine, Engine):
        raise Problem(503, "The registry has no current version; train and promote one, then start the service again.")
    return engine


def request_id_of(request: Request) -> str:
    """The id that the answer's X-Request-ID header bears."""
    return str(request.state.request_id)


def limited_k(request: Request, k: int) -> int:
    """k within the service's limit."""
    largest = request.app.state.settings.largest_k
    if k > largest:
        raise Problem(422, f"k is {k if k < 10**9 else 'too large'}; at most {largest} is allowed")
    return k


def single(request: Request) -> None:
    """Refuses query parameters that are unknown, or repeated where one value is meant."""
    lists = {"exclude", "category"}
    route = request.scope["route"]
    known = {field.alias for field in route.dependant.query_params}
    names = [name for name, _ in request.query_params.multi_items()]
    for name in names:
        if name not in known:
            raise Problem(422, f"unknown query parameter; expected {', '.join(sorted(known))}")
        if name not in lists and names.count(name) > 1:
            raise Problem(422, f"query parameter {name} is given {names.count(name)} times; expected once")


async def scored(request: Request, work: Callable[[], T]) -> T:
    """Run torch work in the service's own threads."""
    return await asyncio.get_running_loop().run_in_executor(request.app.state.pool, work)


def answered(engine: Engine, answer: Answer, request_id: str) -> Recommendations:
    """Columns become items with ids and titles."""
    artifact = engine.artifact
    items = [
        Item(item_id=artifact.items.ids[column], score=score, title=artifact.metadata.title(column), rank=rank)
        for rank, (column, score) in enumerate(zip(answer.columns, answer.scores, strict=True), 1)
    ]
    return Recommendations(
        items=items,
        source=answer.source,
        unknown_items=answer.unknown_items,
        model_version=engine.version,
        request_id=request_id,
    )


Loaded = Annotated[Engine, Depends(engine_of)]
RequestId = Annotated[str, Depends(request_id_of)]
K = Annotated[int, Query(ge=1, description="List length.")]


@router.get("/users/{user_id}/recommendations", dependencies=[Depends(single)], responses=documented(404, 422, 503))
async def recommend_for_user(
    request: Request,
    engine: Loaded,
    request_id: RequestId,
    user_id: str,
    k: K = 10,
    exclude: Annotated[list[str], Query(description="Items to leave out; may be repeated.")] = [],  # noqa: B006
    category: Annotated[list[str] | None, Query(description="Only these categories; may be repeated.")] = None,
    include_seen: bool = False,
) -> Recommendations:
    """Top-k for a stored user, from the stored history; what the user has seen is left out."""
    filters = Filters(exclude=exclude, categories=category, include_seen=include_seen)
    length = limited_k(request, k)
    answer = await scored(request, lambda: engine.for_user(user_id, length, filters))
    if answer is None:
        raise Problem(404, "The user is unknown; post a history to /v1/recommendations instead.")
    return answered(engine, answer, request_id)


@router.post("/recommendations", responses=documented(400, 413, 422, 503))
async def recommend_for_history(
    request: Request, engine: Loaded, request_id: RequestId, body: RecommendationRequest
) -> Recommendations:
    """Top-k from a posted history: a user who appeared a second ago is served like everyone else."""
    largest = request.app.state.settings.largest_history
    if len(body.history) > largest:
        raise Problem(422, f"body.history has {len(body.history)} events; at most {largest} are allowed")
    length = limited_k(request, body.k)
    filters = Filters(body.exclude, body.allow, body.categories, body.include_seen)
    answer = await scored(request, lambda: engine.for_history(body.history, length, filters))
    return answered(engine, answer, request_id)


@router.get("/items/{item_id}/similar", dependencies=[Depends(single)], responses=documented(404, 422, 503))
async def similar(request: Request, engine: Loaded, request_id: RequestId, item_id: str, k: K = 10) -> Recommendations:
    """The items most similar to one."""
    length = limited_k(request, k)
    answer = await scored(request, lambda: engine.similar(item_id, length))
    if answer is None:
        raise Problem(404, "The item is not in the catalogue.")
    return answered(engine, answer, request_id)


@router.get("/model", responses=documented(503))
async def model(engine: Loaded) -> ModelDescription:
    """What is being served, what it was trained on, and what it reached on the validation users."""
    about: dict[str, Any] = engine.about
    return ModelDescription(
        version=engine.version,
        model=about["model"],
        data_digest=engine.artifact.manifest["data"]["digest"],
        trained_at=about["created"],
        items=about["items"],
        users=about["users"],
        metrics=about["metrics"],
    )


@health.get("/live")
async def live() -> Health:
    """The process answers."""
    return Health(status="live")


@health.get("/ready", responses=documented(503))
async def ready(engine: Loaded) -> Health:
    """A model is loaded."""
    return Health(status="ready", model_version=engine.version)
