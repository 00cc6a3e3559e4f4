"""ALS: weighted matrix factorisation (Hu, Koren, Volinsky 2008), fitted by implicit; histories are folded in by us."""

from typing import Annotated, ClassVar

import torch
from pydantic import Field, PositiveInt
from scipy.sparse import csr_matrix
from torch import Tensor

from recsys_ae.histories import Histories
from recsys_ae.models.base import DirectRecommender, FactorRecommender, ModelConfig
from recsys_ae.models.search import Search
from recsys_ae.products import Factors

SYSTEMS = 2**23  # entries of the users' systems that are solved at once: 32 MiB


class ALSConfig(ModelConfig):
    """implicit's names in our spelling."""

    factors: Annotated[PositiveInt, Search(16, 512, log=True)] = 128
    regularisation: Annotated[float, Field(gt=0), Search(0.1, 300.0, log=True)] = 30.0
    # confidence of an interaction of weight 1; at least 1 is meant
    alpha: Annotated[float, Field(gt=0), Search(1.0, 50.0, log=True)] = 5.0
    iterations: Annotated[PositiveInt, Search(5, 30)] = 15


class ALS(FactorRecommender, DirectRecommender):
    """Only the item factors Y (I, F) are kept; a history x becomes a user by the exact least-squares step (eq. 4)."""

    Config: ClassVar[type[ModelConfig]] = ALSConfig
    config: ALSConfig

    @property
    def _iterations(self) -> int:
        return self.config.iterations

    def _learn(self, train: Histories, seed: int) -> dict[str, Tensor]:
        from implicit.cpu.als import AlternatingLeastSquares  # slow to import, and absent where only autoencoders are used
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1, "blas"):  # implicit threads by itself
            engine = AlternatingLeastSquares(
                factors=self.config.factors,
                regularization=self.config.regularisation,
                alpha=self.config.alpha,
                iterations=self.config.iterations,
                random_state=seed,
            )
            engine.fit(csr_matrix(train.matrix), show_progress=False)
        return {"item_factors": torch.from_numpy(engine.item_factors.copy())}

    def _factors(self, histories: Histories) -> Factors:
        factors = self._tensors["item_factors"]
        return Factors(self._fold_in(histories), factors)

    def _fold_in(self, histories: Histories) -> Tensor:
        """User factors (B, F): (Y'Y + sum_i (c_i - 1) y_i y_i' + lambda I) u = sum_i c_i y_i, with c_i = alpha x_i."""
        factors = self._tensors["item_factors"]
        width = factors.shape[1]
        base = factors.T @ factors + self.config.regularisation * torch.eye(width, device=factors.device)
        found = [factors.new_zeros(0, width)]
        for bags in self._bags(histories).batches(max(1, SYSTEMS // width**2)):
            confidence = self.config.alpha * bags.weights
            systems, targets = base.repeat(len(bags), 1, 1), factors.new_zeros(len(bags), width)  # (B, F, F), (B, F)
            bounds = [*bags.offsets.tolist(), len(bags.columns)]
            for row, (start, stop) in enumerate(zip(bounds, bounds[1:], strict=False)):
                own, c = factors[bags.columns[start:stop]], confidence[start:stop, None]
                systems[row].addmm_((own * (c - 1)).T, own)
                targets[row] = (own * c).sum(0)
            found.append(torch.linalg.solve(systems, targets))
        return torch.cat(found)

    def layout(self) -> dict[str, int | None]:
        return {"item_factors": 0}
