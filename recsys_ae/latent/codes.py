"""The codes that a model has of users and of items, and which of them are neighbours."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from recsys_ae.histories import Histories
from recsys_ae.models.base import Latent, LatentRecommender, Recommender
from recsys_ae.products import dense_product
from recsys_ae.top_k import top_k

ROWS = 4_096
"""Histories encoded at once."""
SIMILARITIES = 2**24
"""Held at once: 64 MiB."""

Codes = NDArray[np.float32]


def user_codes(model: Recommender, histories: Histories) -> Codes | None:
    """The codes (B, Z) of histories (B, I); None of a model that has none.

    An autoencoder's is the mean of the code's distribution, a factor model's what its scores are inner products of.
    """
    if isinstance(model, LatentRecommender):
        return encoded(model, histories).mean.float().numpy()
    parts = []
    for rows in _batches(histories):
        factors = model.factors(rows)
        if factors is None:
            return None
        parts.append(factors.queries.float().cpu().numpy())
    return np.concatenate(parts)


@torch.no_grad()
def encoded(model: LatentRecommender, histories: Histories) -> Latent:
    """The distributions of the codes of histories (B, I), however many, on the CPU."""
    parts = [model.encode(rows) for rows in _batches(histories)]
    variances = [part.log_variance for part in parts if part.log_variance is not None]
    return Latent(torch.cat([part.mean for part in parts]).cpu(), torch.cat(variances).cpu() if variances else None)


def _batches(histories: Histories) -> Iterator[Histories]:
    """At least one, which may be empty."""
    for start in range(0, max(len(histories), 1), ROWS):
        yield histories.take(slice(start, start + ROWS))


def item_codes(model: Recommender) -> Codes | None:
    """The rows (I, H) of the items in the last layer; None of a model whose scores are no inner products.

    docs/latent_maps.md has them measured beside the codes of histories of one item.
    """
    factors = model.factors(Histories.from_rows([[]], model.n_items))
    if factors is None or factors.weight.shape[1] < 2:
        return None
    rows: Codes = factors.weight.float().cpu().numpy()
    return rows


def directions(vectors: Codes) -> Codes:
    """Vectors (N, H) of length 1; zero stays zero."""
    unit: Codes = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit


def neighbours(codes: Codes, k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The k nearest others of each of N codes by cosine, nearest first, and their cosines: (N, min(k, N - 1)) each.

    Of equal ones the lower row comes first.
    """
    unit = torch.from_numpy(directions(codes))
    k = max(0, min(k, len(unit) - 1))
    rows, cosines = np.empty((len(unit), k), np.int32), np.empty((len(unit), k), np.float32)
    size = max(1, SIMILARITIES // max(len(unit), 1))
    for start in range(0, len(unit) if k else 0, size):
        own = slice(start, start + size)
        similar = dense_product(unit[own], unit)
        similar[torch.arange(len(similar)), torch.arange(start, start + len(similar))] = -torch.inf
        near, places = top_k(similar, k)
        rows[own], cosines[own] = places.numpy(), near.numpy()
    return rows, cosines
