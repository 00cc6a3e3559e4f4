"""What the page shows. All that it asks of the engine it asks here, as the API's routes do, so that its lists are theirs."""

from dataclasses import dataclass
from functools import partial

from fastapi.concurrency import run_in_threadpool

from recsys_ae.errors import UnknownIdError
from recsys_ae.ids import Id
from service.batcher import Batcher
from service.catalogue import Catalogue
from service.engine import Engine, Filters, Found
from service.page import figures
from service.page.asked import LONGEST_HISTORY, Asked
from service.schemas import Event
from service.settings import Settings
from service.shaping import CannotShapeError, Shape

MOST_FOUND = 20
MOST_OF_USER = 30
"""Items shown of a stored user's history, the last ones."""
MOST_REASONS = 3


@dataclass(frozen=True)
class Item:
    """An item as a person knows it; without a title by its id."""

    id: str
    title: str
    categories: tuple[str, ...] = ()
    known: bool = True


@dataclass(frozen=True)
class Row:
    """A place of a list: a bar of 0 to 100 per cent, the score, and the items of the history that speak for it."""

    item: Item
    rank: int
    bar: int
    score: str
    because: list[tuple[Item, str]]


@dataclass(frozen=True)
class List:
    """A list, and what it was made from."""

    rows: list[Row]
    source: str


@dataclass(frozen=True)
class User:
    """A stored user's last items, the last first, and how many there are; None of whom nothing is stored."""

    id: str
    items: list[Item] | None
    n_items: int = 0


@dataclass(frozen=True)
class Similar:
    """An item and what is like it; None where the catalogue does not have it."""

    item: Item
    list: List | None


@dataclass(frozen=True)
class Facts:
    """The version that is served, at a glance."""

    model: str
    version: str
    trained: str
    trained_at: str
    metric: tuple[str, str] | None
    items: str
    users: str


@dataclass(frozen=True)
class View:
    """All parts of the page. `found` is None without a search, `user` and `similar` are None where they are not asked for."""

    asked: Asked
    facts: Facts
    found: list[Item] | None
    chosen: list[Item]
    list: List
    similar: Similar | None
    user: User | None

    def said(self) -> str:
        """The parts in a sentence or two, for those who hear the page."""
        parts = [] if self.found is None else [f"{len(self.found)} found."]
        if self.similar is not None and self.similar.list is not None:
            parts.append(f"{len(self.similar.list.rows)} items like {self.similar.item.title}.")
        first = f", first {self.list.rows[0].item.title}" if self.list.rows else ""
        kind = "recommendations" if self.list.source == "model" else "popular items"
        return " ".join([*parts, f"{len(self.list.rows)} {kind}{first}."])


async def viewed(engine: Engine, batcher: Batcher, asked: Asked, settings: Settings) -> View:
    """What an address asks for. Raises StoreError."""
    asked = _within(asked, settings, engine)
    show = Showing(engine, await run_in_threadpool(engine.catalogue))
    user, listed = await _of_user(engine, batcher, asked, settings, show) if asked.user else (None, None)
    if listed is None:
        explain = len(asked.history) <= settings.largest_explained
        events = [Event(item_id=id_) for id_ in asked.history]
        listed = await batcher.ask(partial(engine.for_history, events, asked.k, _filters(asked, explain)))
    found = await run_in_threadpool(engine.search, asked.q, MOST_FOUND) if asked.q.strip() else None
    return View(
        asked,
        facts_of(engine),
        None if found is None else [show.item(engine.items.ids[column]) for column in found],
        [show.item(id_) for id_ in asked.history],
        show.list(listed),
        await _similar(engine, batcher, asked, show) if asked.similar else None,
        user,
    )


def facts_of(engine: Engine) -> Facts:
    """As `GET /v1/model` has them."""
    about = engine.about
    return Facts(
        about["model"],
        engine.version,
        figures.moment(about["created"]),
        about["created"],
        figures.metric(about["metrics"]),
        f"{about['items']:,}",
        f"{about['users']:,}",
    )


@dataclass(frozen=True)
class Showing:
    """Items and lists of an engine as a catalogue shows them."""

    engine: Engine
    catalogue: Catalogue

    def item(self, id_: Id) -> Item:
        items, catalogue = self.engine.items, self.catalogue
        id_ = items.parse(id_)
        if id_ not in items:
            return Item(str(id_), str(id_), known=False)
        column = items.position(id_)
        categories = catalogue.categories[column] if catalogue.categories else ()
        return Item(str(id_), catalogue.title(column) or str(id_), categories)

    def list(self, found: Found) -> List:
        popular = found.source == "popularity"
        bars = figures.bars([place.score for place in found.items])
        rows = [
            Row(
                self.item(place.item_id),
                place.rank,
                bar,
                figures.users(place.score) if popular else figures.score(place.score),
                [(self.item(r.item_id), figures.influence(r.influence)) for r in place.because or [] if r.influence > 0][
                    :MOST_REASONS
                ],
            )
            for place, bar in zip(found.items, bars, strict=True)
        ]
        return List(rows, found.source)


def _within(asked: Asked, settings: Settings, engine: Engine) -> Asked:
    """Held to the limits of the API, of a longer history the last items; each item once, as the catalogue writes its id."""
    history = tuple(dict.fromkeys(str(engine.items.parse(id_)) for id_ in asked.history))
    longest = min(LONGEST_HISTORY, settings.largest_history)
    return asked.model_copy(update={"k": min(asked.k, settings.largest_k), "history": history[-longest:]})


def _filters(asked: Asked, explain: bool) -> Filters:
    return Filters(shape=Shape(diversity=asked.diversity, explain=explain))


async def _of_user(
    engine: Engine, batcher: Batcher, asked: Asked, settings: Settings, show: Showing
) -> tuple[User, Found | None]:
    """A stored user and the list for that user."""
    try:
        history = await run_in_threadpool(engine.users.history, asked.user)
        explain = history.n_interactions <= settings.largest_explained
        found = await _for_user(engine, batcher, asked, explain)
    except UnknownIdError:
        return User(asked.user, None), None
    ids = engine.items.at(history.items[::-1][:MOST_OF_USER])
    return User(asked.user, [show.item(id_) for id_ in ids], history.n_interactions), found


async def _for_user(engine: Engine, batcher: Batcher, asked: Asked, explain: bool) -> Found:
    try:
        return await batcher.ask(partial(engine.for_user, asked.user, asked.k, _filters(asked, explain)))
    except CannotShapeError:  # events came in meanwhile
        return await batcher.ask(partial(engine.for_user, asked.user, asked.k, _filters(asked, explain=False)))


async def _similar(engine: Engine, batcher: Batcher, asked: Asked, show: Showing) -> Similar:
    item = show.item(asked.similar)
    try:
        return Similar(item, show.list(await batcher.ask(partial(engine.similar, asked.similar, asked.k))))
    except UnknownIdError:
        return Similar(item, None)
