"""How often one key may ask: counted in this process, or in Redis for all processes together."""

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError
from limits.storage import storage_from_string
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recsys_ae.errors import ConfigError
from service.observing import Metrics
from service.problems import problem
from service.security import scope_of

log = logging.getLogger("service")

STORE_SECONDS = 0.25
AWAY_SECONDS = 5.0
"""How long a store that failed is left alone."""


@dataclass(frozen=True)
class Verdict:
    """Whether a request may pass, how many more may, and in how many seconds there are more."""

    passes: bool
    remaining: int
    seconds: int


class Limiter:
    """A limit over a sliding window. While the store is away each process counts for itself: limited still, less exactly."""

    def __init__(self, limit: str, store: str) -> None:
        """Raises ConfigError where the store's driver is not installed."""
        self.item: RateLimitItem = parse(limit)
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._shared = _shared(store)
        self._away_until = -math.inf

    async def hit(self, who: str) -> Verdict:
        """Count a request."""
        if self._shared is not None and time.monotonic() >= self._away_until:
            try:
                async with asyncio.timeout(STORE_SECONDS):
                    return await self._counted(self._shared, who)
            except (StorageError, OSError, TimeoutError) as error:
                self._away_until = time.monotonic() + AWAY_SECONDS
                log.error("the store of rate limits is away (%s); this process counts for itself", type(error).__name__)
        return await self._counted(self._own, who)

    async def _counted(self, limiter: SlidingWindowCounterRateLimiter, who: str) -> Verdict:
        passes = await limiter.hit(self.item, who)
        reset, remaining = await limiter.get_window_stats(self.item, who)
        return Verdict(passes, remaining, max(1, math.ceil(reset - time.time())))


def _shared(store: str) -> SlidingWindowCounterRateLimiter | None:
    if store == "memory://":
        return None
    try:
        import redis  # noqa: F401
    except ImportError:
        raise ConfigError("rate limits in Redis need its driver; expected the extra `redis` to be installed") from None
    timeouts = {"socket_timeout": STORE_SECONDS, "socket_connect_timeout": STORE_SECONDS}
    opened = storage_from_string(
        f"async+{store}", implementation="redispy", wrap_exceptions=True, key_prefix="recsys-ae", **timeouts
    )
    return SlidingWindowCounterRateLimiter(opened)


class Rates:
    """429 for a key, or without keys an address, that asks too often. What needs no key is not counted, save `open_lists`."""

    def __init__(self, app: ASGIApp, limiter: Limiter, metrics: Metrics, open_lists: Sequence[str] = ()) -> None:
        """open_lists: paths that need no key and yet show lists."""
        self.app, self.limiter, self.metrics, self.open_lists = app, limiter, metrics, open_lists
        self._policy = f'"key";q={limiter.item.amount};w={limiter.item.get_expiry()}'

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._counts(scope["method"], scope["path"]):
            await self.app(scope, receive, send)
            return
        verdict = await self.limiter.hit(_asker(scope))

        async def send_with_limits(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["RateLimit-Policy"] = self._policy
                headers["RateLimit"] = f'"key";r={verdict.remaining};t={verdict.seconds}'
            await send(message)

        if verdict.passes:
            await self.app(scope, receive, send_with_limits)
            return
        self.metrics.refused("rate")
        detail = f"too many requests; expected at most {self.limiter.item}"
        answer = problem(429, detail, scope["state"]["request_id"], headers={"Retry-After": str(verdict.seconds)})
        await answer(scope, receive, send_with_limits)

    def _counts(self, method: str, path: str) -> bool:
        return scope_of(method, path) in ("read", "write") or path in self.open_lists


def _asker(scope: Scope) -> str:
    key = scope["state"].get("key")
    if key is not None:
        return f"key:{key.name}"
    return f"address:{scope['client'][0] if scope.get('client') else ''}"
