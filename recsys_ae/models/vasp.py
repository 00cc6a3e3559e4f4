"""A model like VASP: a deep variational path beside a shallow linear one (Vancura, Kordik 2021, Deep Variational Autoencoder
with Shallow Parallel Path for Top-N Recommendation)."""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Generator, Tensor

from recsys_ae.histories import Histories
from recsys_ae.models.autoencoder import Activation
from recsys_ae.models.base import Latent, ModelConfig
from recsys_ae.models.dense import DenseConfig, DenselyConnected
from recsys_ae.models.search import Choice, Search
from recsys_ae.models.variational import drawn
from recsys_ae.training.batches import Bags
from recsys_ae.training.layers import bag_sum
from recsys_ae.training.loss import Likelihood, kl_to_standard_normal

CERTAIN = -60.0  # log variance of a code that is not drawn: less than float32 can see


class VASPConfig(DenseConfig):
    """Defaults chosen on validation users; see docs/experiments.md."""

    # densely connected; the decoder has none
    hidden: Annotated[tuple[PositiveInt, ...], Choice((256,) * 3, (600,) * 5)] = (256,) * 3
    softmax: Annotated[Literal["exact"], Choice("exact")] = "exact"
    latent: Annotated[PositiveInt, Search(32, 512, log=True)] = 128
    shallow: Annotated[PositiveInt, Search(64, 1024, log=True)] = 512  # width of the linear path
    activation: Annotated[Activation, Choice("swish", "tanh", "gelu")] = "swish"
    dropout: float = Field(0.5, gt=0, lt=1)  # share of a history that is to be found from the rest
    target: Annotated[Literal["dropped"], Choice("dropped")] = "dropped"
    tied: Annotated[Literal[False], Choice(False)] = False
    loss: Likelihood = "focal"
    focus: Annotated[float, Field(ge=0), Search(0.0, 3.0)] = 2.0  # gamma of the focal loss
    # alpha of the focal loss: the weight of items met
    balance: Annotated[float, Field(gt=0, lt=1), Search(0.1, 0.9)] = 0.25


class VASP(DenselyConnected):
    """logits = W z + b + A A'x, z of a densely connected variational encoder and A (I, R); x is a random part of the history,
    normalised, and the focal loss is over the items that are not in it.

    The code is (z, A'x), the last layer (W, A). That no item may predict itself, the zero diagonal of the paper's linear path,
    needs no subtraction: A A' tells an item of itself only where it is in x, and there the loss does not look.
    """

    divisible = False
    Config: ClassVar[type[ModelConfig]] = VASPConfig
    config: VASPConfig

    @property
    def _query_width(self) -> int:
        return self.config.latent + self.config.shallow

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return super()._shapes() | {"decoder.0.weight": (self.n_items, self._query_width)}

    def _shallow(self, p: dict[str, Tensor], bags: Bags) -> Tensor:
        """A'x, (B, R)."""
        whole = bag_sum(p["decoder.0.weight"], bags)
        return whole[:, self.config.latent :]  # a slice of the weights would be copied, one of the sums is not

    def _objective(self, parameters: dict[str, Tensor], bags: Bags, share: float, generator: Generator) -> Tensor:
        part, kept = self._corrupted(bags, generator)
        mean, log_variance = self._posterior(parameters, part)
        z = torch.cat([drawn(mean, log_variance, generator, bags), self._shallow(parameters, part)], 1)
        beta = self.config.beta * self._annealed(share)
        return self._loss(parameters, z, bags, kept) + beta * kl_to_standard_normal(mean, log_variance).sum()

    def encode(self, histories: Histories) -> Latent:
        self._require_fitted()
        bags = self._bags(histories).normalised()
        mean, log_variance = self._posterior(self._tensors, bags)
        shallow = self._shallow(self._tensors, bags)
        certain = torch.full_like(shallow, CERTAIN)
        return Latent(torch.cat([mean, shallow], 1), torch.cat([log_variance, certain], 1))
