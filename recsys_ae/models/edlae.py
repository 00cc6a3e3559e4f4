"""EDLAE: a linear autoencoder under dropout, emphasised on what was dropped, in closed form (Steck 2020, Autoencoders that
Don't Overfit towards the Identity), with data-adaptive normalisation (Park, Yoon, Choi, Lee 2025, Why is Normalization
Necessary for Linear Recommenders?)."""

from typing import ClassVar

import torch
from torch import Tensor

from recsys_ae.histories import Histories
from recsys_ae.models.base import ModelConfig
from recsys_ae.models.ease import DenseItemWeights, item_weights
from recsys_ae.models.linear import LinearConfig


class EDLAEConfig(LinearConfig):
    """Defaults chosen on validation users; see docs/experiments.md."""


class EDLAE(DenseItemWeights):
    """scores = x D^a B D^-a, B = -P / diag(P) with a zero diagonal, P = (G + ridge)^-1 (Steck 2020, eq. 8 with b = 0)."""

    Config: ClassVar[type[ModelConfig]] = EDLAEConfig
    config: EDLAEConfig

    def _learn(self, train: Histories, seed: int) -> dict[str, Tensor]:
        weights = item_weights(self.config.weighted(train.matrix), self.config.ridge)
        popularity = self.config.popularity(train.matrix)
        weights *= popularity[:, None]
        weights /= popularity
        return {"weights": torch.from_numpy(weights)}
