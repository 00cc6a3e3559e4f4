"""Maps: codes in two dimensions, and how far a map, or a code, can be trusted."""

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recsys_ae.errors import DataError
from recsys_ae.latent.codes import Codes, directions

MapMethod: TypeAlias = Literal["tsne", "pca"]
PERPLEXITY = 30
NEIGHBOURS_PER_PERPLEXITY = 3
BY_TREES = 10_000
"""Points up to which Barnes-Hut trees are faster than interpolation on a grid."""
ROWS = 512
"""Rows whose distances to all others are held at once."""


def placed(vectors: Codes, method: MapMethod, seed: int) -> tuple[NDArray[np.float64], list[float] | None]:
    """Places (M, 2) of vectors (M, H) by their directions: PCA with the share of variance of each axis, or t-SNE.

    t-SNE: van der Maaten & Hinton 2008, by openTSNE with exact neighbours and one thread, so that a seed gives the same map;
    of 90 vectors or fewer it is PCA.
    """
    unit = directions(vectors)
    if method == "tsne" and len(unit) > NEIGHBOURS_PER_PERPLEXITY * PERPLEXITY:
        from openTSNE import TSNE  # imports scikit-learn: slow

        found = TSNE(
            perplexity=PERPLEXITY,
            metric="euclidean",  # of directions; by cosine a code of zeros has no distances
            neighbors="exact",
            initialization="pca",
            negative_gradient_method="bh" if len(unit) <= BY_TREES else "fft",
            random_state=seed,
            n_jobs=1,
        ).fit(unit.astype(np.float64))
        return np.asarray(found, np.float64), None
    centred = unit.astype(np.float64) - unit.mean(0)
    u, s, vt = np.linalg.svd(centred, full_matrices=False)
    sign = np.sign(vt[np.arange(len(vt)), np.abs(vt).argmax(1)])  # else the axes' directions are chance
    places = (u * s * sign)[:, :2]
    return places, (s[:2] ** 2 / max(float((s**2).sum()), 1e-300)).tolist()


def trustworthiness(codes: Codes, places: NDArray[np.floating], k: int = 10) -> float:
    """How far the k nearest places (N, 2) (Euclidean) are near by the codes (N, H) too (cosine): 1 wholly, .5 by chance.

    Venna & Kaski 2001, Neighborhood Preservation in Nonlinear Projection Methods: 1 - 2 / (N k (2 N - 3 k - 1)) times the sum,
    over the neighbours on the map that are none by the codes, of their rank by the codes less k. Raises DataError unless
    k < N / 2.
    """
    n = len(codes)
    if not 0 < k < n / 2:
        raise DataError(f"k = {k} for {n} points; expected k from 1 to below half of them")
    unit, places = directions(codes).astype(np.float64), np.asarray(places, np.float64)
    square = (places**2).sum(1)
    penalty = 0
    for start in range(0, n, ROWS):
        own = np.arange(start, min(start + ROWS, n))
        at = np.arange(len(own)), own
        near = square - 2 * places[own] @ places.T  # of each row, but for what is the same for all
        near[at] = np.inf
        shown = np.argpartition(near, k - 1, axis=1)[:, :k]
        far = -unit[own] @ unit.T
        far[at] = -np.inf  # rank 0
        ranks = np.empty(far.shape, np.int64)
        np.put_along_axis(ranks, np.argsort(far, axis=1, kind="stable"), np.arange(n), 1)
        penalty += int(np.maximum(np.take_along_axis(ranks, shown, 1) - k, 0).sum())
    return 1 - 2 * penalty / (n * k * (2 * n - 3 * k - 1))


def purity(near: NDArray[np.integer], labels: NDArray[np.bool_]) -> tuple[float, float]:
    """How alike the labels (N, C) of a point and of its neighbours (N, k) are, and those of any two points: Jaccard similarity.

    With one label a point it is the share of the neighbours that have the same. Points without a label do not count.
    Raises DataError where fewer than two have one.
    """
    held = labels.sum(1) > 0
    known = labels[held].astype(np.float64)
    if len(known) < 2:
        raise DataError(f"{len(known)} points with a label; expected two or more")
    own = np.repeat(np.flatnonzero(held), near.shape[1])
    other = near[held].ravel()
    own, other = own[held[other]], other[held[other]]
    both = (labels[own] & labels[other]).sum(1) / (labels[own] | labels[other]).sum(1)
    sizes = known.sum(1)
    total = 0.0
    for start in range(0, len(known), ROWS):
        shared = known[start : start + ROWS] @ known.T
        total += float((shared / (sizes[start : start + ROWS, None] + sizes - shared)).sum())
    chance = (total - len(known)) / (len(known) * (len(known) - 1))
    return float(both.mean()) if len(both) else float("nan"), chance
