"""Errors as problem documents (RFC 9457). A message never repeats the input: it may hold NaN, lone surrogates, or secrets."""

import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import anyio
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MEDIA_TYPE = "application/problem+json"
TITLES = {
    400: "Bad request",
    404: "Not found",
    405: "Method not allowed",
    413: "Body too large",
    415: "Unsupported media type",
    422: "Invalid request",
    500: "Internal error",
    503: "No model",
}


class Problem(Exception):  # noqa: N818 - a problem document is what the standard calls it
    """Ends a request with a status and one sentence."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


class ProblemResponse(JSONResponse):
    """A problem document."""

    media_type = MEDIA_TYPE

    def __init__(
        self, status: int, detail: str, errors: Sequence[dict[str, str]] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        content: dict[str, Any] = {
            "type": "about:blank",
            "title": TITLES.get(status, "Error"),
            "status": status,
            "detail": detail,
        }
        if errors:
            content["errors"] = list(errors)
        super().__init__(content, status, headers=dict(headers) if headers else None)


def install(app: FastAPI) -> None:
    """Every error of the app becomes a problem document."""

    @app.exception_handler(Problem)
    async def problem(request: Request, error: Problem) -> ProblemResponse:
        return ProblemResponse(error.status, error.detail)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> ProblemResponse:
        detail = "There was an error parsing the body" if error.status_code == 400 else str(error.detail)
        return ProblemResponse(error.status_code, detail, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def validation(request: Request, error: RequestValidationError) -> ProblemResponse:
        faults = error.errors()
        errors = [
            {"where": where(fault["loc"]), "what": printable(str(fault["msg"]).removeprefix("Value error, "))}
            for fault in faults[:10]
        ]
        return ProblemResponse(422, f"{errors[0]['where']}: {errors[0]['what']}", errors)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> ProblemResponse:
        return ProblemResponse(500, "The service failed; its log says how.")


def where(location: Sequence[Any]) -> str:
    """A place as `body.history.0.item_id`; names that a caller made up are cut."""
    return ".".join(printable(str(part))[:60] for part in location)


def printable(text: str) -> str:
    """Text that UTF-8 can carry: lone surrogates become question marks."""
    return text.encode("utf-8", "replace").decode()[:300]


class RequestId:
    """Every answer bears an X-Request-ID: the caller's where it is harmless, else a new one, kept as `state.request_id`."""

    SAFE = re.compile(rb"[A-Za-z0-9._-]{1,100}")

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Choose the id and add the header."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"x-request-id", b"")
        request_id = given if self.SAFE.fullmatch(given) else uuid.uuid4().hex.encode()
        scope.setdefault("state", {})["request_id"] = request_id.decode()

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id)]
            await send(message)

        await self.app(scope, receive, send_with_id)


class BodyLimit:
    """Refuses a body larger than `largest` bytes, announced or chunked, before it is read into memory."""

    def __init__(self, app: ASGIApp, largest: int) -> None:
        self.app, self.largest = app, largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count what arrives."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self.largest:
            await self._refuse(scope, receive, send)
            return
        messages: list[Message] = []
        size, more = 0, True
        while more:
            message = await receive()
            messages.append(message)
            size += len(message.get("body", b""))
            more = message["type"] == "http.request" and message.get("more_body", False)
            if size > self.largest:
                await self._refuse(scope, receive, send)
                return
        waiting = iter(messages)

        async def replay() -> Message:
            for message in waiting:
                return message
            return await receive()

        await self.app(scope, replay, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = ProblemResponse(413, f"The body has more than {self.largest} bytes.", headers={"Connection": "close"})
        with anyio.CancelScope(shield=True):
            await response(scope, receive, send)
