"""A convolutional denoising autoencoder of item images: what is left of an image in a short code (Masci, Meier, Ciresan,
Schmidhuber 2011, Stacked Convolutional Auto-Encoders; Vincent, Larochelle, Bengio, Manzagol 2008, Extracting and Composing
Robust Features with Denoising Autoencoders)."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from recsys_ae.errors import DataError

SIDE = 32
"""Height and width of the images that are coded, in pixels."""
Pixels = NDArray[np.uint8]
"""Images (N, SIDE, SIDE, 3), red, green, blue."""
COMPONENTS_OF = 1_000
"""Images, evenly spaced, whose principal components the network begins with."""


@dataclass(frozen=True)
class ImageConfig:
    """Width of the code, channels of the first layer (doubled by each of the two after it), and how it is trained.

    noise: standard deviation of what is added to inputs, whose values lie between 0 and 1. steps: at least so many are made,
    however few images there are.
    """

    latent: int = 32
    channels: int = 16
    noise: float = 0.1
    epochs: int = 20
    steps: int = 500
    batch_size: int = 64
    learning_rate: float = 2e-3


class _Network(nn.Module):
    """Three convolutions of stride 2, a linear code, and the way back, beside the principal components of the pixels.

    The convolutions add to what the components say, at first nothing: a few hundred steps, which would not bring bare
    convolutions as far as the components are, begin there.
    """

    def __init__(self, config: ImageConfig, images: Tensor) -> None:
        super().__init__()
        widths = [3, *(config.channels * 2**n for n in range(3))]
        ways = list(zip(widths, widths[1:], strict=False))
        self.down = nn.ModuleList(nn.Conv2d(into, out, 4, 2, 1) for into, out in ways)
        self.up = nn.ModuleList(nn.ConvTranspose2d(out, into, 4, 2, 1) for into, out in reversed(ways))
        self.inner = (widths[-1], SIDE // 8, SIDE // 8)
        size = int(np.prod(self.inner))
        self.code, self.back = nn.Linear(size, config.latent), nn.Linear(config.latent, size)
        for last in (self.code, cast(nn.ConvTranspose2d, self.up[-1])):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(cast(Tensor, last.bias))
        self.mean = images.mean(0)
        some = (images[:: -(-len(images) // COMPONENTS_OF)] - self.mean).flatten(1)
        found = torch.linalg.svd(some, full_matrices=False).Vh[: config.latent]
        self.components = F.pad(found, (0, 0, 0, config.latent - len(found)))  # (Z, 3 SIDE^2)

    def encode(self, x: Tensor) -> Tensor:
        """(B, 3, SIDE, SIDE) -> (B, Z)."""
        x = x - self.mean
        linear = x.flatten(1) @ self.components.T
        for layer in self.down:
            x = F.gelu(layer(x))
        return linear + cast(Tensor, self.code(x.flatten(1)))

    def decode(self, z: Tensor) -> Tensor:
        """(B, Z) -> (B, 3, SIDE, SIDE)."""
        x = F.gelu(self.back(z)).view(-1, *self.inner)
        for layer in self.up[:-1]:
            x = F.gelu(layer(x))
        return self.mean + (z @ self.components).view(-1, 3, SIDE, SIDE) + cast(Tensor, self.up[-1](x))


class ImageAutoencoder:
    """Fitted by `fit_images`. Codes and reconstructions of images, whether they were there in training or not."""

    def __init__(self, network: _Network, losses: list[float]) -> None:
        self._network = network
        self.losses = losses  # mean squared error of a pixel by epoch

    def encode(self, pixels: Pixels) -> NDArray[np.float32]:
        """Codes (N, Z)."""
        with torch.no_grad():
            return torch.cat([self._network.encode(_scaled(pixels[b])) for b in _blocks(len(pixels))]).numpy()

    def reconstruct(self, pixels: Pixels) -> Pixels:
        """What the codes hold of images, (N, SIDE, SIDE, 3)."""
        with torch.no_grad():
            parts = [self._network.decode(self._network.encode(_scaled(pixels[b]))) for b in _blocks(len(pixels))]
        return (torch.cat(parts).permute(0, 2, 3, 1).clamp(0, 1) * 255).round().byte().numpy()


def fit_images(pixels: Pixels, config: ImageConfig | None = None, seed: int = 0) -> ImageAutoencoder:
    """Learn to give back clean images of noisy ones, by squared error. The global generator is left as it was.

    Raises DataError for less than two images, or of another shape.
    """
    config = config or ImageConfig()
    if pixels.shape[1:] != (SIDE, SIDE, 3) or len(pixels) < 2:
        raise DataError(f"images of shape {pixels.shape}; expected at least 2 of ({SIDE}, {SIDE}, 3)")
    images = _scaled(pixels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _Network(config, images)
    generator = Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(network.parameters(), config.learning_rate)
    epochs = max(config.epochs, -(-config.steps * config.batch_size // len(images)))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
    losses = []
    for _ in range(epochs):
        total = 0.0
        for rows in torch.split(torch.randperm(len(images), generator=generator), config.batch_size):
            clean = images[rows]
            noisy = clean + config.noise * torch.randn(clean.shape, generator=generator)
            loss = F.mse_loss(network.decode(network.encode(noisy)), clean)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += float(loss.detach()) * len(rows)
        schedule.step()
        losses.append(total / len(images))
    return ImageAutoencoder(network.eval(), losses)


def _scaled(pixels: Pixels) -> Tensor:
    """(N, SIDE, SIDE, 3) bytes -> (N, 3, SIDE, SIDE) between 0 and 1."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def _blocks(n: int, size: int = 512) -> list[slice]:
    return [slice(start, start + size) for start in range(0, n, size)] or [slice(0)]
