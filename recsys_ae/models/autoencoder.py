"""What the multinomial autoencoders share: sparse first layer, dense layers, fit through the one loop."""

from abc import abstractmethod
from typing import Literal, cast

import torch
from pydantic import Field, PositiveInt
from torch import Generator, Tensor
from torch.nn import functional as F

from recsys_ae.evaluation import mean_metric
from recsys_ae.histories import Histories, Holdout
from recsys_ae.models.base import LatentRecommender, ModelConfig
from recsys_ae.training import loop
from recsys_ae.training.batches import Bags
from recsys_ae.training.device import resolve_device
from recsys_ae.training.run import FitRecord, RunContext

ACTIVATIONS = {"identity": lambda x: x, "tanh": torch.tanh, "gelu": F.gelu, "relu": torch.relu}


class AutoencoderConfig(ModelConfig):
    """Keys that every autoencoder shares."""

    hidden: tuple[PositiveInt, ...] = ()  # widths between input and code; mirrored in the decoder
    latent: PositiveInt = 512  # width of the code
    activation: Literal["identity", "tanh", "gelu", "relu"] = "identity"
    dropout: float = Field(0.5, ge=0, lt=1)  # of the stored entries of the input
    weight_decay: float = Field(0.0, ge=0)  # decoupled, per step and learning rate (AdamW)
    learning_rate: float = Field(1e-3, gt=0)
    schedule: Literal["constant", "cosine"] = "constant"
    batch_size: PositiveInt | Literal["auto"] = "auto"  # auto: at least 50 steps an epoch, at most 500 users
    epochs: PositiveInt = 100  # at most
    patience: PositiveInt = 10  # epochs without a better validation metric


class Autoencoder(LatentRecommender):
    """Encoder and decoder of dense layers around a sparse first and a wide last one, trained on the multinomial likelihood.

    Tensors: encoder.0.weight (I, H_0) and further encoder.j.weight (out, in); decoder.j.weight (out, in), the last (I, H);
    a bias beside each.
    """

    config: AutoencoderConfig

    @property
    @abstractmethod
    def _code_width(self) -> int:
        """Outputs of the last encoder layer."""

    @abstractmethod
    def _objective(self, parameters: dict[str, Tensor], bags: Bags, share: float, generator: Generator) -> Tensor:
        """Loss of a batch."""

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        encoder = [*self.config.hidden, self._code_width]
        decoder = [self.config.latent, *reversed(self.config.hidden), self.n_items]
        shapes: dict[str, tuple[int, ...]] = {"encoder.0.weight": (self.n_items, encoder[0])}
        for j, (width, out) in enumerate(zip(encoder, encoder[1:], strict=False), 1):
            shapes[f"encoder.{j}.weight"] = (out, width)
        for j, (width, out) in enumerate(zip(decoder, decoder[1:], strict=False)):
            shapes[f"decoder.{j}.weight"] = (out, width)
        biases = {"encoder.0.bias": (encoder[0],)}
        biases |= {n.replace("weight", "bias"): (s[0],) for n, s in shapes.items() if n != "encoder.0.weight"}
        return shapes | biases

    @property
    def _last(self) -> str:
        return f"decoder.{len(self.config.hidden)}"

    def layout(self) -> dict[str, int | None]:
        axes: dict[str, int | None] = dict.fromkeys(self._shapes(), None)
        return axes | {"encoder.0.weight": 0, f"{self._last}.weight": 0, f"{self._last}.bias": 0}

    def fit(self, train: Histories, *, validation: Holdout | None, run: RunContext) -> FitRecord:
        self._require_width(train)
        device = resolve_device(run.device)
        generator = Generator(device).manual_seed(run.seed)
        self._tensors = self._initial(generator) if run.initial is None else self._copied(run.initial, device)

        def validate(parameters: dict[str, Tensor]) -> float:
            judged = type(self)(self.config, self.n_items).restore({n: t.detach() for n, t in parameters.items()})
            return mean_metric(judged, cast(Holdout, validation), run.metric)

        return loop.train(
            self._tensors,
            self._objective,
            train,
            validate if validation is not None and len(validation) else None,
            self.config,
            run,
            generator,
            f"{type(self).__name__} {self.config.model_dump_json()}",
        )

    def _initial(self, generator: Generator) -> dict[str, Tensor]:
        """Glorot normal weights and small normal biases, as the reference implementation of Liang et al. has them."""
        device = generator.device
        tensors = {}
        for name, shape in self._shapes().items():
            std = (2 / sum(shape)) ** 0.5 if len(shape) == 2 else 1e-3
            tensors[name] = std * torch.randn(shape, generator=generator, device=device)
        return tensors

    def _copied(self, tensors: object, device: torch.device) -> dict[str, Tensor]:
        fresh = type(self)(self.config, self.n_items).restore(cast(dict[str, Tensor], tensors))
        return {name: t.detach().to(device, copy=True) for name, t in fresh.tensors().items()}

    def _activate(self, x: Tensor) -> Tensor:
        return cast(Tensor, ACTIVATIONS[self.config.activation](x))

    def _encoded(self, p: dict[str, Tensor], bags: Bags) -> Tensor:
        """The last encoder layer's output, (B, code width), of normalised bags."""
        x = F.embedding_bag(
            bags.columns, p["encoder.0.weight"], bags.offsets, mode="sum", per_sample_weights=bags.weights
        )  # (B, H_0)
        x = x + p["encoder.0.bias"]
        for j in range(1, len(self.config.hidden) + 1):
            x = F.linear(self._activate(x), p[f"encoder.{j}.weight"], p[f"encoder.{j}.bias"])
        return x

    def _queried(self, p: dict[str, Tensor], z: Tensor) -> Tensor:
        """The hidden decoder layers, (B, Z) -> (B, H)."""
        for j in range(len(self.config.hidden)):
            z = self._activate(F.linear(z, p[f"decoder.{j}.weight"], p[f"decoder.{j}.bias"]))
        return z

    def _logits(self, p: dict[str, Tensor], z: Tensor) -> Tensor:
        return F.linear(self._queried(p, z), p[f"{self._last}.weight"], p[f"{self._last}.bias"]).float()  # (B, I)

    def query(self, z: Tensor) -> Tensor:
        self._require_fitted()
        return self._queried(self._tensors, z)

    def head(self) -> tuple[Tensor, Tensor]:
        self._require_fitted()
        return self._tensors[f"{self._last}.weight"], self._tensors[f"{self._last}.bias"]
