"""The routes: what is asked goes to the engine, what it finds becomes the answer."""

from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json

from recsys_ae.errors import UnknownIdError
from service.engine import Engine, Filters, Found
from service.problems import Problem, invalid
from service.schemas import Live, ModelInfo, Ready, RecommendationRequest, Recommendations, SimilarQuery, UserQuery
from service.settings import Settings

REPEATABLE = {"exclude", "category"}
DESCRIPTIONS = {
    400: "The body is not JSON",
    404: "No such user or item",
    413: "The body is too large",
    415: "The body is not declared as JSON",
    422: "A value is missing, wrong or beyond a limit; `errors` says where",
    503: "No model is published yet",
}


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Problem, "description": DESCRIPTIONS[status]} for status in statuses}


class JsonRequest(Request):
    """A request whose body is limited and strict JSON: no NaN, no lone surrogates, no bottomless nesting."""

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The body in chunks; an HTTPException as soon as it is too long, however it is transferred."""
        if self.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            raise HTTPException(415, "expected a body of content type application/json")
        limit = _settings(self).largest_body_bytes
        received = 0
        async for chunk in super().stream():
            received += len(chunk)
            if received > limit:
                raise HTTPException(413, f"the body is too large; expected at most {limit} bytes")
            yield chunk

    async def json(self) -> Any:
        try:
            return from_json(await self.body(), allow_inf_nan=False)
        except ValueError as error:
            raise HTTPException(400, f"the body is not valid JSON: {error}") from None


class JsonRoute(APIRoute):
    """A route that reads its body as JsonRequest does."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(JsonRequest(request.scope, request.receive))

        return handle


async def _engine(request: Request) -> Engine:
    engine: Engine | None = request.app.state.engine
    if engine is None:
        raise HTTPException(503, "no model is published yet; expected a current version in the registry")
    return engine


async def _single_values(request: Request) -> None:
    """Refuse a parameter given twice: which of the two was meant, no one can tell."""
    names = [name for name, _ in request.query_params.multi_items() if name not in REPEATABLE]
    for name in names:
        if names.count(name) > 1:
            raise invalid(("query", name), "Input should be given once")


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def _refuse_longer(k: int, place: tuple[str, str], settings: Settings) -> None:
    if k > settings.largest_k:
        raise invalid(place, f"Input should be less than or equal to {settings.largest_k}")


def _refuse_larger(body: RecommendationRequest, settings: Settings) -> None:
    for name, values in (("history", body.history), ("exclude", body.exclude), ("allow", body.allow or [])):
        if len(values) > settings.largest_history:
            raise invalid(("body", name), f"List should have at most {settings.largest_history} items")


Serving = Annotated[Engine, Depends(_engine)]

router = APIRouter(prefix="/v1", route_class=JsonRoute, dependencies=[Depends(_single_values)])
health = APIRouter(prefix="/health", tags=["health"])


@router.get(
    "/users/{user_id:path}/recommendations",
    tags=["recommendations"],
    summary="Recommend to a stored user",
    responses=_problems(404, 422, 503),
)
async def recommend_to_user(
    request: Request,
    engine: Serving,
    user_id: Annotated[str, Path(description="As in the log.", examples=["42"])],
    query: Annotated[UserQuery, Query()],
) -> Recommendations:
    """The k best items for a user whose history was stored with the model; items of that history are left out."""
    _refuse_longer(query.k, ("query", "k"), _settings(request))
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
    responses=_problems(400, 413, 415, 422, 503),
)
async def recommend_from_history(request: Request, engine: Serving, body: RecommendationRequest) -> Recommendations:
    """The k best items for a history, of whoever it is: a user who appeared a second ago is served like any other.

    Unknown items are skipped and named in `unknown_items`. With no usable event of a known item the most popular items are
    returned (`source` is then popularity).
    """
    settings = _settings(request)
    _refuse_longer(body.k, ("body", "k"), settings)
    _refuse_larger(body, settings)
    filters = Filters(body.exclude, body.allow, body.categories, body.include_seen)
    return _answer(request, engine, await engine.run(engine.for_history, body.history, body.k, filters))


@router.get(
    "/items/{item_id:path}/similar",
    tags=["recommendations"],
    summary="Items like this one",
    responses=_problems(404, 422, 503),
)
async def similar(
    request: Request,
    engine: Serving,
    item_id: Annotated[str, Path(description="As in the catalogue.", examples=["318"])],
    query: Annotated[SimilarQuery, Query()],
) -> Recommendations:
    """The k items most like one item: the list of a history of that item alone."""
    _refuse_longer(query.k, ("query", "k"), _settings(request))
    try:
        found = await engine.run(engine.similar, item_id, query.k)
    except UnknownIdError:
        raise HTTPException(404, "this item is not in the catalogue") from None
    return _answer(request, engine, found)


@router.get("/model", tags=["model"], summary="The version that is served", responses=_problems(422, 503))
async def model(engine: Serving) -> ModelInfo:
    """Version, model, data digest, metrics and time of training."""
    about = engine.about
    return ModelInfo(
        version=engine.version,
        model=about["model"],
        data_digest=engine.artifact.manifest.get("data", {}).get("digest"),
        metrics=about["metrics"],
        trained_at=about["created"],
        items=about["items"],
        users=about["users"],
    )


@health.get("/live", summary="Whether the process answers")
async def live() -> Live:
    """200 as long as the process can answer at all."""
    return Live()


@health.get("/ready", summary="Whether a model is served", responses=_problems(503))
async def ready(engine: Serving) -> Ready:
    """200 once recommendations can be asked for."""
    return Ready(model_version=engine.version)


def _answer(request: Request, engine: Engine, found: Found) -> Recommendations:
    return Recommendations(
        items=found.items,
        source=found.source,
        unknown_items=list(found.unknown_items),
        model_version=engine.version,
        request_id=request.state.request_id,
    )
