"""create_app(settings): the application. serve(settings, host, port): the same on a socket."""

import logging
import os
import re
import socket
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recsys_ae import __version__
from recsys_ae.products import limit_threads
from service import problems
from service.engine import Engine
from service.routes import ROUTERS
from service.settings import Settings
from service.store import Store

log = logging.getLogger("service")

SAFE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
SHUTDOWN_SECONDS = 10
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
        redirect_slashes=False,  # a redirect is no problem document
    )
    app.state.settings = settings
    app.state.engine = engine
    app.state.store = store
    for router in ROUTERS:
        app.include_router(router)
    problems.install(app)
    app.add_middleware(_RequestScope)
    return app


class _Service(FastAPI):
    """FastAPI whose schema says that errors are problem documents: it has one media type for a whole route."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
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

    Raises OSError where the address cannot be had, and what `create_app` raises.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # Threads of the engine times threads of torch within each: as many as there are cores.
    limit_threads(max(1, (os.cpu_count() or 1) // settings.threads))
    with _listening(host, port) as listener:
        app = create_app(settings)
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
        server = _Announcing(config)
        with suppress(KeyboardInterrupt):  # uvicorn raises the signal again after it has stopped in good order
            server.run(sockets=[listener])


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


class _Announcing(uvicorn.Server):
    """A server that says when it listens."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or []:
            host, port = listener.getsockname()[:2]
            engine: Engine | None = self.config.app.state.engine  # type: ignore[union-attr]
            version = engine.version if engine else "no version"
            sys.stderr.write(f"serving {version} at http://{f'[{host}]' if ':' in host else host}:{port}\n")
            sys.stderr.flush()
