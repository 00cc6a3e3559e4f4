"""How unlike the population a stored user is."""

import math
from typing import Annotated

from fastapi import HTTPException, Query, Request
from fastapi.concurrency import run_in_threadpool

from recsys_ae.errors import DataError, UnknownIdError
from recsys_ae.latent.anomalies import combined
from service.engine import Engine
from service.routes.reading import Serving, problems, v1
from service.routes.users import UserId
from service.schemas import Anomaly, AnomalyQuery

router = v1()


@router.get("/users/{user_id:id}/anomaly", tags=["users"], summary="How strange a user is", responses=problems(404, 422, 503))
async def anomaly_of_user(
    request: Request, engine: Serving, user_id: UserId, query: Annotated[AnomalyQuery, Query()]
) -> Anomaly:
    """The user's history as of now beside those of the users that the served version was published with.

    The first request to a version waits until it is known what is usual among them.
    """
    try:
        return await run_in_threadpool(_judged, engine, user_id, query.false_positive_rate, request.state.request_id)
    except UnknownIdError:
        raise HTTPException(404, "no history of this user is stored") from None
    except DataError:
        raise HTTPException(503, "the served version has too few users to tell what is usual among them") from None


def _judged(engine: Engine, user_id: str, false_positive_rate: float, request_id: str) -> Anomaly:
    history = engine.users.history(user_id)
    usual = engine.strangeness.known()
    threshold = usual.threshold(false_positive_rate)
    parts = usual.parts(history)
    score = float(combined(parts)[0])
    known = not math.isnan(score)
    return Anomaly(
        score=score if known else None,
        threshold=threshold,
        flagged=score > threshold,
        false_positive_rate=false_positive_rate,
        parts={name: float(z[0]) for name, z in parts.items()} if known else {},
        model_version=engine.version,
        request_id=request_id,
    )
