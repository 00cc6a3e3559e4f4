"""The list of a stored user, made anew: one that is kept, `KeptLists` has answered with before."""

from functools import partial
from typing import Annotated

from fastapi import HTTPException, Path, Query, Request, Response

from recsys_ae.errors import UnknownIdError
from service.cache import Cache, CachedList
from service.engine import Filters
from service.kept import Asked, answer, asked_for
from service.problems import invalid
from service.routes.reading import batcher_of, problems, settings_of, v1
from service.routes.recommendations import contents, refuse_longer, shape_of
from service.schemas import FoundList, Recommendations, UserQuery
from service.shaping import CannotShapeError

router = v1()


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
    asked: Asked = request.scope["state"].get("asked") or await asked_for(request.app, user_id, request.scope["query_string"])
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
        cache: Cache = request.app.state.cache
        cache.put(asked.key, asked.stamp, kept)
    return answer(request.app, request.scope, asked, kept)
