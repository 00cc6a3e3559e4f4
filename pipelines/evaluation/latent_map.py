"""A map of the items: the vectors that a model has of them, in two dimensions."""

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recsys_ae.beyond import Catalogue
from recsys_ae.dataset import Dataset
from recsys_ae.histories import Histories
from recsys_ae.models import Recommender

MapMethod: TypeAlias = Literal["tsne", "pca", "none"]
MOST = 2_000
"""Items on the map, the most popular ones."""
PERPLEXITY = 30
NEIGHBOURS_PER_PERPLEXITY = 3


def item_vectors(model: Recommender, catalogue: Catalogue) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
    """Columns (M,) of the most popular items and the model's vectors of them (M, H); None where scores are no products."""
    factors = model.factors(Histories.from_rows([[]], model.n_items))
    if factors is None or factors.weight.shape[1] < 2:
        return None
    columns = np.argsort(-catalogue.popularity, kind="stable")[:MOST]
    columns = columns[catalogue.popularity[columns] > 0]
    return columns, factors.weight[columns].float().cpu().numpy()


def placed(vectors: NDArray[np.float32], method: MapMethod, seed: int) -> tuple[NDArray[np.float64], list[float] | None]:
    """Places (M, 2) of vectors (M, H) by their directions: PCA with the share of variance of each axis, or t-SNE.

    t-SNE: van der Maaten & Hinton 2008, by openTSNE with exact neighbours and one thread, so that a seed gives the same map.
    """
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    if method == "tsne" and len(unit) > NEIGHBOURS_PER_PERPLEXITY * PERPLEXITY:
        from openTSNE import TSNE  # imports scikit-learn: slow

        found = TSNE(
            perplexity=PERPLEXITY,
            metric="cosine",
            neighbors="exact",
            initialization="pca",
            negative_gradient_method="bh",
            random_state=seed,
            n_jobs=1,
        ).fit(unit.astype(np.float64))
        return np.asarray(found, np.float64), None
    centred = unit.astype(np.float64) - unit.mean(0)
    u, s, vt = np.linalg.svd(centred, full_matrices=False)
    sign = np.sign(vt[np.arange(len(vt)), np.abs(vt).argmax(1)])  # else the axes' directions are chance
    places = (u * s * sign)[:, :2]
    return places, (s[:2] ** 2 / max(float((s**2).sum()), 1e-300)).tolist()


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
