"""create_app(settings): the application. serve(settings, host, port): the same on a socket."""

import asyncio
import ipaddress
import logging
import math
import os
import re
import socket
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recsys_ae import __version__
from recsys_ae.errors import ConfigError
from recsys_ae.products import limit_threads
from service import page, problems
from service.admission import Admission
from service.engine import Engine
from service.observing import Metrics, Observed, log_as_json
from service.rates import Limiter, Rates
from service.routes import ROUTERS
from service.security import Guard, Keys, describe_keys
from service.settings import Settings
from service.store import Store

log = logging.getLogger("service")

SAFE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
DESCRIPTION = """Recommendations from a history, by the current model of a registry.

Every answer and every error bears the header `X-Request-ID`: the caller's own where it sends one of at most 128 letters,
digits, dots, colons, dashes or underscores, else a new one. Every error is an RFC 9457 problem document."""


def create_app(settings: Settings) -> FastAPI:
    """The application with the registry's current version loaded; without one it answers 503 until it is restarted.

    Raises RegistryError or ArtifactError where the registry is damaged, ConfigError or StoreError where the store is no store.
    """
    store = Store.open(settings.store.get_secret_value()) if settings.store else None
    engine = Engine.load(settings, store)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        if engine is not None:
            engine.close()
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
    app.state.engine = engine
    app.state.stopping = False
    app.state.metrics = Metrics(app)
    app.state.store = store
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
    """The outermost layer: gives every request its id, and turns what no one else caught into a problem."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if SAFE_REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception:
            log.exception("request %s failed", request_id)
            if started:
                raise
            answer = problems.problem(500, "the service failed; its log names this request", request_id)
            await answer(scope, receive, send_with_id)


def serve(settings: Settings, host: str, port: int) -> None:
    """Serve until told to stop; says on stderr what and where once it listens. Port 0 is any free one.

    Raises OSError where the address cannot be had, ConfigError where it is open to other machines and no keys are asked for,
    and what `create_app` raises.
    """
    log_as_json()
    # Threads of the engine times threads of torch within each: as many as there are cores.
    limit_threads(max(1, (os.cpu_count() or 1) // settings.threads))
    with _listening(host, port) as listener:
        if settings.keys is None and not settings.without_keys and not _is_loopback(listener):
            raise ConfigError(
                f"--host {host} is open to other machines; expected --keys FILE, or --without-keys to serve anybody"
            )
        app = create_app(settings)
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=math.ceil(settings.stop_seconds),
        )
        server = _Server(config)
        with suppress(KeyboardInterrupt):  # uvicorn raises the signal again after it has stopped in good order
            server.run(sockets=[listener])


def _is_loopback(listener: socket.socket) -> bool:
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def _listening(host: str, port: int) -> socket.socket:
    """A socket bound to the address, IPv4 or IPv6 as the host is."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except (OSError, UnicodeError) as error:  # the latter for a name that cannot be one of a host
        raise OSError(f"cannot listen at {host}:{port}: {error}") from None
    return listener


class _Server(uvicorn.Server):
    """A server that says when it listens, and that goes on accepting for a while after it is told to stop."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        app: FastAPI = self.config.app  # type: ignore[assignment]
        for listener in sockets or []:
            host, port = listener.getsockname()[:2]
            engine: Engine | None = app.state.engine
            version = engine.version if engine else "no version"
            said = f"serving {version} at http://{f'[{host}]' if ':' in host else host}:{port}\n"
            if app.state.settings.keys is None:
                anybody = "this machine alone is served" if _is_loopback(listener) else "whoever reaches the port may all"
                said += f"no API keys: {anybody}\n"
            sys.stderr.write(said)
            sys.stderr.flush()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ready turns 503 and every answer closes its connection, until those who balance load have seen it; then the rest."""
        app: FastAPI = self.config.app  # type: ignore[assignment]
        app.state.stopping = True
        last = time.monotonic() + app.state.settings.drain_seconds
        while time.monotonic() < last and not self.force_exit:
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)
