"""UserKNN: the users most alike vote (Herlocker et al. 1999). Memory-based: what it keeps are the training histories."""

from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from recsys_ae.histories import Histories
from recsys_ae.models.base import ModelConfig
from recsys_ae.models.neighbours import NeighbourModel, product, sparse_rows
from recsys_ae.models.search import Choice, Search
from recsys_ae.training.batches import Bags

SIMILARITIES = 2**24  # of histories to training users, held at once


class UserKNNConfig(ModelConfig):
    """Defaults chosen on validation users; see docs/experiments.md."""

    neighbours: Annotated[PositiveInt, Search(10, 1000, log=True)] = 100  # users who vote
    similarity: Annotated[Literal["cosine", "idf"], Choice("cosine", "idf")] = "idf"  # idf: rare items weigh more
    exponent: Annotated[float, Field(gt=0), Search(0.5, 4.0)] = 2.0  # of the similarity


class UserKNN(NeighbourModel):
    """Score of an item: sum of sim(x, x_u)^exponent x_ui over the `neighbours` training users u most like the history x.

    The one model that keeps a row for each training user, without a name but whole: who is erased stays in it until the next
    training. Kept are the rows by item: `counts` (I,) users of each item, `users` (N,) and `weights` (N,).
    """

    Config: ClassVar[type[ModelConfig]] = UserKNNConfig
    config: UserKNNConfig

    def _learn(self, train: Histories, seed: int) -> dict[str, Tensor]:
        by_item = train.matrix.T.tocsr()
        return {
            "counts": torch.from_numpy(np.diff(by_item.indptr).astype("int64")),
            "users": torch.from_numpy(by_item.indices.astype("int32")),
            "weights": torch.from_numpy(by_item.data.astype("float32")),
        }

    def _index(self) -> None:
        counts, users, weights = (self._tensors[name] for name in ("counts", "users", "weights"))
        n_users = int(users.max()) + 1 if len(users) else 0
        items = torch.arange(self.n_items, device=counts.device).repeat_interleave(counts)
        self._by_user = sparse_rows(users, items, weights, n_users)
        self._rarity = torch.ones_like(counts, dtype=torch.float32)  # (I,)
        if self.config.similarity == "idf":
            self._rarity = torch.log((1 + n_users) / (1 + counts))
        directions = self._directions(self._by_user.whole())
        self._by_item = sparse_rows(directions.columns, directions.rows, directions.weights, self.n_items)

    def _score(self, histories: Histories, items: Tensor | None) -> Tensor:
        n_users = len(self._by_user)
        scores = [self._tensors["weights"].new_zeros(0, self.n_items)]
        size = max(1, SIMILARITIES // max(n_users, 1))
        for start in range(0, len(histories), size):
            bags = self._directions(self._bags(histories.take(slice(start, start + size))))
            similarities = product(bags, self._by_item, n_users)  # (b, U)
            scores.append(product(self._neighbours(similarities), self._by_user, self.n_items))
        found = torch.cat(scores)
        return found if items is None else found[:, items.to(found.device)]

    def _directions(self, bags: Bags) -> Bags:
        """Rows of length 1 whose products are the similarities."""
        return bags.reweighted(bags.weights * self._rarity[bags.columns]).normalised()

    def _neighbours(self, similarities: Tensor) -> Bags:
        """Each history as a bag of the users most like it, (b, U) -> b rows of at most `neighbours` entries."""
        best, users = similarities.topk(min(self.config.neighbours, similarities.shape[1]))
        rows = torch.arange(len(best), device=best.device)
        return Bags(
            users.flatten(),
            best.clamp_min(0).pow(self.config.exponent).flatten(),
            rows * best.shape[1],
            rows.repeat_interleave(best.shape[1]),
        )

    def layout(self) -> dict[str, int | None]:
        return {"counts": 0, "users": None, "weights": None}
