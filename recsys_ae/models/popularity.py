"""Popularity: the same list for everyone. What every model has to beat."""

from typing import ClassVar

import torch
from torch import Tensor

from recsys_ae.histories import Histories
from recsys_ae.models.base import DirectRecommender, ModelConfig


class PopularityConfig(ModelConfig):
    """Nothing to choose."""


class Popularity(DirectRecommender):
    """Score of an item: the sum of its weights over all training histories."""

    Config: ClassVar[type[ModelConfig]] = PopularityConfig
    config: PopularityConfig
    linear = True

    def _learn(self, train: Histories, seed: int) -> dict[str, Tensor]:
        totals = torch.zeros(self.n_items, dtype=torch.float64)
        totals.index_add_(0, torch.from_numpy(train.items.astype("int64")), torch.from_numpy(train.weights.astype("float64")))
        return {"popularity": totals.float()}

    def _score(self, histories: Histories, items: Tensor | None) -> Tensor:
        popularity = self._tensors["popularity"]
        if items is not None:
            popularity = popularity[items.to(popularity.device)]
        return popularity.repeat(len(histories), 1)

    def layout(self) -> dict[str, int | None]:
        return {"popularity": 0}
