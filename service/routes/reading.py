"""What all routes share: how a body is read, what is refused before a route sees it, and which engine answers."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.convertors import Convertor, register_url_convertor

from service.batcher import Batcher
from service.engine import Engine
from service.live import Served
from service.problems import invalid, serving
from service.schemas import Problem
from service.settings import Settings
from service.store import Store


class _IdConvertor(Convertor[str]):
    """An id in a path: anything, slashes and line breaks too, at which starlette's own `path` ends."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("id", _IdConvertor())

REPEATABLE = {"exclude", "category"}
DESCRIPTIONS = {
    400: "The body is not JSON",
    404: "No such user or item",
    413: "The body is too large",
    415: "The body is not declared as JSON",
    422: "A value is missing, wrong or beyond a limit; `errors` says where",
    503: "No model is published yet, or no store of events is configured, or it does not answer",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Problem, "description": DESCRIPTIONS[status]} for status in statuses}


class JsonRequest(Request):
    """A request whose body is strict JSON: no NaN, no lone surrogates, no bottomless nesting; `Admission` limits its size."""

    async def body(self) -> bytes:
        """The body. Raises HTTPException where it is not declared as JSON."""
        if self.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            raise HTTPException(415, "expected a body of content type application/json")
        return await super().body()

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


async def _served(request: Request) -> Served:
    served: Served = request.app.state.live.now
    return served


ServedNow = Annotated[Served, Depends(_served)]


async def _engine_if_any(served: ServedNow) -> Engine | None:
    return served.main


EngineIfAny = Annotated[Engine | None, Depends(_engine_if_any)]


async def _engine(engine: EngineIfAny) -> Engine:
    return serving(engine)


async def _stored(request: Request) -> Store:
    store: Store | None = request.app.state.store
    if store is None:
        raise HTTPException(503, "no store of events is configured; expected [store] url, or RECSYS_AE__STORE__URL")
    return store


async def _single_values(request: Request) -> None:
    """Refuse a parameter given twice: which of the two was meant, no one can tell."""
    names = [name for name, _ in request.query_params.multi_items() if name not in REPEATABLE]
    for name in names:
        if names.count(name) > 1:
            raise invalid(("query", name), "Input should be given once")


def batcher_of(request: Request) -> Batcher:
    batcher: Batcher = request.app.state.batcher
    return batcher


def settings_of(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


Serving = Annotated[Engine, Depends(_engine)]
Storing = Annotated[Store, Depends(_stored)]


def v1() -> APIRouter:
    """A router below /v1 whose routes read bodies as JsonRequest does."""
    return APIRouter(prefix="/v1", route_class=JsonRoute, dependencies=[Depends(_single_values)])
