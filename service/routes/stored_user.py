"""The list of a stored user: as it was given before, as long as nothing that it was made from has changed, else made anew."""

import json
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Annotated, Any, NamedTuple

from fastapi import HTTPException, Path, Query, Request, Response

from recsys_ae.errors import UnknownIdError
from service.cache import Cache, CachedList, Key, Stamp
from service.engine import Engine, Filters
from service.impressions import note_shown
from service.live import Served
from service.observing import GivenList, note_list
from service.problems import invalid
from service.routes.reading import JsonRoute, batcher_of, problems, serving, settings_of, v1
from service.routes.recommendations import contents, refuse_longer, shape_of
from service.schemas import FoundList, Recommendations, UserQuery
from service.shaping import CannotShapeError
from service.store import Store

NEVER_CHANGES = (0, 0)  # the stamp of what is stored, where there is no store


class Asked(NamedTuple):
    """Whose list by which version, and what it is kept under: a stamp that was read before the list is made."""

    engine: Engine
    arm: str | None
    key: Key
    stamp: Stamp


class KeptRoute(JsonRoute):
    """A route that looks for a list that is kept first: who asks the same again needs not be read and checked again."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            asked = await _asked(request)
            kept = _cache(request).get(asked.key, asked.stamp)
            if kept is not None:
                return _answer(request, asked, kept)
            request.state.asked = asked
            return await handler(request)

        return handle


router = v1(KeptRoute)


@router.get(
    "/users/{user_id:id}/recommendations",
    tags=["recommendations"],
    summary="Recommend to a stored user",
    response_model=Recommendations,
    responses=problems(404, 422, 503),
)
async def recommend_to_user(
    request: Request,
    user_id: Annotated[str, Path(description="As in the log.", examples=["42"])],
    query: Annotated[UserQuery, Query()],
) -> Response:
    """The k best items for a user whose history was stored with the model; items of that history are left out."""
    refuse_longer(query.k, ("query", "k"), settings_of(request))
    asked: Asked = request.state.asked
    filters = Filters(query.exclude, None, query.category, query.include_seen, shape_of(request, query))
    try:
        found = await batcher_of(request).ask(partial(asked.engine.for_user, user_id, query.k, filters, asked.stamp))
    except CannotShapeError as error:
        raise invalid(("query", error.key), str(error)) from None
    except UnknownIdError:
        raise HTTPException(404, "no history of this user is stored; POST one to /v1/recommendations") from None
    body = FoundList(**contents(asked.engine, found)).model_dump_json().encode().removesuffix(b"}")
    kept = CachedList(body, found.source, [item.item_id for item in found.items], found.popularity)
    if not query.explore:  # another draw for every request
        _cache(request).put(asked.key, asked.stamp, kept)
    return _answer(request, asked, kept)


async def _asked(request: Request) -> Asked:
    served: Served = request.app.state.live.now
    user = serving(served.main).users.key(request.path_params["user_id"])
    engine, arm = served.engine_for(user)
    store: Store | None = request.app.state.store
    stamp = await store.stamp(user) if store is not None else NEVER_CHANGES
    engine = serving(engine)
    return Asked(engine, arm, (engine.version, user, request.scope["query_string"]), stamp)


def _answer(request: Request, asked: Asked, kept: CachedList) -> Response:
    """The answer with a list, as `Recommendations` would be written; the user is shown it, so it is logged."""
    note_shown(request, asked.key[1], 0, kept.source, kept.items, asked.engine.version, asked.arm)
    note_list(request.scope, GivenList(kept.source, asked.engine.version, asked.arm, kept.popularity))
    own = {"request_id": request.state.request_id} | ({} if asked.arm is None else {"arm": asked.arm})
    return Response(kept.body + b"," + json.dumps(own).encode()[1:], media_type="application/json")


def _cache(request: Request) -> Cache:
    cache: Cache = request.app.state.cache
    return cache
