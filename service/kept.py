"""The layer before the routes: a stored user's list is given as it was before, while all that it was made from stands."""

import json
from contextlib import suppress
from typing import NamedTuple

from fastapi import FastAPI, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from recsys_ae.errors import StoreError
from service.cache import Cache, CachedList, Key, Stamp
from service.engine import Engine
from service.impressions import note_shown
from service.live import Served
from service.observing import GivenList, note_list
from service.problems import serving
from service.store import Store

BEFORE, AFTER = "/v1/users/", "/recommendations"
NEVER_CHANGES = (0, 0)  # the stamp of what is stored, where there is no store


class Asked(NamedTuple):
    """Whose list by which version, and what it is kept under: a stamp that was read before the list is made."""

    engine: Engine
    arm: str | None
    key: Key
    stamp: Stamp


class KeptLists:
    """Who asks the same again needs not be routed, read and checked again. `state["asked"]` is for the route that goes on."""

    path = f"{BEFORE}{{user_id:id}}{AFTER}"  # as the route has it, for the log and the figures

    def __init__(self, app: ASGIApp, service: FastAPI) -> None:
        self.app, self.service = app, service
        self.cache: Cache = service.state.cache

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET":
            path: str = scope["path"]
            if path.startswith(BEFORE) and path.endswith(AFTER):
                with suppress(HTTPException, StoreError):  # which the route raises again, where they are answered
                    asked = await asked_for(self.service, path[len(BEFORE) : -len(AFTER)], scope["query_string"])
                    kept = self.cache.get(asked.key, asked.stamp)
                    if kept is not None:
                        scope["route"] = self
                        await answer(self.service, scope, asked, kept)(scope, receive, send)
                        return
                    scope["state"]["asked"] = asked
        await self.app(scope, receive, send)


async def asked_for(service: FastAPI, user_id: str, query: bytes) -> Asked:
    """What a request for a stored user's list asks for. Raises HTTPException where nothing is served, StoreError."""
    served: Served = service.state.live.now
    user = serving(served.main).users.key(user_id)
    engine, arm = served.engine_for(user)
    store: Store | None = service.state.store
    stamp = await store.stamp(user) if store is not None else NEVER_CHANGES
    engine = serving(engine)
    return Asked(engine, arm, (engine.version, user, query), stamp)


def answer(service: FastAPI, scope: Scope, asked: Asked, kept: CachedList) -> Response:
    """The answer with a list, as `Recommendations` would be written; the user is shown it, so it is logged."""
    note_shown(service, scope, asked.key[1], 0, kept.source, kept.items, asked.engine.version, asked.arm)
    note_list(scope, GivenList(kept.source, asked.engine.version, asked.arm, kept.popularity))
    own = {"request_id": scope["state"]["request_id"]} | ({} if asked.arm is None else {"arm": asked.arm})
    return Response(kept.body + b"," + json.dumps(own).encode()[1:], media_type="application/json")
