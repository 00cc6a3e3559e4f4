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
SHORTEST = 8  # entries that a history is filled up to, or to the next power of two: those of one length make one product


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

    def __init__(self, config: ALSConfig, n_items: int) -> None:
        super().__init__(config, n_items)
        self._made: tuple[Tensor, Tensor, Tensor] | None = None  # of which factors, and what `_systems` gives

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
        """User factors u (B, F): (A + Y_u' D Y_u) u = Y_u' c (eq. 4), A = Y'Y + lambda I, c = alpha x, D = diag(c - 1), and Y_u
        (n, F) the items met.

        Of fewer items than factors, in n unknowns: u = A^-1 Y_u' (I + D Y_u A^-1 Y_u')^-1 c.
        """
        factors, (whole, inverse) = self._tensors["item_factors"], self._systems()
        width = factors.shape[1]
        bags = self._bags(histories)
        confidence = self.config.alpha * bags.weights
        lengths = bags.ends - bags.offsets
        padded = torch.full_like(lengths, SHORTEST)
        while (short := padded < lengths).any():
            padded[short] *= 2
        found = factors.new_zeros(len(bags), width)
        for length in sorted(set(padded.tolist())):
            step = torch.arange(length, device=factors.device)
            of_length = ((padded == length) & (lengths > 0)).nonzero().squeeze(1)
            for rows in of_length.split(max(1, SYSTEMS // (max(width, length) * width))):
                real = step < lengths[rows, None]  # (B, L)
                places = torch.where(real, bags.offsets[rows, None] + step, 0)
                own, c = factors[bags.columns[places]], confidence[places] * real  # (B, L, F), (B, L)
                more = ((c - 1) * real)[:, :, None]
                if length < width:
                    spread = own @ inverse  # (B, L, F)
                    systems = more * (spread @ own.mT) + torch.eye(length, device=factors.device)  # (B, L, L)
                    found[rows] = (torch.linalg.solve(systems, c)[:, None] @ spread).squeeze(1)
                else:
                    systems = torch.baddbmm(whole, (own * more).mT, own)  # (B, F, F)
                    found[rows] = torch.linalg.solve(systems, (c[:, None] @ own).squeeze(1))
        return found

    def _systems(self) -> tuple[Tensor, Tensor]:
        """Y'Y + lambda I and its inverse, (F, F) each, made once of the factors."""
        factors = self._tensors["item_factors"]
        if self._made is None or self._made[0] is not factors:
            whole = factors.T @ factors + self.config.regularisation * torch.eye(factors.shape[1], device=factors.device)
            self._made = factors, whole, torch.linalg.inv(whole.double()).to(factors.dtype)
        return self._made[1:]

    def layout(self) -> dict[str, int | None]:
        return {"item_factors": 0}
