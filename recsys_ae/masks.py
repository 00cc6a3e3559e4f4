"""What may not be returned is set to -inf."""

import numpy as np
import torch
from torch import Tensor

from recsys_ae.histories import Histories


def masked_(scores: Tensor, left_out: list[Histories], banned: Tensor | None) -> Tensor:
    """Scores (B, I), in place, without the items of some histories (B, I), and without those `banned` (I,) for everyone."""
    for histories in left_out:
        mask_(scores, histories)
    if banned is not None:
        scores[:, banned] = -torch.inf
    return scores


def mask_(scores: Tensor, histories: Histories) -> None:
    """Set the scores (B, I) of the histories' items to -inf, in place: 0 would still beat a negative score."""
    rows = torch.from_numpy(histories.rows).to(scores.device)
    columns = torch.from_numpy(histories.items.astype(np.int64)).to(scores.device)
    scores[rows, columns] = -torch.inf
