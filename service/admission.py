"""What is let in: bodies that are in time and not too large, as many requests as can be worked on, each for a time."""

import asyncio
from collections import deque

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.observing import Metrics
from service.problems import problem
from service.settings import Settings

LINGER_BYTES = 32 * 2**20
"""Of a body that is too large this much is read and dropped, since a client that still sends may never see the answer."""


class RefusedError(Exception):
    """A request that is answered with a problem: its status, what to say, the reason for the counter, and headers."""

    def __init__(self, status: int, detail: str, reason: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.reason, self.headers = status, detail, reason, headers


class Admission:
    """Receives the whole body before a request counts as in flight, so that slow senders hold up no one. Probes pass."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self.app, self.settings, self.metrics = app, settings, metrics
        self.receiving = self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/health/") or scope["path"] == "/metrics":
            await self.app(scope, receive, send)
            return
        try:
            self._refuse_if_full()
            received = await self._received(scope, receive)
            self._refuse_if_full()
            await self._worked_on(scope, received, send)
        except RefusedError as refused:
            self.metrics.refused(refused.reason)
            answer = problem(refused.status, refused.detail, scope["state"]["request_id"], headers=refused.headers)
            await answer(scope, receive, send)

    def _refuse_if_full(self) -> None:
        if self.in_flight >= self.settings.largest_in_flight:
            raise _busy("the service works on as many requests as it can; try again")

    async def _received(self, scope: Scope, receive: Receive) -> Receive:
        """What gives the application the body, all of which is here. Raises RefusedError."""
        headers = dict(scope["headers"])
        if b"content-length" not in headers and b"transfer-encoding" not in headers:
            return receive
        if self.receiving >= self.settings.largest_receiving:
            raise _busy("the service receives as many bodies as it can; try again")
        self.receiving += 1
        try:
            async with asyncio.timeout(self.settings.body_seconds):
                messages = await self._body(headers, receive)
        except TimeoutError:
            detail = f"the body did not arrive in time; expected it within {self.settings.body_seconds:g} seconds"
            raise RefusedError(408, detail, "slow_body", {"Connection": "close"}) from None
        finally:
            self.receiving -= 1

        async def replayed() -> Message:
            return messages.popleft() if messages else await receive()

        return replayed

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> deque[Message]:
        """The body's messages. Raises RefusedError where it is too large, as soon as no more of it need be read."""
        limit = self.settings.largest_body_bytes
        declared = int(headers.get(b"content-length", b"0"))  # digits alone, or the server has refused it
        messages: deque[Message] = deque()
        size = 0
        if declared <= max(limit, LINGER_BYTES) and not (declared > limit and b"expect" in headers):
            while size <= max(limit, LINGER_BYTES):
                message = await receive()
                size += len(message.get("body", b""))
                if size <= limit:
                    messages.append(message)
                else:
                    messages.clear()
                if not message.get("more_body", False):
                    break
        if max(size, declared) > limit:
            raise RefusedError(
                413, f"the body is too large; expected at most {limit} bytes", "large_body", {"Connection": "close"}
            )
        return messages

    async def _worked_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def noting_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        self.in_flight += 1
        self.metrics.in_flight.inc()
        try:
            async with asyncio.timeout(self.settings.request_seconds) as time_left:
                await self.app(scope, receive, noting_send)
        except TimeoutError:
            if started or not time_left.expired():
                raise
            detail = f"the answer was not there within {self.settings.request_seconds:g} seconds; try again"
            raise RefusedError(503, detail, "slow_answer", {"Retry-After": "1"}) from None
        finally:
            self.in_flight -= 1
            self.metrics.in_flight.dec()


def _busy(detail: str) -> RefusedError:
    return RefusedError(503, detail, "shed", {"Retry-After": "1"})
