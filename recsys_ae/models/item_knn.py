"""ItemKNN: item-based nearest neighbours (Sarwar et al. 2001; Deshpande, Karypis 2004), found by implicit."""

from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt
from scipy.sparse import csr_array, csr_matrix

from recsys_ae.models.base import ModelConfig
from recsys_ae.models.neighbours import ItemNeighbours, inverse, scaled, strongest, without_diagonal
from recsys_ae.models.search import Choice, Search


class ItemKNNConfig(ModelConfig):
    """Defaults chosen on validation users; see docs/experiments.md."""

    neighbours: Annotated[PositiveInt, Search(10, 1000, log=True)] = 50  # of each item
    # implicit's, with its constants
    similarity: Annotated[Literal["cosine", "tfidf", "bm25"], Choice("cosine", "tfidf", "bm25")] = "tfidf"
    score: Annotated[Literal["average", "sum"], Choice("average", "sum")] = "average"


class ItemKNN(ItemNeighbours):
    """Score of item i: the similarities s_ij to the items j of the history among the `neighbours` most similar to i, as a

    sum:     sum_j s_ij x_j
    average: m_i + sum_j s_ij (x_j - m_j) / sum_j s_ij over all neighbours j, m_i the mean of column i (Sarwar et al., 3.2.1)
    """

    Config: ClassVar[type[ModelConfig]] = ItemKNNConfig
    config: ItemKNNConfig

    @property
    def _most(self) -> int:
        return self.config.neighbours

    def _similarity(self, train: csr_array) -> csr_array:
        from implicit import nearest_neighbours as implicit  # slow to import, and absent where only autoencoders are used

        weigh = {
            "cosine": implicit.normalize,
            "tfidf": lambda by_item: implicit.normalize(implicit.tfidf_weight(by_item)),
            "bm25": lambda by_item: implicit.bm25_weight(by_item, K1=1.2, B=0.75),
        }
        by_item = csr_matrix(train.astype("float64")).T
        engine = implicit.ItemItemRecommender(K=self.config.neighbours + 1)  # the item itself is one of them
        engine.fit(csr_matrix(weigh[self.config.similarity](by_item).T), show_progress=False)
        similarity = csr_array(engine.similarity)
        similarity.sum_duplicates()
        nearest = strongest(without_diagonal(similarity), self.config.neighbours)
        return nearest if self.config.score == "sum" else scaled(nearest, inverse(nearest.sum(1)))

    def _bias(self, train: csr_array, similarity: csr_array) -> NDArray[np.float64]:
        if self.config.score == "sum":
            return np.zeros(self.n_items)
        means = train.sum(0) / max(train.shape[0], 1)
        return np.asarray(means - similarity @ means)
