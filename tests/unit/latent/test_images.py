"""The image autoencoder: what images are about survives in the code, what is noise does not."""

from functools import cache

import numpy as np
import pytest
import torch

from recsys_ae.errors import DataError
from recsys_ae.latent.images import SIDE, ImageAutoencoder, ImageConfig, fit_images

pytestmark = pytest.mark.slow

QUICK = ImageConfig(latent=16, channels=4, epochs=1, steps=60, batch_size=20)


def halves(n: int, grain: float = 0.05, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images bright on the left, right, top or bottom, in red, green or blue; which of the twelve, and the noisy images."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 12, n)
    images = np.zeros((n, SIDE, SIDE, 3))
    sides = [np.s_[:, :16], np.s_[:, 16:], np.s_[:16], np.s_[16:]]
    for image, kind in zip(images, kinds, strict=True):
        image[sides[kind % 4]][..., kind // 4] = 0.9
    noisy = (images + rng.normal(0, grain, images.shape)).clip(0, 1)
    return kinds, (noisy * 255).astype(np.uint8)


@cache
def taught() -> ImageAutoencoder:
    return fit_images(halves(120)[1], QUICK)


def test_codes_tell_apart_what_images_show() -> None:
    kinds, pixels = halves(120)
    codes = taught().encode(pixels)
    assert codes.shape == (120, 16) and codes.dtype == np.float32
    distances = np.linalg.norm(codes[:, None] - codes, axis=2) + np.where(np.eye(120), np.inf, 0)
    assert (kinds[distances.argmin(1)] == kinds).mean() > 0.95


def test_images_of_after_training_come_back_as_what_they_show() -> None:
    kinds, noisy = halves(20, grain=0.1, seed=5)
    back = taught().reconstruct(noisy).astype(float)
    all_kinds, clean = halves(200, grain=0, seed=6)
    shown = np.stack([clean[all_kinds == kind][0] for kind in range(12)]).astype(float)
    nearest = np.abs(back[:, None] - shown).mean((2, 3, 4)).argmin(1)
    assert back.shape == noisy.shape and (nearest == kinds).mean() > 0.8
    assert taught().losses[-1] < taught().losses[0]


def test_the_same_seed_gives_the_same_codes_and_the_global_generator_is_left_alone() -> None:
    _, pixels = halves(10)
    few = ImageConfig(latent=4, channels=4, epochs=1, steps=2)
    before = torch.random.get_rng_state()
    first, second, other = (fit_images(pixels, few, seed).encode(pixels) for seed in (3, 3, 4))
    assert (first == second).all() and not np.allclose(first, other)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_code_hangs_on_its_own_image_alone() -> None:
    _, pixels = halves(12)
    model = fit_images(pixels, ImageConfig(latent=4, channels=4, epochs=1, steps=2))
    assert model.encode(pixels[5:6]) == pytest.approx(model.encode(pixels)[5:6], abs=1e-5)
    assert model.encode(pixels[:0]).shape == (0, 4) and model.reconstruct(pixels[:0]).shape == (0, SIDE, SIDE, 3)


def test_images_of_another_shape_are_refused() -> None:
    for shape in ((5, 16, 16, 3), (5, SIDE, SIDE), (1, SIDE, SIDE, 3)):
        with pytest.raises(DataError, match=r"expected at least 2 of \(32, 32, 3\)"):
            fit_images(np.zeros(shape, np.uint8))
