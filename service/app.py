"""create_app(): the routes, their limits and the model of one registry."""

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from fastapi import FastAPI

from recsys_ae import __version__
from recsys_ae.registry import Registry
from service import problems, routes
from service.engine import Engine
from service.settings import Settings


def create_app(settings: Settings) -> FastAPI:
    """The app; it loads the registry's current version now, and answers 503 where there is none.

    Raises ArtifactError for a damaged version.
    """
    engine = Engine.of(Registry(settings.registry))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with ThreadPoolExecutor(settings.workers, "scoring") as pool:
            app.state.pool = pool
            yield

    app = FastAPI(
        title="recsys-ae",
        version=__version__,
        description="Top-k recommendations from histories. Errors are problem documents (RFC 9457).",
        lifespan=lifespan,
    )
    app.state.settings, app.state.engine = settings, engine
    app.add_middleware(problems.BodyLimit, largest=settings.largest_body)
    app.add_middleware(problems.RequestId)
    problems.install(app)
    app.include_router(routes.router)
    app.include_router(routes.health)
    return app
