"""What the closed-form linear autoencoders share: the weighted item-item matrix, its ridge, and the scaling by popularity."""

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import csr_array

from recsys_ae.models.base import ModelConfig
from recsys_ae.models.neighbours import scaled
from recsys_ae.models.search import Search


class LinearConfig(ModelConfig):
    """Keys of EDLAE (Steck 2020) and of its data-adaptive normalisation (Park et al. 2025). G = X' D_user^-user_exponent X."""

    regularisation: Annotated[float, Field(gt=0), Search(0.1, 100.0, log=True)] = (
        3.0  # ridge, in units of the mean diagonal of G
    )
    dropout: Annotated[float, Field(ge=0, lt=1), Search(0.0, 0.6)] = 0.0  # p: a ridge of p / (1 - p) of the diagonal itself
    user_exponent: Annotated[float, Field(ge=0, le=1), Search(0.0, 1.0)] = 0.5  # a history weighs its sum to the minus this
    item_exponent: Annotated[float, Field(ge=-1, le=1), Search(-0.3, 0.3)] = 0.0  # of popularity: in as it is, out inverted

    def weighted(self, histories: csr_array) -> csr_array:
        """X (U, I) with rows times the root of their weight: G is its square, float32."""
        sums = np.maximum(histories.sum(1).astype(np.float64), 1e-12)
        return scaled(histories, sums ** (-self.user_exponent / 2)).astype(np.float32)

    def ridge(self, diagonal: NDArray[np.floating]) -> NDArray[np.float32]:
        """What is added to the diagonal of G, (I,)."""
        added = self.regularisation * max(float(diagonal.mean()), 1e-12) + self.dropout / (1 - self.dropout) * diagonal
        return added.astype(np.float32)

    def popularity(self, histories: csr_array) -> NDArray[np.float32]:
        """The factor of each item's row of weights, and the divisor of its column, (I,)."""
        return (np.maximum(histories.sum(0), 1e-12) ** self.item_exponent).astype(np.float32)
