"""What an operator sees: one JSON line for each request and figures for Prometheus; neither holds a user, an item or a key."""

import os
import random
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from fastapi import APIRouter, FastAPI, Request, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.figures import FIGURES, AllWorkers
from service.logs import access_logger

if TYPE_CHECKING:
    from service.live import Live

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
TEXT = "text/plain; version=0.0.4; charset=utf-8"
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"x-frame-options", b"DENY"),
]
PAGE_POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
# The page of the routes is FastAPI's, which loads Swagger UI from there and starts it by a script of its own.
DOCS_POLICY = (
    "default-src 'self'; script-src 'unsafe-inline' https://cdn.jsdelivr.net; "
    "style-src 'unsafe-inline' https://cdn.jsdelivr.net; "
    "img-src 'self' data: https://fastapi.tiangolo.com; base-uri 'none'; frame-ancestors 'none'; object-src 'none'"
)

Header = tuple[bytes, bytes]

router = APIRouter()


def new_request_id() -> str:
    """A name that no other request has; no secret, so it costs no call to the system."""
    return f"{random.getrandbits(128):032x}"


class BatchMetrics:
    """How requests share a model's products."""

    def __init__(self, registry: CollectorRegistry | None) -> None:
        self.waiting = Gauge(
            "recsys_ae_lists_waiting", "Lists that wait for a thread.", multiprocess_mode="livesum", registry=registry
        )
        self._sizes = Histogram(
            "recsys_ae_batch_lists", "Lists that were scored together.", buckets=(1, 2, 4, 8, 16, 32), registry=registry
        )
        self._waits = Histogram(
            "recsys_ae_list_wait_seconds", "Time that a list waited for a thread.", buckets=SECONDS, registry=registry
        )

    def batch(self, size: int, waits: Sequence[float]) -> None:
        """Count a batch, and the seconds that each of its lists waited."""
        self._sizes.observe(size)
        for seconds in waits:
            self._waits.observe(seconds)


class LifeMetrics:
    """How the versions that are served change."""

    def __init__(self, registry: CollectorRegistry | None) -> None:
        self.swaps = Counter("recsys_ae_swaps", "Times that other versions took over.", registry=registry)
        self.refused = Counter("recsys_ae_versions_refused", "Times that a version could not be loaded.", registry=registry)


class Metrics:
    """The figures of one application, in a registry of their own; of all workers where there are several."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        folder = os.environ.get(FIGURES)
        own = None if folder else self.registry
        self.seconds = Histogram(
            "recsys_ae_request_seconds",
            "Time from a request's headers to the end of its answer.",
            ("method", "route", "status"),
            buckets=SECONDS,
            registry=own,
        )
        self.in_flight = Gauge("recsys_ae_requests_in_flight", "Requests worked on.", multiprocess_mode="livesum", registry=own)
        self._refused = Counter(
            "recsys_ae_requests_refused", "Requests refused before a route saw them.", ("reason",), registry=own
        )
        self._lists = Counter(
            "recsys_ae_lists",
            "Lists given, from a model or from popularity, by version and by arm of the A/B test.",
            ("source", "version", "arm"),
            registry=own,
        )
        self._popularity = Summary(
            "recsys_ae_list_popularity",
            "Mean percentile of popularity of a list's items, from 0 to 1.",
            ("version",),
            registry=own,
        )
        self.impressions_dropped = Counter(
            "recsys_ae_impressions_dropped", "Lists shown that could not be logged.", registry=own
        )
        self.batches = BatchMetrics(own)
        self.life = LifeMetrics(own)
        if folder:
            self.registry.register(AllWorkers(folder))

    def tell_of(self, live: "Live") -> None:
        """Let the figures say what is served."""
        self.registry.register(_Served(live))

    def refused(self, reason: str) -> None:
        """Count a request that was not let in."""
        self._refused.labels(reason).inc()

    def given(self, lists: Sequence["GivenList"]) -> None:
        """Count the lists of an answer."""
        for each in lists:
            self._lists.labels(each.source, each.version, each.arm or "").inc()
            if each.popularity is not None:
                self._popularity.labels(each.version).observe(each.popularity)


class GivenList(NamedTuple):
    """A list that an answer holds: where it comes from, and how popular its items are."""

    source: str
    version: str
    arm: str | None
    popularity: float | None


class _Served(Collector):
    """The versions that are served, and their age at this moment."""

    def __init__(self, live: "Live") -> None:
        self.live = live

    def collect(self) -> Iterator[Metric]:
        info = GaugeMetricFamily("recsys_ae_model_info", "1 for a version that is served.", labels=("version", "model"))
        share = GaugeMetricFamily("recsys_ae_model_share", "Share of users and sessions of a version.", labels=("version",))
        usual = GaugeMetricFamily(
            "recsys_ae_usual_list_popularity",
            "What recsys_ae_list_popularity is on average for the users a version was published with.",
            labels=("version",),
        )
        age = GaugeMetricFamily("recsys_ae_model_age_seconds", "Seconds since the version that is served was trained.")
        now = self.live.now
        for version, engine in now.engines.items():
            info.add_metric((version, engine.about["model"]), 1)
            share.add_metric((version,), now.test.shares[version] if now.test else 1)
            if engine.usual_popularity is not None:
                usual.add_metric((version,), engine.usual_popularity)
        if now.main is not None:
            trained = datetime.fromisoformat(now.main.about["created"])
            age.add_metric((), (datetime.now(UTC) - trained).total_seconds())
        yield from (info, share, usual, age)


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
                message["headers"] = self._completed(scope["path"], message["headers"])
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        finally:
            self._note(scope, status or 500, time.perf_counter() - began)

    def _completed(self, path: str, headers: Sequence[Header]) -> list[Header]:
        there = dict(headers)
        added = [header for header in HEADERS if header[0] not in there]
        if there.get(b"content-type", b"").startswith(b"text/html") and b"content-security-policy" not in there:
            policy = DOCS_POLICY if path in ("/docs", "/redoc") else PAGE_POLICY
            added.append((b"content-security-policy", policy.encode()))
        if self.service.state.stopping and b"connection" not in there:
            added.append((b"connection", b"close"))
        return [*headers, *added]

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in METHODS else "other"
        route = getattr(scope.get("route"), "path", "-")
        state = scope.get("state", {})
        self.metrics.seconds.labels(method, route, status).observe(seconds)
        lists: list[GivenList] = state.get("lists", [])
        self.metrics.given(lists)
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
                model_version=lists[-1].version if lists else None,
                arm=lists[-1].arm if lists else None,
            )


def note_list(scope: Scope, given: GivenList) -> None:
    """Let the log and the figures know of a list that an answer holds."""
    scope["state"].setdefault("lists", []).append(given)
