"""What an operator sees: one JSON line for each request and figures for Prometheus; neither holds a user, an item or a key."""

import logging
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import structlog
from fastapi import APIRouter, FastAPI, Request, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
TEXT = "text/plain; version=0.0.4; charset=utf-8"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Frame-Options": "DENY",
}
PAGE_POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
# The page of the routes is FastAPI's, which loads Swagger UI from there and starts it by a script of its own.
DOCS_POLICY = (
    "default-src 'self'; script-src 'unsafe-inline' https://cdn.jsdelivr.net; "
    "style-src 'unsafe-inline' https://cdn.jsdelivr.net; "
    "img-src 'self' data: https://fastapi.tiangolo.com; base-uri 'none'; frame-ancestors 'none'; object-src 'none'"
)

router = APIRouter()


class Metrics:
    """The figures of one application, in a registry of their own."""

    def __init__(self, app: FastAPI) -> None:
        self.registry = CollectorRegistry()
        self.seconds = Histogram(
            "recsys_ae_request_seconds",
            "Time from a request's headers to the end of its answer.",
            ("method", "route", "status"),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge("recsys_ae_requests_in_flight", "Requests worked on.", registry=self.registry)
        self._refused = Counter(
            "recsys_ae_requests_refused", "Requests refused before a route saw them.", ("reason",), registry=self.registry
        )
        self._lists = Counter(
            "recsys_ae_lists", "Lists given, from a model or from popularity.", ("source",), registry=self.registry
        )
        self.impressions_dropped = Counter(
            "recsys_ae_impressions_dropped", "Lists shown that could not be logged.", registry=self.registry
        )
        self.registry.register(_Served(app))

    def refused(self, reason: str) -> None:
        """Count a request that was not let in."""
        self._refused.labels(reason).inc()

    def served(self, sources: list[str]) -> None:
        """Count the lists of an answer."""
        for source in sources:
            self._lists.labels(source).inc()


class _Served(Collector):
    """The version that is served, and its age at this moment."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app

    def collect(self) -> Iterator[GaugeMetricFamily]:
        info = GaugeMetricFamily("recsys_ae_model_info", "1 for the version that is served.", labels=("version", "model"))
        age = GaugeMetricFamily("recsys_ae_model_age_seconds", "Seconds since the version that is served was trained.")
        engine = self.app.state.engine
        if engine is not None:
            info.add_metric((engine.version, engine.about["model"]), 1)
            trained = datetime.fromisoformat(engine.about["created"])
            age.add_metric((), (datetime.now(UTC) - trained).total_seconds())
        yield info
        yield age


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """The figures, as Prometheus reads them."""
    return Response(generate_latest(request.app.state.metrics.registry), media_type=TEXT)


class Observed:
    """The outermost layer: headers that every answer bears, its line in the log, and its time."""

    def __init__(self, app: ASGIApp, service: FastAPI, access_log: bool) -> None:
        self.app, self.service = app, service
        self.metrics: Metrics = service.state.metrics
        self.log = access_logger() if access_log else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._complete(scope["path"], MutableHeaders(scope=message))
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        finally:
            self._note(scope, status or 500, time.perf_counter() - began)

    def _complete(self, path: str, headers: MutableHeaders) -> None:
        for name, value in HEADERS.items():
            headers.setdefault(name, value)
        if headers.get("content-type", "").startswith("text/html"):
            headers.setdefault("Content-Security-Policy", DOCS_POLICY if path in ("/docs", "/redoc") else PAGE_POLICY)
        if self.service.state.stopping:
            headers["Connection"] = "close"

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in METHODS else "other"
        route = getattr(scope.get("route"), "path", "-")
        state = scope.get("state", {})
        self.metrics.seconds.labels(method, route, status).observe(seconds)
        self.metrics.served(state.get("sources", []))
        if self.log is not None:
            key = state.get("key")
            self.log.info(
                "request",
                method=method,
                route=route,
                status=status,
                ms=round(1_000 * seconds, 3),
                request_id=state.get("request_id"),
                key=key.name if key else None,
                model_version=state.get("model_version"),
            )


def note_list(scope: Scope, source: str, version: str) -> None:
    """Let the log and the figures know of a list that an answer holds."""
    scope["state"].setdefault("sources", []).append(source)
    scope["state"]["model_version"] = version


def access_logger() -> Any:
    """JSON lines on stderr."""
    stamped = structlog.processors.TimeStamper(fmt="iso", utc=True)
    return structlog.wrap_logger(
        structlog.WriteLogger(sys.stderr),
        processors=[stamped, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.BoundLogger,
    )


def log_as_json() -> None:
    """Warnings and errors of all libraries as JSON lines on stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
