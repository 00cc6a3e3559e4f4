"""ELSA: a scalable linear shallow autoencoder of low rank, without self-similarity (Vancura, Alves, Kasalicky, Kordik 2022,
Scalable Linear Shallow Autoencoder for Collaborative Filtering)."""

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Generator, Tensor
from torch.nn import functional as F

from recsys_ae.histories import Histories
from recsys_ae.models.autoencoder import Autoencoder, AutoencoderConfig
from recsys_ae.models.base import Latent, ModelConfig
from recsys_ae.models.search import Choice, Search
from recsys_ae.training.batches import Bags
from recsys_ae.training.layers import bag_sum, head_loss
from recsys_ae.training.loss import cosine


class ELSAConfig(AutoencoderConfig):
    """Defaults chosen on validation users; see docs/experiments.md. The five keys of one value are what ELSA is."""

    hidden: Annotated[tuple[()], Choice(())] = ()
    softmax: Annotated[Literal["exact"], Choice("exact")] = "exact"
    activation: Annotated[Literal["identity"], Choice("identity")] = "identity"
    tied: Annotated[Literal[True], Choice(True)] = True
    target: Annotated[Literal["all"], Choice("all")] = "all"
    loss: Annotated[Literal["gaussian"], Choice("gaussian")] = "gaussian"  # of rows brought to length 1
    dropout: Annotated[float, Field(ge=0, lt=1), Search(0.0, 0.7)] = 0.0  # the paper has none
    learning_rate: Annotated[float, Field(gt=0), Search(3e-4, 1e-1, log=True)] = 1e-3


class ELSA(Autoencoder):
    """scores = x A A', A (I, Z) with rows of length 1; loss: |x / |x| - y / |y||^2, y = x A A' - x (eq. 5), where
    dropout thins the x of y.

    Subtracting x takes an item's similarity with itself, which is 1, out of what predicts it; of the scores it would change
    those of the history alone. Rows are brought back to length 1 before every step, where the paper divides by it in the loss.
    """

    divisible = False
    Config: ClassVar[type[ModelConfig]] = ELSAConfig
    config: ELSAConfig
    linear = True

    @property
    def _code_width(self) -> int:
        return self.config.latent

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return {"encoder.0.weight": (self.n_items, self.config.latent)}

    def _objective(self, parameters: dict[str, Tensor], bags: Bags, share: float, generator: Generator) -> Tensor:
        weight = parameters["encoder.0.weight"]
        with torch.no_grad():
            F.normalize(weight, out=weight)
        thinned = bags.reweighted(bags.weights * bags.kept(self.config.dropout, generator))
        return head_loss(bag_sum(weight, thinned), weight, weight.new_zeros(len(weight)), cosine(bags, thinned), self._scratch)

    def _finished(self, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: F.normalize(tensor.detach()) for name, tensor in parameters.items()}

    def encode(self, histories: Histories) -> Latent:
        self._require_fitted()
        return Latent(bag_sum(self._tensors["encoder.0.weight"], self._bags(histories)))

    def _head_of(self, p: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        weight = p["encoder.0.weight"]
        return weight, weight.new_zeros(len(weight))
