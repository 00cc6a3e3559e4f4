"""What operators say of items: title, categories, whether they may be shown. It holds from the next answer on."""

from typing import Annotated

from fastapi import Path

from service.engine import Engine
from service.routes.reading import EngineIfAny, Storing, problems, v1
from service.schemas import LONGEST_ID
from service.schemas_store import ItemState, PathText, PutItem
from service.store import ItemFacts

router = v1()
ItemId = Annotated[
    PathText,
    Path(
        max_length=LONGEST_ID,
        description="As in the catalogue; one that the model does not know is stored too.",
        examples=["318"],
    ),
]


@router.put("/items/{item_id:id}", tags=["items"], summary="Describe an item", responses=problems(400, 413, 415, 422, 503))
async def put_item(engine: EngineIfAny, store: Storing, item_id: ItemId, body: PutItem) -> ItemState:
    """Says all of an item anew, whichever version is served: what is null is as the model's own data have it."""
    categories = None if body.categories is None else tuple(body.categories)
    facts = ItemFacts(body.title, categories, body.available)
    known = engine is not None and engine.items.parse(item_id) in engine.items
    await store.run(store.put_item, _key(engine, item_id), facts)
    return ItemState(**body.model_dump(), known=known)


@router.delete(
    "/items/{item_id:id}",
    status_code=204,
    tags=["items"],
    summary="Take an item out of all lists",
    responses=problems(422, 503),
)
async def switch_off_item(engine: EngineIfAny, store: Storing, item_id: ItemId) -> None:
    """The item is in no list from the next answer on, until it is PUT as available. It stays in histories."""
    await store.run(store.switch_off, _key(engine, item_id))


def _key(engine: Engine | None, item_id: str) -> str:
    return item_id if engine is None else str(engine.items.parse(item_id))
