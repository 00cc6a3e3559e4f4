"""The list of a stored user: what `KeptLists` has not answered before."""

from typing import Annotated

from fastapi import HTTPException, Path, Query, Request, Response

from recsys_ae.errors import UnknownIdError
from service.kept import Asked, asked_for, made
from service.problems import invalid
from service.routes.reading import problems, settings_of, v1
from service.routes.recommendations import refuse_longer
from service.schemas import Recommendations, UserQuery
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
    state = request.scope["state"]
    try:
        if "failed" in state:
            raise state["failed"]
        asked: Asked = state.get("asked") or await asked_for(request.app, user_id, request.scope["query_string"])
        return await made(request.app, request.scope, asked, user_id, query)
    except CannotShapeError as error:
        raise invalid(("query", error.key), str(error)) from None
    except UnknownIdError:
        raise HTTPException(404, "no history of this user is stored; POST one to /v1/recommendations") from None
