"""A map of the items: the vectors that a model has of them, in two dimensions."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_ae.beyond import Catalogue
from recsys_ae.dataset import Dataset
from recsys_ae.latent.codes import item_codes
from recsys_ae.latent.map import MapMethod, placed
from recsys_ae.models import Recommender

MOST = 2_000
"""Items on the map, the most popular ones."""


def item_vectors(model: Recommender, catalogue: Catalogue) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
    """Columns (M,) of the most popular items and the model's vectors of them (M, H); None where scores are no products."""
    vectors = item_codes(model)
    if vectors is None:
        return None
    columns = np.argsort(-catalogue.popularity, kind="stable")[:MOST]
    columns = columns[catalogue.popularity[columns] > 0]
    return columns, vectors[columns]


def item_map(
    key: str, columns: NDArray[np.int64], vectors: NDArray[np.float32], data: Dataset, method: MapMethod, seed: int
) -> dict[str, Any]:
    """As evaluation.json has it."""
    places, explained = placed(vectors, method, seed)
    metadata = data.metadata
    items = []
    for column, (x, y) in zip(columns.tolist(), places.tolist(), strict=True):
        categories = metadata.categories[column] if metadata.categories else ()
        items.append(
            {
                "item_id": data.items.ids[column],
                "title": metadata.title(column),
                "category": categories[0] if categories else None,
                "users": metadata.popularity[column] if metadata.popularity else 0,
                "x": round(x, 3),
                "y": round(y, 3),
            }
        )
    found = {"model": key, "method": "pca" if explained else "tsne", "items": items}
    return found | {"explained": explained} if explained else found
