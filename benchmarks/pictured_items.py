"""Images of a generated world's items, 32 x 32, that tell of their tastes to whoever can see it.

An item's first taste decides shape and texture, its second the hue; place, size, tilt, brightness and background are chance.
A share of the images is of another taste altogether, and all pixels are noisy.
"""

import colorsys

import numpy as np
from numpy.typing import NDArray

from recsys_ae.latent.images import SIDE, Pixels

SHAPES = 4  # disc, square, triangle, cross; with or without stripes: eight tastes are told apart
WRONG, GRAIN = 0.1, 0.08


def pictures(item_tastes: NDArray[np.int32], n_tastes: int, seed: int) -> Pixels:
    """Images (I, 32, 32, 3) of items with tastes (I, 2), -1 where there is no second."""
    rng = np.random.default_rng(seed)
    first = np.where(rng.random(len(item_tastes)) < WRONG, rng.integers(0, n_tastes, len(item_tastes)), item_tastes[:, 0])
    second = np.where(item_tastes[:, 1] < 0, first, item_tastes[:, 1])
    return np.stack([_picture(rng, int(a), float(b) / n_tastes) for a, b in zip(first, second, strict=True)])


def _picture(rng: np.random.Generator, taste: int, hue: float) -> Pixels:
    y, x = (np.mgrid[:SIDE, :SIDE] + 0.5) / SIDE * 2 - 1
    tilt, size = rng.uniform(-0.4, 0.4), rng.uniform(0.45, 0.7)
    dx, dy = x - rng.uniform(-0.25, 0.25), y - rng.uniform(-0.25, 0.25)
    u, v = (np.cos(tilt) * dx + np.sin(tilt) * dy) / size, (np.cos(tilt) * dy - np.sin(tilt) * dx) / size
    inside = {
        0: u**2 + v**2 < 1,
        1: np.maximum(abs(u), abs(v)) < 0.85,
        2: (v < 0.75) & (v > 1.9 * abs(u) - 1),
        3: (np.minimum(abs(u), abs(v)) < 0.3) & (np.maximum(abs(u), abs(v)) < 1),
    }[taste % SHAPES]
    colour = np.array(colorsys.hsv_to_rgb((hue + rng.normal(0, 0.05)) % 1, rng.uniform(0.5, 1), rng.uniform(0.6, 1)))
    ground = np.full(3, rng.uniform(0, 0.4)) + rng.uniform(0, 0.2, 3)
    image = np.where(inside[..., None], colour, ground)
    if taste // SHAPES % 2:
        stripes = np.sin(9 * u + rng.uniform(0, 6)) > 0
        image = np.where((inside & stripes)[..., None], colour * 0.35, image)
    return ((image + rng.normal(0, GRAIN, image.shape)).clip(0, 1) * 255).round().astype(np.uint8)
