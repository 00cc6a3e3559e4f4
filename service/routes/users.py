"""What users did: posted, shown, erased. Ids are stored as the served catalogue has them."""

from typing import Annotated

from fastapi import HTTPException, Path, Query, Request
from fastapi.concurrency import run_in_threadpool

from recsys_ae.ids import Id
from service.engine import Engine
from service.problems import invalid
from service.routes.reading import EngineIfAny, Storing, problems, settings_of, v1
from service.schemas import LONGEST_ID
from service.schemas_store import (
    Interactions,
    PathText,
    PublishedInteraction,
    StoredInteraction,
    StoredInteractions,
    StoredQuery,
    Taken,
)
from service.store import NewEvent, Store

router = v1()
UserId = Annotated[PathText, Path(max_length=LONGEST_ID, description="As in the log.", examples=["42"])]


@router.post("/interactions", tags=["users"], summary="Store what users did", responses=problems(400, 413, 415, 422, 503))
async def post_interactions(request: Request, engine: EngineIfAny, store: Storing, body: Interactions) -> Taken:
    """Stores every event whose `event_id` is new, all or none, on the disk before the answer; the next list sees them.

    An `event_id` that is there already changes nothing: it counts as a duplicate, and stands in `conflicts` where the stored
    event says something else. So a batch may be sent again whenever its answer was not seen.
    """
    limit = settings_of(request).largest_events
    if len(body.events) > limit:
        raise invalid(("body", "events"), f"List should have at most {limit} items")
    posted = [
        NewEvent(
            str(event.event_id),
            _user_key(engine, event.user_id),
            _item_key(engine, event.item_id),
            event.weight,
            event.timestamp,
            event.event_type,
            event.request_id,
        )
        for event in body.events
    ]
    added = await store.run(store.add, posted)
    return Taken(accepted=added.accepted, duplicates=added.duplicates, conflicts=list(added.conflicts))


@router.get(
    "/users/{user_id:id}/interactions", tags=["users"], summary="What is stored of a user", responses=problems(404, 422, 503)
)
async def interactions_of_user(
    request: Request, engine: EngineIfAny, user_id: UserId, query: Annotated[StoredQuery, Query()]
) -> StoredInteractions:
    """The store's events in order of arrival, page by page; on the first page also what the served version brought with it."""
    store: Store | None = request.app.state.store
    events, following = (
        await store.run(store.page, _user_key(engine, user_id), query.after, query.limit) if store is not None else ([], None)
    )
    published = await run_in_threadpool(_published, engine, user_id) if engine is not None and query.after == 0 else []
    if not events and not published and query.after == 0:
        raise HTTPException(404, "nothing is stored of this user")
    return StoredInteractions(
        events=[StoredInteraction(**{**event._asdict(), "item_id": _item_key(engine, event.item_id)}) for event in events],
        next=following,
        published=published,
    )


@router.delete("/users/{user_id:id}", status_code=204, tags=["users"], summary="Erase a user", responses=problems(422, 503))
async def erase_user(engine: EngineIfAny, store: Storing, user_id: UserId) -> None:
    """Removes the user's events and lists at once, and hides what any version has stored of them for good; later ones are new.

    204 also for a user of whom nothing is stored. The next night's log, model and lists are without them where the nightly job
    reads this store.
    """
    await store.run(store.erase, _user_key(engine, user_id))


def _published(engine: Engine, user_id: str) -> list[PublishedInteraction]:
    row = engine.users.published(user_id)
    if row is None:
        return []
    times = [None] * row.n_interactions if row.times is None else row.times.tolist()
    return [
        PublishedInteraction(item_id=item, weight=weight, timestamp=time)
        for item, weight, time in zip(engine.items.at(row.items), row.weights.tolist(), times, strict=True)
    ]


def _user_key(engine: Engine | None, user_id: Id) -> str:
    return str(user_id) if engine is None else engine.users.key(user_id)


def _item_key(engine: Engine | None, item_id: Id) -> Id:
    """An item's id with the catalogue's type."""
    if engine is None:
        return item_id
    return engine.items.parse(item_id) if engine.items.kind == "integer" else str(item_id)
