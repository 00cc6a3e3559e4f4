"""BPR: matrix factorisation that ranks what was met before what was not (Rendle et al. 2009, Bayesian Personalized Ranking
from Implicit Feedback), fitted by implicit; histories are folded in by us."""

import time
from typing import ClassVar

import torch
from pydantic import Field, PositiveInt
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.nn import functional as F

from recsys_ae.histories import Histories, Holdout
from recsys_ae.models.base import ModelConfig, Recommender
from recsys_ae.training.device import resolve_device
from recsys_ae.training.run import FitRecord, RunContext


class BPRConfig(ModelConfig):
    """implicit's names in our spelling."""

    factors: PositiveInt = 128
    learning_rate: float = Field(0.05, gt=0)
    regularisation: float = Field(0.01, ge=0)
    iterations: PositiveInt = 100


class BPR(Recommender):
    """Item factors Y (I, F) and biases b (I,); a history becomes a user by the mean of its items' factors, weighted.

    Each gradient step of a user (ibid., 5.1) adds the factors of an item met and takes away those of one not met, so the mean of
    the items met points where the user's own vector would.
    """

    Config: ClassVar[type[ModelConfig]] = BPRConfig
    config: BPRConfig

    def fit(self, train: Histories, *, validation: Holdout | None, run: RunContext) -> FitRecord:
        self._require_width(train)
        from implicit.cpu.bpr import BayesianPersonalizedRanking  # slow to import, and absent where only autoencoders are used

        begin = time.perf_counter()
        matrix = train.matrix
        engine = BayesianPersonalizedRanking(
            factors=self.config.factors,
            learning_rate=self.config.learning_rate,
            regularization=self.config.regularisation,
            iterations=self.config.iterations,
            num_threads=1,  # several write over each other, each time in another order
            random_state=run.seed,
        )
        engine.fit(csr_matrix((matrix.data, matrix.indices, matrix.indptr), matrix.shape), show_progress=False)
        factors, bias = engine.item_factors[:, :-1], engine.item_factors[:, -1]  # a user's last factor is 1
        device = resolve_device(run.device)
        self._tensors = {
            "item_factors": torch.from_numpy(factors.copy()).to(device),
            "item_bias": torch.from_numpy(bias.copy()).to(device),
        }
        return FitRecord(
            best_epoch=self.config.iterations,
            epochs=self.config.iterations,
            device=str(device),
            seconds={"training": time.perf_counter() - begin},
        )

    def _score(self, histories: Histories, items: Tensor | None) -> Tensor:
        factors, bias = self._tensors["item_factors"], self._tensors["item_bias"]
        bags = self._bags(histories)
        totals = bags.row_sums(bags.weights).clamp_min(1e-12)  # (B,)
        users = F.embedding_bag(
            bags.columns, factors, bags.offsets, mode="sum", per_sample_weights=bags.weights / totals[bags.rows]
        )  # (B, F)
        if items is not None:
            items = items.to(factors.device)
            factors, bias = factors[items], bias[items]
        return users @ factors.T + bias

    def layout(self) -> dict[str, int | None]:
        return {"item_factors": 0, "item_bias": 0}
