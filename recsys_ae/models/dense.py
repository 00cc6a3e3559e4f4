"""The densely connected encoder of RecVAE and VASP: every hidden layer sees all before it."""

from typing import Literal, Self

from pydantic import model_validator
from torch import Generator, Tensor
from torch.nn import functional as F

from recsys_ae.models.variational import VariationalAutoencoder, VariationalConfig
from recsys_ae.training.batches import Bags

EPSILON = 0.1  # under the root of the layer norm, as RecVAE's reference implementation has it


class DenseConfig(VariationalConfig):
    """Hidden layers of one width, since they are added up."""

    pretrain: Literal["none", "als", "ease"] = "none"  # no layer stands by itself

    @model_validator(mode="after")
    def _widths_that_add_up(self) -> Self:
        if len(set(self.hidden)) > 1:
            raise ValueError(f"hidden = {list(self.hidden)}: layers that are added up; expected widths that are all the same")
        if self.tied and self.hidden and self.hidden[0] < self.latent:
            raise ValueError(
                f"tied with hidden = {list(self.hidden)}, latent = {self.latent}; expected hidden not below latent"
            )
        return self


class DenselyConnected(VariationalAutoencoder):
    """h_1 = LN(f(W_1 x + b_1)), h_j = LN(f(W_j h_j-1 + b_j + h_1 + ... + h_j-1)), then mean and log variance; the decoder is
    one linear layer.

    Tensors beside those of every autoencoder: encoder.norm.j.weight and .bias (H,) of the layer norms LN.
    """

    config: DenseConfig

    @property
    def _decoder_hidden(self) -> tuple[int, ...]:
        return ()

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        norms: dict[str, tuple[int, ...]] = {
            f"encoder.norm.{j}.{part}": (width,) for j, width in enumerate(self.config.hidden) for part in ("weight", "bias")
        }
        return super()._shapes() | norms

    def initial(self, generator: Generator) -> dict[str, Tensor]:
        tensors = super().initial(generator)
        for j in range(len(self.config.hidden)):
            tensors[f"encoder.norm.{j}.weight"] += 1
        return tensors

    def _encoded(self, p: dict[str, Tensor], bags: Bags) -> Tensor:
        x = self._first(p, bags)
        before = x.new_zeros(x.shape)  # h_1 + ... + h_j-1
        for j, width in enumerate(self.config.hidden):
            norm = p[f"encoder.norm.{j}.weight"], p[f"encoder.norm.{j}.bias"]
            h = F.layer_norm(self.activate(x + before), (width,), *norm, EPSILON)  # (B, H)
            before = before + h
            x = F.linear(h, p[f"encoder.{j + 1}.weight"], p[f"encoder.{j + 1}.bias"])
        return x
