"""What is made of a model's candidates: another order, and reasons."""

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

from scipy.sparse import csr_array
from torch import Tensor

from recsys_ae.beyond import category_shares
from recsys_ae.explanation import explain
from recsys_ae.histories import Histories
from recsys_ae.ids import IdMap
from recsys_ae.items import ItemMetadata
from recsys_ae.latent.uncertainty import explored, has_posterior
from recsys_ae.models.base import Recommender
from recsys_ae.ranking import Ranking
from recsys_ae.reranking import calibrate, candidates, diversify
from service.schemas import Reason, RecommendationRequest, UserQuery


class Shape(NamedTuple):
    """What a list should be like. At most one of diversity and calibration, both from 0 to 1 like `explore`, whose draw follows
    from the seed."""

    diversity: float = 0.0
    calibration: float = 0.0
    explain: bool = False
    explore: float = 0.0
    seed: int = 0

    @property
    def takes_long(self) -> bool:
        """Whether it takes much longer than the plain list."""
        return self.explain or self.diversity > 0 or self.calibration > 0 or self.explore > 0

    def candidates(self, k: int) -> int:
        """How many items a list of k is chosen from."""
        return candidates(k) if self.diversity or self.calibration else k


def shape_of(request_id: str, asked: RecommendationRequest | UserQuery, number: int = 0) -> Shape:
    """How the number-th list of a request is asked to be; what it explores follows from the request's id."""
    seed = int.from_bytes(hashlib.sha256(f"{request_id}/{number}".encode()).digest()[:7]) if asked.explore else 0
    return Shape(asked.diversity, asked.calibration, asked.explain, asked.explore, seed)


class CannotShapeError(Exception):
    """A list cannot be made as the request's `key` asks: a history too long to explain, a model that has nothing to explore."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


@dataclass(frozen=True)
class Shaper:
    """Shapes the lists of one version. `shares` (I, G): each item's categories; `most` reasons an item."""

    model: Recommender
    items: IdMap
    shares: csr_array
    most: int
    longest: int
    explores: bool

    @classmethod
    def of(cls, model: Recommender, items: IdMap, metadata: ItemMetadata, most: int, longest: int) -> "Shaper":
        """For the items of an artefact, of which nothing may be known."""
        shares = category_shares(metadata.categories or [()] * len(items))[1]
        return cls(model, items, shares, most, longest, has_posterior(model))

    def check(self, history: Histories, shape: Shape) -> None:
        """Raises CannotShapeError."""
        if shape.explore and not self.explores:
            raise CannotShapeError("explore", "Input should be 0: the model that is served has no posterior to draw from")
        if shape.explain and history.n_interactions > self.longest:
            raise CannotShapeError("explain", f"Input should be false for a history of more than {self.longest} items")

    def drawn(self, scores: Tensor, history: Histories, shape: Shape) -> Tensor:
        """The model's scores (1, I) of a history, moved towards a draw as far as is asked for."""
        return explored(self.model, history, scores, shape.explore, shape.seed)

    def arranged(self, ranking: Ranking, history: Histories, k: int, shape: Shape) -> Ranking:
        """The list of k of the candidates (1, C)."""
        if shape.diversity:
            return diversify(self.model, ranking, k, shape.diversity)
        return calibrate(ranking, history, self.shares, k, shape.calibration) if shape.calibration else ranking

    def reasons(self, model: Recommender, ranking: Ranking, history: Histories) -> list[list[Reason]]:
        """For each item of a list (1, k) that `model` made of the history (1, I), those of the history that speak most for it.

        Empty where nothing of the history is known.
        """
        columns = ranking.row(0)[0]
        found = explain(model, history, columns)
        return [
            [Reason(item_id=self.items.ids[column], influence=value) for column, value in found.strongest(place, self.most)]
            for place in range(len(columns))
        ]
