"""ItemKNN: item-based nearest neighbours (Sarwar et al. 2001; Deshpande, Karypis 2004), found by implicit."""

from typing import ClassVar, Literal

from pydantic import PositiveInt
from scipy.sparse import csr_array, csr_matrix

from recsys_ae.models.base import ModelConfig
from recsys_ae.models.neighbours import ItemNeighbours, strongest, without_diagonal


class ItemKNNConfig(ModelConfig):
    """Defaults chosen on validation users; see docs/experiments.md."""

    neighbours: PositiveInt = 200  # of each item
    similarity: Literal["cosine", "tfidf", "bm25"] = "tfidf"  # implicit's, with its constants


class ItemKNN(ItemNeighbours):
    """Score of item i: sum of x_j sim(i, j) over the j among the `neighbours` items most similar to i."""

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
        by_item = csr_matrix((train.data.astype("float64"), train.indices, train.indptr), train.shape).T
        engine = implicit.ItemItemRecommender(K=self.config.neighbours + 1)  # the item itself is one of them
        engine.fit(csr_matrix(weigh[self.config.similarity](by_item).T), show_progress=False)
        similarity = csr_array(engine.similarity)
        similarity.sum_duplicates()
        return strongest(without_diagonal(similarity), self.config.neighbours)
