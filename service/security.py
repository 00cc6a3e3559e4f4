"""Who may ask: API keys by scope, in front of every route but the probes and the page."""

import logging
import os
import time
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from recsys_ae.errors import ConfigError
from recsys_ae.keys import ApiKey, KeyRing, read_keys
from service.observing import Metrics
from service.problems import problem

log = logging.getLogger("service")

LOOK_AGAIN_SECONDS = 0.5
READING_POSTS = ("/v1/recommendations", "/v1/recommendations/batch", "/v1/rank")
PAGE_DATA = "/page/data"
"""The page's data, for its script; the page itself, `/`, has none where keys are asked for."""
CHALLENGE = 'Bearer realm="recsys-ae"'


def scope_of(method: str, path: str) -> str | None:
    """The scope that a request needs; None for what is open. Whatever is not known to read, writes."""
    if path == "/metrics":
        return "admin"
    if path == PAGE_DATA:
        return "read"
    if not (path == "/v1" or path.startswith("/v1/")):
        return None
    if method in ("GET", "HEAD") or (method == "POST" and path in READING_POSTS):
        return "read"
    return "write"


class Keys:
    """The keys of a file, read again when it changes; a file that became unreadable changes nothing, and is logged."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError where the file cannot be read now."""
        self.path = path
        self._mark = self._stamp()
        self._ring = read_keys(path)
        self._looked = time.monotonic()

    def ring(self) -> KeyRing:
        """The keys as the file has had them within the last half second."""
        now = time.monotonic()
        if now - self._looked >= LOOK_AGAIN_SECONDS:
            self._looked = now
            mark = self._stamp()
            if mark != self._mark:
                self._mark = mark
                self._read_again()
        return self._ring

    def _read_again(self) -> None:
        try:
            self._ring = read_keys(self.path)
        except ConfigError as error:
            log.error("the keys stay as they were: %s", error)
        else:
            log.warning("read %d keys again", len(self._ring.keys))

    def _stamp(self) -> tuple[int, ...]:
        try:
            found = os.stat(self.path)
        except OSError:
            return ()
        return found.st_ino, found.st_mtime_ns, found.st_size


class Guard:
    """401 without a key that is known, 403 without the scope; `state["key"]` is the key where there is one."""

    def __init__(self, app: ASGIApp, keys: Keys | None, metrics: Metrics) -> None:
        self.app, self.keys, self.metrics = app, keys, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or self.keys is None:
            await self.app(scope, receive, send)
            return
        needed = scope_of(scope["method"], scope["path"])
        if needed is not None:
            key = self._key(scope)
            request_id = scope["state"]["request_id"]
            if key is None:
                self.metrics.refused("key")
                detail = "expected a known API key in `Authorization: Bearer KEY` or `X-API-Key: KEY`"
                answer = problem(401, detail, request_id, headers={"WWW-Authenticate": CHALLENGE})
                await answer(scope, receive, send)
                return
            scope["state"]["key"] = key
            if not key.allows(needed):
                self.metrics.refused("scope")
                challenge = f'{CHALLENGE}, error="insufficient_scope", scope="{needed}"'
                detail = f"this key lacks the scope {needed}"
                answer = problem(403, detail, request_id, headers={"WWW-Authenticate": challenge})
                await answer(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _key(self, scope: Scope) -> ApiKey | None:
        assert self.keys is not None
        presented = _presented(scope)
        return self.keys.ring().find(presented) if presented is not None else None


def _presented(scope: Scope) -> bytes | None:
    """The key of a request's headers as bytes; None without one, and with two, of which no one can tell which was meant."""
    found = []
    for name, value in scope["headers"]:
        if name == b"x-api-key":
            found.append(value.strip())
        elif name == b"authorization":
            kind, _, credentials = value.partition(b" ")
            found.append(credentials.strip() if kind.lower() == b"bearer" else b"")
    return found[0] if len(found) == 1 else None


def describe_keys(schema: dict[str, Any]) -> None:
    """Say in an OpenAPI document which routes take a key, and how they refuse; without keys in use none is needed."""
    schemes = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    schema["components"]["securitySchemes"] = schemes
    refusals = {"401": "No known API key", "403": "The key lacks the scope", "429": "Too many requests of this key"}
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            scope = scope_of(method.upper(), path)
            if scope is None:
                continue
            operation["security"] = [{"bearer": []}, {"api_key": []}, {}]
            operation["description"] += f"\n\nScope: {scope}."
            own = dict(refusals)
            if "requestBody" in operation:
                own |= {"408": "The body did not arrive in time", "413": "The body is too large"}
            own["503"] = "The service has more to do than it can, or no model is published yet"
            for status, description in own.items():
                operation["responses"][status] = {"description": description, "content": dict(content)}
