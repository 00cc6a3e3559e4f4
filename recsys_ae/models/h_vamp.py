"""H+Vamp (Gated): two levels of codes, a mixture of posteriors as their prior, gated layers (Kim, Suh 2019, Enhancing VAEs for
Collaborative Filtering: Flexible Priors & Gating Mechanisms; the prior: Tomczak, Welling 2018, VAE with a VampPrior)."""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Generator, Tensor
from torch.nn import functional as F

from recsys_ae.histories import Histories
from recsys_ae.models.base import ModelConfig
from recsys_ae.models.search import Choice, Search
from recsys_ae.models.variational import Normal, VariationalAutoencoder, VariationalConfig, drawn, normal
from recsys_ae.products import Factors, products
from recsys_ae.training.batches import Bags
from recsys_ae.training.loss import kl_of_normals, log_mixture, log_normal

FIRST_DEVIATION = 0.1  # of the first layer's weights
# Kept within, as in the VampPrior's reference implementation: no component may become a point.
LOG_VARIANCES = (-6.0, 2.0)


class HVampConfig(VariationalConfig):
    """Defaults chosen on validation users; see docs/experiments.md."""

    # of gated layers, mirrored in the decoder
    hidden: Annotated[tuple[PositiveInt, ...], Field(min_length=1), Choice((512,), (600,), (300,))] = (512,)
    latent: Annotated[PositiveInt, Search(64, 512, log=True)] = 256  # width of each of the two codes
    pseudo_inputs: Annotated[PositiveInt, Search(50, 1000, log=True)] = 200  # K, components of the prior
    dropout: float = Field(0.3, ge=0, lt=1)  # of the stored entries of the input
    pretrain: Literal["none", "als", "ease"] = "none"  # gated layers are not trained one by one
    beta: float = Field(0.05, ge=0)  # weight of both divergences once annealing is over


class HVamp(VariationalAutoencoder):
    """q(z2 | x), q(z1 | x, z2), p(x | z1, z2); priors p(z1 | z2) and p(z2) = 1/K sum_k q(z2 | u_k). The code is (z2, z1).

    Every hidden layer is gated: f(W h + b) * sigmoid(V h + c), W and V in one tensor. The pseudo-inputs u_k are learnt as what
    the first layer would make of them, (K, 2 H_0), not as rows over the catalogue: where there are as many items as outputs
    the two reach the same priors, and these cost no K x I numbers.

    Tensors: encoder.j and decoder.j as in every autoencoder, gated ones of twice the width; top, low, prior: a linear layer
    each that makes mean and log variance of q(z2), q(z1), p(z1); low.joint, prior.joint: the gated layer before it; pseudo.
    """

    Config: ClassVar[type[ModelConfig]] = HVampConfig
    config: HVampConfig

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        hidden, code = self.config.hidden, 2 * self.config.latent
        width = hidden[-1]
        shapes: dict[str, tuple[int, ...]] = {"encoder.0.weight": (self.n_items, 2 * hidden[0])}
        for j, (into, out) in enumerate(zip(hidden, hidden[1:], strict=False), 1):
            shapes[f"encoder.{j}.weight"] = (2 * out, into)
        shapes |= {
            "top.weight": (code, width),
            "low.joint.weight": (2 * width, width + self.config.latent),
            "low.weight": (code, width),
            "prior.joint.weight": (2 * width, self.config.latent),
            "prior.weight": (code, width),
        }
        decoder = (code, *self._decoder_hidden)
        for j, (into, out) in enumerate(zip(decoder, decoder[1:], strict=False)):
            shapes[f"decoder.{j}.weight"] = (2 * out, into)
        biases = {name.replace("weight", "bias"): shape[:1] for name, shape in shapes.items()}
        shapes |= biases | {"encoder.0.bias": (2 * hidden[0],), f"{self.last}.bias": (self.n_items,)}
        if not self.config.tied:
            shapes[f"{self.last}.weight"] = (self.n_items, decoder[-1])
        return shapes | {"pseudo": (self.config.pseudo_inputs, 2 * hidden[0])}

    def initial(self, generator: Generator) -> dict[str, Tensor]:
        """As the parent's but for the first layer: of Glorot size it makes of a row of length 1 what the codes' noise drowns,
        the more so behind gates that begin half shut."""
        tensors = super().initial(generator)
        for name in ("encoder.0.weight", "pseudo"):
            tensors[name] *= FIRST_DEVIATION / (2 / sum(self._shapes()[name])) ** 0.5
        return tensors

    @property
    def _variances(self) -> tuple[str, ...]:
        return ("top.bias", "low.bias")

    def _gated(self, x: Tensor) -> Tensor:
        """(B, 2 H) -> (B, H)."""
        linear, gate = x.chunk(2, 1)
        return self.activate(linear) * gate.sigmoid()

    def _hidden(self, p: dict[str, Tensor], x: Tensor) -> Tensor:
        """The hidden layers of the encoder, from what the first one makes of the input, (B, 2 H_0) -> (B, H)."""
        for j in range(1, len(self.config.hidden)):
            x = F.linear(self._gated(x), p[f"encoder.{j}.weight"], p[f"encoder.{j}.bias"])
        return self._gated(x)

    def _low(self, p: dict[str, Tensor], h: Tensor, top: Tensor) -> Normal:
        """q(z1 | x, z2)."""
        return self._normal(p, "low", self._joint(p, "low", torch.cat([h, top], 1)))

    def _joint(self, p: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
        return self._gated(F.linear(x, p[f"{name}.joint.weight"], p[f"{name}.joint.bias"]))

    def _normal(self, p: dict[str, Tensor], name: str, h: Tensor) -> Normal:
        mean, log_variance = normal(F.linear(h, p[f"{name}.weight"], p[f"{name}.bias"]))
        return mean, log_variance.clamp(*LOG_VARIANCES)

    def _queried(self, p: dict[str, Tensor], z: Tensor) -> Tensor:
        for j in range(len(self._decoder_hidden)):
            z = self._gated(F.linear(z, p[f"decoder.{j}.weight"], p[f"decoder.{j}.bias"]))
        return z

    def _objective(self, parameters: dict[str, Tensor], bags: Bags, share: float, generator: Generator) -> Tensor:
        p = parameters
        corrupted, kept = self._corrupted(bags, generator)
        h = self._hidden(p, self._first(p, corrupted))
        top = self._normal(p, "top", h)
        z2 = drawn(*top, generator, bags)
        low = self._low(p, h, z2)
        z1 = drawn(*low, generator, bags)
        components = self._normal(p, "top", self._hidden(p, p["pseudo"]))  # (K, Z)
        divergence = log_normal(z2, *top).sum(1) - log_mixture(z2, *components)
        divergence += kl_of_normals(*low, *self._normal(p, "prior", self._joint(p, "prior", z2))).sum(1)
        beta = self.config.beta * self._annealed(share)
        return self._loss(p, torch.cat([z2, z1], 1), bags, kept) + beta * divergence.mean()

    def _posterior(self, p: dict[str, Tensor], bags: Bags) -> Normal:
        """Of z2, and of z1 where z2 is its mean."""
        h = self._hidden(p, self._first(p, bags))
        top, log_variance = self._normal(p, "top", h)
        low, log_variance_low = self._low(p, h, top)
        return torch.cat([top, low], 1), torch.cat([log_variance, log_variance_low], 1)

    def sample(self, histories: Histories, generator: Generator) -> Tensor:
        """A draw of z2, then of z1 given it, then the scores (B, I)."""
        self._require_fitted()
        self._require_width(histories)
        p = self._tensors
        with torch.no_grad():
            h = self._hidden(p, self._first(p, self._bags(histories).normalised()))
            top = drawn(*self._normal(p, "top", h), generator)
            z = torch.cat([top, drawn(*self._low(p, h, top), generator)], 1)
            return products(Factors(self.query(z), *self.head()))
