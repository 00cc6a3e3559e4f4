"""What items are placed by: features of their words and images; and splits whose cold items are judged so placed."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from pipelines.config import ContentSection, RunConfig
from pipelines.items import Categories, Titles
from pipelines.latent.pictures import ItemImages, read_images
from recsys_ae.dataset import Dataset
from recsys_ae.errors import ConfigError, ModelError
from recsys_ae.ids import Id, IdMap
from recsys_ae.items import ItemMetadata
from recsys_ae.latent.content import Placement, placeable
from recsys_ae.latent.features import ItemFeatures, bag_of_words, beside, words_of
from recsys_ae.latent.images import fit_images
from recsys_ae.models import MODELS, Recommender
from recsys_ae.split import Split


def with_items_placed(config: RunConfig, split: Split) -> Split:
    """A split whose cold items, which it asks for, are placed by what `[content]` says before a model is judged.

    As it is without `[content]`, and where the protocol asks for items that training has met. Raises ConfigError where none of
    the cold items has features.
    """
    if config.content is None or split.test.candidates is None:
        return split
    data = split.train
    titles, categories = said_of(data.items, data.metadata)
    values, known = features_of(config.content, titles, categories, data.items, config.seed).over(data.items)
    popularity = np.bincount(data.histories.items, minlength=len(data.items))
    cold = np.flatnonzero(known & (popularity == 0))
    if not len(cold):
        raise ConfigError(f"[content] knows none of the {int((popularity == 0).sum()):,} cold items; expected what they are")
    placement = Placement(values, cold, np.where(known, np.sqrt(popularity), 0))

    def placed(model: Recommender) -> Recommender:
        try:
            return placement(model).model
        except ModelError:  # of a kind without rows of items: it shows what guessing reaches
            return model

    return replace(split, placed=placed)


def require_content(config: RunConfig, data: Dataset) -> None:
    """Raises ConfigError where `[content]` has nothing to go by: before the training, not at its end."""
    if config.content is None:
        return
    images = config.content.images
    if images is not None and not images.is_dir():
        raise ConfigError(f"[content] images = {str(images)!r} is no folder; expected one of item images")
    kinds_there(config.content, *said_of(data.items, data.metadata))


def require_placeable(config: RunConfig) -> None:
    """Raises ConfigError where a model that is to be published with cold items can have none."""
    for section in config.models if config.content is not None else ():
        if not placeable(MODELS[section.name](section.config, 1)):
            raise ConfigError(
                f"[content] with the model {section.key!r}, which keeps no rows of items that cold ones could be given; "
                "expected a model that does (docs/content.md)"
            )


def kinds_there(section: ContentSection, titles: Titles, categories: Categories) -> list[str]:
    """What the section names and there is. Raises ConfigError where that is nothing."""
    there = {
        "titles": section.titles and bool(titles),
        "categories": section.categories and bool(categories),
        "images": section.images is not None,
    }
    found = [kind for kind, is_there in there.items() if is_there]
    if not found:
        raise ConfigError("[content]: the items have no titles, categories or images to place them by; expected at least one")
    return found


def said_of(items: IdMap, metadata: ItemMetadata) -> tuple[Titles, Categories]:
    """What is known of items beside their users."""
    titles = {item: title for item, title in zip(items.ids, metadata.titles, strict=False) if title}
    categories = {item: own for item, own in zip(items.ids, metadata.categories, strict=False) if own}
    return titles, categories


def features_of(section: ContentSection, titles: Titles, categories: Categories, items: IdMap, seed: int) -> ItemFeatures:
    """What the section names, over ids of the kind that the items have."""
    pictures = None if section.images is None else read_images(section.images, items.kind)
    return item_features(
        titles if section.titles else {}, categories if section.categories else {}, pictures, section.words, seed
    )


def item_features(
    titles: Mapping[Id, str], categories: Mapping[Id, tuple[str, ...]], images: ItemImages | None, words: int, seed: int
) -> ItemFeatures:
    """Words of titles, categories and codes of images, beside one another. Raises ConfigError where there are none."""
    kinds = []
    if titles:
        kinds.append(bag_of_words({id_: words_of(title) for id_, title in titles.items()}, words))
    if categories:
        kinds.append(bag_of_words(categories, words))
    if images is not None:
        kinds.append(ItemFeatures(images.items, fit_images(images.pixels, seed=seed).encode(images.pixels)))
    if not kinds:
        raise ConfigError("no titles, categories or images to place items by; expected at least one of them")
    return beside(kinds)
