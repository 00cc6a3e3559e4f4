"""Generation: synthetic users drawn from an autoencoder's codes, in histories as long as real ones.

A code is drawn, the decoder makes logits of it, and items are drawn from their softmax without replacement (Gumbel top-k:
Kool, van Hoof, Welling 2019, Stochastic Beams and Where to Find Them). Where codes come from:

prior       N(0, I), which Mult-VAE was trained against (Kingma, Welling 2014); only as good as the codes' fit to it
aggregated  the codes of the stored users (the aggregated posterior: Makhzani et al. 2016, Adversarial Autoencoders), smoothed:
            a normal distribution with mean and covariance of the directions of a user's code and the nearest ones (Vincent,
            Bengio 2003, Manifold Parzen Windows), so that every draw blends several users; its length is the one user's
history     the posterior of one history
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from recsys_ae.errors import ConfigError, DataError
from recsys_ae.histories import Histories
from recsys_ae.latent.codes import encoded
from recsys_ae.models.base import Latent, LatentRecommender
from recsys_ae.models.mult_vae import MultVAE
from recsys_ae.products import Factors, products

Source: TypeAlias = Literal["prior", "aggregated", "history"]

NEIGHBOURS = 10
LARGEST_REFERENCE = 20_000  # users whose codes are drawn from
BLOCK, CELLS = 1_024, 2**24  # users drawn at once, scores at once
CALIBRATED_ON = 512  # users
HALVINGS = 10
COLDEST, HOTTEST = 0.2, 5.0


@dataclass(frozen=True, eq=False)
class Synthesizer:
    """Draws users. `codes` (S, Z), `log_variance` (S, Z) where known, and `lengths` (S,): of the users they are drawn from."""

    model: LatentRecommender
    source: Source
    codes: Tensor
    log_variance: Tensor | None
    lengths: NDArray[np.int64]
    seed_code: Latent | None = None
    neighbours: int = NEIGHBOURS
    temperature: float = 1.0

    @classmethod
    def of(
        cls,
        model: LatentRecommender,
        stored: Histories,
        source: Source = "aggregated",
        *,
        history: Histories | None = None,
        temperature: float | None = None,
        neighbours: int = NEIGHBOURS,
        seed: int = 0,
    ) -> "Synthesizer":
        """From the users that a model was published with. `temperature` divides the logits: without one it is found such that
        drawn items are as popular as those of the stored users. `history` (1, I): what `source = "history"` is drawn for.

        Raises ConfigError where the model has no such prior, DataError where fewer users than `neighbours` have a history, and
        for a history that is missing, empty or not asked for.
        """
        if source == "prior" and not isinstance(model, MultVAE):
            raise ConfigError(
                f"a {type(model).__name__} has no standard normal prior; expected a mult_vae, or the source aggregated"
            )
        if (history is not None) != (source == "history") or (history is not None and history.n_interactions == 0):
            raise DataError(f"a history with known items belongs to the source history alone; the source is {source}")
        if temperature is not None and not 0 < temperature < float("inf"):
            raise DataError(f"a temperature of {temperature}; expected a positive number")
        if neighbours < 2:
            raise DataError(f"{neighbours} neighbours would copy users; expected at least 2")
        known = np.flatnonzero(stored.lengths)
        if len(known) < neighbours:
            raise DataError(f"{len(known)} users with a history to draw from; expected at least {neighbours}")
        some = stored.take(known[:: -(-len(known) // LARGEST_REFERENCE)])
        with torch.no_grad():
            latent = encoded(model, some)
            seed_code = None if history is None else model.encode(history)
        lengths = np.diff(some.matrix.indptr).astype(np.int64)
        made = cls(model, source, *latent, lengths, seed_code, neighbours, temperature or 1.0)
        if temperature is not None:
            return made
        return made._calibrated(some, np.random.default_rng([seed, CALIBRATED_ON]))

    def draw(self, n: int, seed: int) -> Iterator[Histories]:
        """n users (n, I) in blocks; items in the order in which they were drawn. The same seed draws the same users."""
        for block, start in enumerate(range(0, n, BLOCK)):
            rng = np.random.default_rng([seed, block])
            codes, lengths = self._codes(min(BLOCK, n - start), rng)
            yield self._items(codes, lengths, self.temperature, rng)

    @torch.no_grad()
    def _codes(self, n: int, rng: Generator) -> tuple[Tensor, NDArray[np.int64]]:
        """Codes (n, Z) and lengths (n,)."""
        noise = torch.from_numpy(rng.standard_normal((n, self.codes.shape[1]), np.float32))
        any_length = self.lengths[rng.integers(len(self.lengths), size=n)]
        if self.source == "prior":
            return noise, any_length
        if self.seed_code is not None:
            return _noisy(self.seed_code.mean, self.seed_code.log_variance, noise), any_length
        anchors = rng.integers(len(self.codes), size=n)
        directions = torch.nn.functional.normalize(self.codes)
        near = (directions[anchors] @ directions.T).topk(self.neighbours).indices  # (n, neighbours), the anchor among them
        weights = torch.from_numpy(rng.standard_normal((n, 1, self.neighbours), np.float32)) / self.neighbours**0.5
        blended = directions[near]
        middle = blended.mean(1)
        codes = middle + (weights @ (blended - middle[:, None]))[:, 0]
        # a mean is shorter than what it is of; decoders take a short code for an uncertain one
        codes = torch.nn.functional.normalize(codes) * torch.linalg.vector_norm(self.codes[anchors], dim=1, keepdim=True)
        variance = None if self.log_variance is None else self.log_variance[anchors]
        return _noisy(codes, variance, noise), self.lengths[anchors]

    @torch.no_grad()
    def _items(self, codes: Tensor, lengths: NDArray[np.int64], temperature: float, rng: Generator) -> Histories:
        """Histories (n, I) of codes (n, Z), as long as `lengths` (n,) says."""
        n_items = self.model.n_items
        lengths = np.minimum(lengths, n_items)
        step, rows = max(1, CELLS // n_items), []
        for start in range(0, len(codes), step):
            some = slice(start, start + step)
            logits = products(Factors(self.model.query(codes[some].to(self.model.device)), *self.model.head())).cpu()
            gumbel = -np.log(rng.standard_exponential(logits.shape, np.float32) + np.finfo(np.float32).tiny)
            best = (logits / temperature + torch.from_numpy(gumbel)).topk(int(lengths[some].max())).indices.numpy()
            rows += [row[:length] for row, length in zip(best, lengths[some], strict=True)]
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        items = np.concatenate(rows).astype(np.int32)
        return Histories(indptr, items, np.ones(len(items), np.float32), n_items)

    def _calibrated(self, real: Histories, rng: Generator) -> "Synthesizer":
        """With the temperature at which drawn items have the mean log popularity of the real users', by bisection."""
        counts = np.log(np.bincount(real.items, minlength=real.n_items) + 1.0)
        codes, lengths = self._codes(CALIBRATED_ON, rng)
        goal = _mean_by_user(counts, real)
        low, high = np.log(COLDEST), np.log(HOTTEST)
        for _ in range(HALVINGS):  # the same draws each time: only the temperature differs
            middle = (low + high) / 2
            drawn = self._items(codes, lengths, float(np.exp(middle)), np.random.default_rng(0))
            low, high = (middle, high) if _mean_by_user(counts, drawn) > goal else (low, middle)
        temperature = float(np.exp((low + high) / 2))
        return Synthesizer(
            self.model, self.source, self.codes, self.log_variance, self.lengths, self.seed_code, self.neighbours, temperature
        )


def _noisy(mean: Tensor, log_variance: Tensor | None, noise: Tensor) -> Tensor:
    """Draws (n, Z) of posteriors; a model without variances has none to draw from."""
    if log_variance is None:
        return mean.cpu().expand_as(noise)
    return mean.cpu() + noise * (0.5 * log_variance.cpu()).exp()


def _mean_by_user(values: NDArray[np.float64], histories: Histories) -> float:
    """The mean of an item's value over each user's items, and over users."""
    return float(
        np.mean(np.bincount(histories.rows, values[histories.items], len(histories)) / np.maximum(histories.lengths, 1))
    )
