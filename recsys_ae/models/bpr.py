"""BPR: matrix factorisation that ranks what was met before what was not (Rendle et al. 2009, Bayesian Personalized Ranking
from Implicit Feedback), fitted by implicit; histories are folded in by us."""

from typing import Annotated, ClassVar

import torch
from pydantic import Field, PositiveInt
from scipy.sparse import csr_matrix
from torch import Tensor

from recsys_ae.histories import Histories
from recsys_ae.models.base import DirectRecommender, FactorRecommender, ModelConfig
from recsys_ae.models.search import Search
from recsys_ae.products import Factors
from recsys_ae.training.batches import Bags, DeviceHistories
from recsys_ae.training.layers import bag_sum


class BPRConfig(ModelConfig):
    """implicit's names in our spelling."""

    factors: Annotated[PositiveInt, Search(16, 512, log=True)] = 64
    learning_rate: Annotated[float, Field(gt=0), Search(1e-3, 0.1, log=True)] = 0.01
    regularisation: Annotated[float, Field(ge=0), Search(1e-4, 0.1, log=True)] = 0.002
    iterations: Annotated[PositiveInt, Search(30, 300, log=True)] = 100


class BPR(FactorRecommender, DirectRecommender):
    """Item factors Y (I, F) and biases b (I,); a history becomes a user by the mean of its items' factors, weighted.

    Each gradient step of a user (ibid., 5.1) adds the factors of an item met and takes away those of one not met, so the mean
    of the items met points where the user's own vector would. It is shorter by a factor that is the same for all, found by
    least squares over the training users; the biases are divided by it, so that they weigh against a mean what they weighed
    against a user.
    """

    Config: ClassVar[type[ModelConfig]] = BPRConfig
    config: BPRConfig

    @property
    def _iterations(self) -> int:
        return self.config.iterations

    def _learn(self, train: Histories, seed: int) -> dict[str, Tensor]:
        from implicit.cpu.bpr import BayesianPersonalizedRanking  # slow to import, and absent where only autoencoders are used

        engine = BayesianPersonalizedRanking(
            factors=self.config.factors,
            learning_rate=self.config.learning_rate,
            regularization=self.config.regularisation,
            iterations=self.config.iterations,
            num_threads=1,  # several write over each other, each time in another order
            random_state=seed,
        )
        engine.fit(csr_matrix(train.matrix), show_progress=False)
        factors, bias = torch.from_numpy(engine.item_factors).tensor_split([self.config.factors], dim=1)
        users = torch.from_numpy(engine.user_factors)[:, : self.config.factors]  # the last of a user's factors is 1
        means = mean_factors(DeviceHistories(train, factors.device).whole(), factors)
        shortened = (means * users).sum() / means.square().sum().clamp_min(1e-12)
        return {"item_factors": factors.contiguous(), "item_bias": bias[:, 0] / (shortened if shortened > 0 else 1)}

    def _factors(self, histories: Histories) -> Factors:
        factors, bias = self._tensors["item_factors"], self._tensors["item_bias"]
        return Factors(mean_factors(self._bags(histories), factors), factors, bias)

    def layout(self) -> dict[str, int | None]:
        return {"item_factors": 0, "item_bias": 0}


def mean_factors(bags: Bags, factors: Tensor) -> Tensor:
    """The mean of the factors (I, F) of each row's items, weighted, (B, F); 0 for an empty row."""
    totals = bags.row_sums(bags.weights)
    shares = bags.weights / totals[bags.rows]
    return bag_sum(factors, bags.reweighted(shares))
