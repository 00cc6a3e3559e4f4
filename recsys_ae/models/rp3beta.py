"""RP3beta: three steps of a random walk, with a penalty on popular items (Paudel, Christoffel, Newell, Bernstein 2017,
Updatable, Accurate, Diverse, and Scalable Recommendations for Interactive Applications; alpha of Cooper et al. 2014)."""

from typing import Annotated, ClassVar

from pydantic import Field, PositiveInt
from scipy.sparse import csr_array, vstack

from recsys_ae.models.base import ModelConfig
from recsys_ae.models.neighbours import ItemNeighbours, inverse, scaled, strongest, without_diagonal
from recsys_ae.models.search import Search

BLOCK = 1024  # items whose walks are held at once


class RP3BetaConfig(ModelConfig):
    """Defaults chosen on validation users; see docs/experiments.md."""

    alpha: Annotated[float, Field(gt=0), Search(0.3, 2.0)] = 0.7  # exponent of each step's probability
    # exponent of the popularity that a walk's end is divided by
    beta: Annotated[float, Field(ge=0), Search(0.0, 1.0)] = 0.3
    neighbours: Annotated[PositiveInt, Search(10, 1000, log=True)] = 200  # of each item


class RP3Beta(ItemNeighbours):
    """Walk from an item j of the history to a user who met it and on to another item i: the sum over users u of

        s_ji = sum_u (x_uj / pop_j)^alpha (x_ui / len_u)^alpha / pop_i^beta

    Each item i keeps the `neighbours` likeliest beginnings j; then the s_j of each j are divided by their sum.
    """

    Config: ClassVar[type[ModelConfig]] = RP3BetaConfig
    config: RP3BetaConfig

    @property
    def _most(self) -> int:
        return self.config.neighbours

    def _similarity(self, train: csr_array) -> csr_array:
        by_item = train.T.tocsr()  # (I, U)
        popularity = by_item.sum(1)
        from_user = _probabilities(train, self.config.alpha)  # (U, I)
        from_item = _probabilities(by_item, self.config.alpha)  # (I, U)
        to_items, to_users = from_user.T.tocsr(), from_item.T.tocsr()  # (I, U), (U, I)
        blocks = []
        for start in range(0, len(popularity), BLOCK):
            ends = csr_array(
                to_items[start : start + BLOCK] @ to_users
            )  # the walks that end in these items, by their beginning
            ends.sort_indices()
            kept = strongest(without_diagonal(ends, start), self.config.neighbours)
            blocks.append(scaled(kept, inverse(popularity[start : start + BLOCK] ** self.config.beta)))
        walks = csr_array(vstack(blocks))  # by end
        return csr_array(scaled(walks.T.tocsr(), inverse(walks.sum(0))).T.tocsr())


def _probabilities(matrix: csr_array, alpha: float) -> csr_array:
    """Rows divided by their sum, each entry to the power of alpha, in float64."""
    shares = scaled(matrix, inverse(matrix.sum(1)))
    return csr_array((shares.data**alpha, shares.indices, shares.indptr), shares.shape)
