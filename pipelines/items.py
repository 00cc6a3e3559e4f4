"""[items]: titles and categories by item id."""

from collections.abc import Sequence

from pipelines.config import ItemsSection, RunConfig
from pipelines.paths import local_paths, naming_objects
from recsys_ae import log
from recsys_ae.ids import Id, IdKind, parse_id

Titles = dict[Id, str]
Categories = dict[Id, tuple[str, ...]]


def read_items(config: RunConfig, kind: IdKind) -> tuple[Titles, Categories]:
    """Titles and categories of `[items]` by item id. Ids are of the log's kind. Raises LogError."""
    assert config.items.path is not None
    paths = local_paths(config, config.items.path)
    with naming_objects(config):
        return items_of(paths, config.items, kind)


def items_of(paths: Sequence[str], section: ItemsSection, kind: IdKind) -> tuple[Titles, Categories]:
    """Titles and categories by item id, of files with the columns that the section names. Raises LogError."""
    wanted = {"id": section.id, "title": section.title, "category": section.category}
    rows = log.read_columns(paths, {role: name for role, name in wanted.items() if name})
    titles: Titles = {}
    categories: Categories = {}
    for row in rows:
        text = row["id"]
        if text is None:
            continue
        item = parse_id(text, kind)
        if row.get("title"):
            titles[item] = str(row["title"])
        if row.get("category"):
            categories[item] = tuple(part.strip() for part in str(row["category"]).split("|") if part.strip())
    return titles, categories
