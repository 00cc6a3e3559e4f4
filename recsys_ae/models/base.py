"""The one interface. A model scores items from histories; it knows nothing of ids, files, masks or top-k."""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Self

import torch
from pydantic import BaseModel, ConfigDict
from torch import Generator, Tensor

from recsys_ae.errors import NotFittedError, WidthError
from recsys_ae.histories import Histories, Holdout
from recsys_ae.products import Factors, products
from recsys_ae.training.batches import Bags, DeviceHistories, Rows
from recsys_ae.training.device import resolve_device
from recsys_ae.training.run import FitRecord, RunContext


class ModelConfig(BaseModel):
    """Hyperparameters of a model: each on one line, frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Recommender(ABC):
    """Scores items from a history."""

    Config: ClassVar[type[ModelConfig]]
    rows: ClassVar[Rows] = DeviceHistories  # what a batch is made of
    linear: ClassVar[bool] = False  # score(x) - score(0) is linear in the weights x of the history

    def __init__(self, config: Any, n_items: int) -> None:
        self.config = config
        self.n_items = n_items
        self._tensors: dict[str, Tensor] = {}

    @abstractmethod
    def fit(self, train: Histories, *, validation: Holdout | None, run: RunContext) -> FitRecord:
        """Learn from histories (B, I). Forgets an earlier fit; leaves its input and the global generator untouched."""

    @abstractmethod
    def _score(self, histories: Histories, items: Tensor | None) -> Tensor: ...

    @abstractmethod
    def layout(self) -> dict[str, int | None]:
        """The item axis of each tensor; None where it has none."""

    @property
    def by_item(self) -> frozenset[str]:
        """The tensors whose first axis is items."""
        return frozenset(name for name, axis in self.layout().items() if axis == 0)

    def score(self, histories: Histories, items: Tensor | None = None) -> Tensor:
        """Scores (B, I) float32, finite, of all items, or of the columns `items` (J,) int64 alone, (B, J). Pure.

        Raises NotFittedError before `fit` or `restore`; WidthError for histories over another number of items.
        """
        self._require_fitted()
        self._require_width(histories)
        with torch.no_grad():
            return self._score(histories, items)

    def factors(self, histories: Histories) -> Factors | None:
        """The scores of histories (B, I) as inner products, where they are; weight and bias are the same for all histories.

        Raises what `score` raises.
        """
        self._require_fitted()
        self._require_width(histories)
        with torch.no_grad():
            return self._factors(histories)

    def _factors(self, histories: Histories) -> Factors | None:
        return None

    def tensors(self) -> dict[str, Tensor]:
        """All that must be saved, by name. Nothing has a user axis. Raises NotFittedError."""
        self._require_fitted()
        return dict(self._tensors)

    def restore(self, tensors: Mapping[str, Tensor]) -> Self:
        """Take over what `tensors` gave, on the device they are on. Raises WidthError where one does not fit."""
        layout = self.layout()
        if set(tensors) != set(layout):
            missing, unknown = sorted(set(layout) - set(tensors)), sorted(set(tensors) - set(layout))
            raise WidthError(f"tensors do not fit {type(self).__name__}: missing {missing}, unknown {unknown}")
        for name, axis in layout.items():
            if axis is not None and tensors[name].shape[axis] != self.n_items:
                raise WidthError(f"tensor {name} has {tensors[name].shape[axis]} items; the model has {self.n_items}")
        self._tensors = dict(tensors)
        return self

    def initial(self, generator: Generator) -> dict[str, Tensor]:
        """What a cold fit begins with, drawn anew, by the names of `tensors`: all that RunContext.initial can replace.

        Empty for a model that is solved, counted or fitted elsewhere; its `fit` takes no notice of RunContext.initial.
        """
        return {}

    @property
    def device(self) -> torch.device:
        """Where the tensors are, and scores come to be. Raises NotFittedError."""
        self._require_fitted()
        return next(iter(self._tensors.values())).device

    @property
    def n_parameters(self) -> int:
        """Numbers that were learnt."""
        return sum(t.numel() for t in self.tensors().values())

    def _require_fitted(self) -> None:
        if not self._tensors:
            raise NotFittedError(f"{type(self).__name__} is not fitted; call fit or restore first")

    def _require_width(self, histories: Histories) -> None:
        if histories.n_items != self.n_items:
            raise WidthError(f"histories over {histories.n_items} items; the model has {self.n_items}")

    def _bags(self, histories: Histories) -> Bags:
        """Histories on the device of the tensors."""
        return self.rows(histories, self.device).whole()


class FactorRecommender(Recommender):
    """A model whose scores are inner products."""

    @abstractmethod
    def _factors(self, histories: Histories) -> Factors: ...

    def _score(self, histories: Histories, items: Tensor | None) -> Tensor:
        return products(self._factors(histories), items)


class DirectRecommender(Recommender):
    """A model that is learnt on the CPU in one go, without early stopping."""

    @abstractmethod
    def _learn(self, train: Histories, seed: int) -> dict[str, Tensor]:
        """The tensors, on the CPU."""

    @property
    def _iterations(self) -> int:
        """Rounds over the data, 0 where nothing is iterated."""
        return 0

    def fit(self, train: Histories, *, validation: Holdout | None, run: RunContext) -> FitRecord:
        self._require_width(train)
        begin = time.perf_counter()
        device = resolve_device(run.device)
        self.restore({name: tensor.to(device) for name, tensor in self._learn(train, run.seed).items()})
        seconds = {"training": time.perf_counter() - begin}
        return FitRecord(best_epoch=self._iterations, epochs=self._iterations, device=str(device), seconds=seconds)


class Latent(NamedTuple):
    """A batch of codes: mean (B, Z), and log variance (B, Z) where the encoder is probabilistic."""

    mean: Tensor
    log_variance: Tensor | None = None


class LatentRecommender(FactorRecommender):
    """Every autoencoder: a history becomes a code, a code becomes scores = query(code) @ W.T + b."""

    @abstractmethod
    def encode(self, histories: Histories) -> Latent:
        """The codes of histories (B, I)."""

    @abstractmethod
    def query(self, z: Tensor) -> Tensor:
        """What enters the last layer, (B, H), from codes (B, Z)."""

    @abstractmethod
    def head(self) -> tuple[Tensor, Tensor]:
        """The last layer: item rows W (I, H) and bias b (I,)."""

    def sample(self, histories: Histories, generator: Generator) -> Tensor:
        """A draw of the scores (B, I) from the code's distribution; `score` itself never draws."""
        self._require_fitted()
        self._require_width(histories)
        with torch.no_grad():
            latent = self.encode(histories)
            z = latent.mean
            if latent.log_variance is not None:
                noise = torch.randn(z.shape, generator=generator, device=z.device)
                z = z + noise * (0.5 * latent.log_variance).exp()
            return products(Factors(self.query(z), *self.head()))

    def _factors(self, histories: Histories) -> Factors:
        return Factors(self.query(self.encode(histories).mean), *self.head())
