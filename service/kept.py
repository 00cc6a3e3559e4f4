"""Lists of stored users, kept while all that they were made from stands; and the layer that gives them before the routes."""

import re
from functools import partial
from typing import NamedTuple

from fastapi import FastAPI, Response
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from recsys_ae.errors import RecsysError
from service.batcher import Batcher
from service.cache import Cache, CachedList, Key
from service.engine import Engine, Filters
from service.impressions import note_shown
from service.live import Served
from service.observing import GivenList, note_list
from service.problems import serving
from service.schemas import FoundList, UserQuery
from service.settings import Settings
from service.shaping import shape_of
from service.store import Stamp, Store, listed

BEFORE, AFTER = "/v1/users/", "/recommendations"
PLAIN = re.compile(rb"(?:k=([1-9][0-9]{0,8}))?")  # a query that asks for nothing else
NEVER_CHANGES = (0, 0)  # the stamp of what is stored, where there is no store


class Asked(NamedTuple):
    """Whose list by which version, and what it is kept under: a stamp that was read before the list is made."""

    engine: Engine
    arm: str | None
    key: Key
    stamp: Stamp


class KeptLists:
    """Who asks the same again, or for a plain list, needs not be routed, read and checked as others are: that takes longer than
    the list. For the route that goes on there are `state["asked"]`, and `state["failed"]` where a list cannot be had: it says
    what is wrong.
    """

    path = f"{BEFORE}{{user_id:id}}{AFTER}"  # as the route has it, for the log and the figures

    def __init__(self, app: ASGIApp, service: FastAPI) -> None:
        self.app, self.service = app, service
        self.cache: Cache = service.state.cache
        self.settings: Settings = service.state.settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET":
            path: str = scope["path"]
            if path.startswith(BEFORE) and path.endswith(AFTER, len(BEFORE)):
                response = None
                try:
                    response = await self._given(scope, path[len(BEFORE) : -len(AFTER)])
                except (HTTPException, RecsysError) as error:  # which the route raises, where they are answered
                    scope["state"]["failed"] = error
                if response is not None:
                    scope["route"] = self
                    await response(scope, receive, send)
                    return
        await self.app(scope, receive, send)

    async def _given(self, scope: Scope, user_id: str) -> Response | None:
        """The answer with a list that is kept, or a plain one; None where a query asks for more."""
        asked = scope["state"]["asked"] = await asked_for(self.service, user_id, scope["query_string"])
        kept = self.cache.get(asked.key, asked.stamp)
        if kept is not None:
            return answer(self.service, scope, asked, kept)
        plain = PLAIN.fullmatch(scope["query_string"])
        if plain is None:
            return None
        query = UserQuery() if plain[1] is None else UserQuery.model_construct(k=int(plain[1]))
        return await made(self.service, scope, asked, user_id, query) if query.k <= self.settings.largest_k else None


async def asked_for(service: FastAPI, user_id: str, query: bytes) -> Asked:
    """What a request for a stored user's list asks for. Raises HTTPException where nothing is served, StoreError."""
    served: Served = service.state.live.now
    user = serving(served.main).users.key(user_id)
    engine, arm = served.engine_for(user)
    store: Store | None = service.state.store
    stamp = await store.stamp(user) if store is not None else NEVER_CHANGES
    engine = serving(engine)
    return Asked(engine, arm, (engine.version, user, query), stamp)


async def made(service: FastAPI, scope: Scope, asked: Asked, user_id: str, query: UserQuery) -> Response:
    """The answer with a list that is made anew, and kept. Raises UnknownIdError, StoreError, CannotShapeError."""
    batcher: Batcher = service.state.batcher
    shape = shape_of(scope["state"]["request_id"], query)
    filters = Filters(query.exclude, None, query.category, query.include_seen, shape)
    found = await batcher.ask(partial(asked.engine.for_user, user_id, query.k, filters, asked.stamp))
    body = FoundList(**found.contents(asked.engine.version)).model_dump_json().encode().removesuffix(b"}")
    kept = CachedList(body, found.source, listed(item.item_id for item in found.items), found.popularity)
    if not query.explore:  # another draw for every request
        cache: Cache = service.state.cache
        cache.put(asked.key, asked.stamp, kept)
    return answer(service, scope, asked, kept)


def answer(service: FastAPI, scope: Scope, asked: Asked, kept: CachedList) -> Response:
    """The answer with a list, as `Recommendations` would be written; the user is shown it, so it is logged."""
    note_shown(service, scope, asked.key[1], 0, kept.source, kept.items, asked.engine.version, asked.arm)
    note_list(scope, GivenList(kept.source, asked.engine.version, asked.arm, kept.popularity))
    own = {"request_id": scope["state"]["request_id"]} | ({} if asked.arm is None else {"arm": asked.arm})
    return Response(kept.body + b"," + to_json(own)[1:], media_type="application/json")
