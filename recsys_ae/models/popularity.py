"""Popularity: the same list for everyone. What every model has to beat."""

from typing import ClassVar

import torch
from torch import Tensor

from recsys_ae.histories import Histories, Holdout
from recsys_ae.models.base import ModelConfig, Recommender
from recsys_ae.training.device import resolve_device
from recsys_ae.training.run import FitRecord, RunContext


class PopularityConfig(ModelConfig):
    """Nothing to choose."""


class Popularity(Recommender):
    """Score of an item: the sum of its weights over all training histories."""

    Config: ClassVar[type[ModelConfig]] = PopularityConfig
    config: PopularityConfig

    def fit(self, train: Histories, *, validation: Holdout | None, run: RunContext) -> FitRecord:
        self._require_width(train)
        totals = torch.zeros(self.n_items, dtype=torch.float64)
        totals.index_add_(0, torch.from_numpy(train.items.astype("int64")), torch.from_numpy(train.weights.astype("float64")))
        device = resolve_device(run.device)
        self._tensors = {"popularity": totals.float().to(device)}
        return FitRecord(device=str(device))

    def _score(self, histories: Histories, items: Tensor | None) -> Tensor:
        popularity = self._tensors["popularity"]
        if items is not None:
            popularity = popularity[items.to(popularity.device)]
        return popularity.repeat(len(histories), 1)

    def layout(self) -> dict[str, int | None]:
        return {"popularity": 0}
