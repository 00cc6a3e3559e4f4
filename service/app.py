"""create_app(settings): the application. serve(settings, listener, listens): the same on a socket."""

import asyncio
import logging
import math
import os
import re
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from functools import partial
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recsys_ae import __version__
from recsys_ae.products import limit_threads
from recsys_ae.registry import Registry
from service import page, problems
from service.admission import Admission
from service.batcher import Batcher
from service.cache import Cache
from service.engine import Engine
from service.impressions import Impressions
from service.kept import KeptLists
from service.live import Live
from service.logs import log_as_json
from service.observing import Metrics, Observed, new_request_id
from service.protocol import Http
from service.rates import Limiter, Rates
from service.recent import Recent
from service.routes import ROUTERS
from service.security import Guard, Keys, describe_keys
from service.settings import Settings
from service.store import Store

log = logging.getLogger("service")

SAFE_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
DESCRIPTION = """Recommendations from a history, by the current model of a registry.

Every answer and every error bears the header `X-Request-ID`: the caller's own where it sends one of at most 128 letters,
digits, dots, colons, dashes or underscores, else a new one. Every error is an RFC 9457 problem document."""


def create_app(settings: Settings) -> FastAPI:
    """The application with what the registry says is to be served; while that is nothing it answers 503.

    Raises RegistryError or ArtifactError where the registry is damaged, ConfigError or StoreError where the store is no store.
    """
    store = Store(settings.store.get_secret_value()) if settings.store else None
    registry = Registry(settings.registry)
    metrics = Metrics()
    live = Live(registry, partial(Engine.load, registry, settings=settings, store=store, recent=Recent()), metrics.life)
    metrics.tell_of(live)
    batcher = Batcher(settings.threads, metrics.batches)
    impressions = Impressions.of(settings, store, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        live.watch(settings.watch_seconds)
        with impressions or nullcontext():
            yield
        live.close()
        batcher.close()
        if store is not None:
            store.close()

    app = _Service(
        title="recsys-ae",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,  # names for generated clients
        redirect_slashes=False,  # a redirect is no problem document
    )
    app.state.settings = settings
    app.state.live = live
    app.state.stopping = False
    app.state.metrics = metrics
    app.state.batcher = batcher
    app.state.store = store
    app.state.impressions = impressions
    app.state.cache = Cache(settings.cache_mib * 2**20)
    for router in ROUTERS:
        app.include_router(router)
    if settings.page:
        app.include_router(page.router)
    problems.install(app)
    _guard(app, settings)
    return app


def _guard(app: FastAPI, settings: Settings) -> None:
    """What a request passes before a route sees it, the last first. Raises ConfigError where the keys cannot be read."""
    metrics: Metrics = app.state.metrics
    app.add_middleware(KeptLists, app)
    app.add_middleware(Admission, settings, metrics)
    if settings.rate_limit is not None:
        limiter = Limiter(settings.rate_limit, settings.rate_limit_store)
        app.add_middleware(Rates, limiter, metrics, ("/",) if settings.page and not settings.keys else ())
    app.add_middleware(Guard, Keys(settings.keys) if settings.keys else None, metrics)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key", "X-Request-ID"],
            expose_headers=["Retry-After", "X-Request-ID"],
        )
    app.add_middleware(_RequestScope)
    app.add_middleware(Observed, app, settings.access_log)


class _Service(FastAPI):
    """FastAPI whose schema says that errors are problem documents: it has one media type for a whole route."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            describe_keys(super().openapi())
            for path in super().openapi()["paths"].values():
                for operation in path.values():
                    for status, response in operation["responses"].items():
                        if status >= "400":
                            response["content"] = {problems.MEDIA_TYPE: response["content"]["application/json"]}
        return super().openapi()


class _RequestScope:
    """Gives every request its id, and turns what no one else caught into a problem."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"x-request-id", b"")
        request_id = given.decode() if SAFE_REQUEST_ID.fullmatch(given) else new_request_id()
        header = (b"x-request-id", request_id.encode())
        scope.setdefault("state", {})["request_id"] = request_id
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message["headers"], header]
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception:
            log.exception("request %s failed", request_id)
            if started:
                raise
            answer = problems.problem(500, "the service failed; its log names this request", request_id)
            await answer(scope, receive, send_with_id)


def serve(settings: Settings, listener: socket.socket, listens: Callable[[str], None]) -> None:
    """Serve at a socket until told to stop; `listens` is called with what is served once that is so.

    Raises what `create_app` raises.
    """
    log_as_json()
    # Processes times threads of the engine times threads of torch within each: as many as there are cores.
    limit_threads(max(1, (os.cpu_count() or 1) // (settings.workers * settings.threads)))
    config = uvicorn.Config(
        create_app(settings),
        http=Http,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(settings.stop_seconds),
    )
    with suppress(KeyboardInterrupt):  # uvicorn raises the signal again after it has stopped in good order
        _Server(config, listens).run(sockets=[listener])


class _Server(uvicorn.Server):
    """A server that says when it listens, and that goes on accepting for a while after it is told to stop."""

    def __init__(self, config: uvicorn.Config, listens: Callable[[str], None]) -> None:
        super().__init__(config)
        self.listens = listens

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        app: FastAPI = self.config.app  # type: ignore[assignment]
        engine: Engine | None = app.state.live.now.main
        self.listens(engine.version if engine else "no version")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ready turns 503 and every answer closes its connection, until those who balance load have seen it; then the rest."""
        app: FastAPI = self.config.app  # type: ignore[assignment]
        app.state.stopping = True
        last = time.monotonic() + app.state.settings.drain_seconds
        while time.monotonic() < last and not self.force_exit:
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)
