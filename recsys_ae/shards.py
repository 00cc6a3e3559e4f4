"""Lists of a model whose items are shared out among ranks: each finds the best of its own; the best of these are the best."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from recsys_ae.histories import Histories
from recsys_ae.products import products
from recsys_ae.ranking import SCORES_PER_BATCH, Ranking, rank_scores
from recsys_ae.training.ranks import Ranks

if TYPE_CHECKING:
    from recsys_ae.models.base import LatentRecommender


def rank_by_shards(
    model: "LatentRecommender", histories: Histories, k: int, *, allow: NDArray[np.bool_] | None = None, ranks: Ranks
) -> Ranking:
    """As `rank_top_k` of the whole model, on every rank the same; `model` has the rows of this rank's items. All ranks call it
    together."""
    own = ranks.mine(histories.n_items)
    columns = np.full(histories.n_items, -1, np.int32)
    n_own = len(columns[own])
    columns[own] = np.arange(n_own)
    most_own = max(1, -(-histories.n_items // ranks.size))  # of any rank: all must go by the same blocks
    batch = max(1, min(4_096, SCORES_PER_BATCH[model.device.type] // most_own))
    found = []
    for start in range(0, len(histories), batch):
        rows = histories.take(slice(start, start + batch))
        with torch.no_grad():
            scores = products(model.factors(rows))  # type: ignore[arg-type]
        best = rank_scores(scores, rows.remap(columns, n_own), min(k, n_own), allow=None if allow is None else allow[own])
        found.append(_merged(best, k, ranks))
    items, values = zip(*found, strict=True) if found else ((torch.empty(0, k),),) * 2
    return Ranking(torch.cat(items).int().numpy(), torch.cat(values).numpy())


def _merged(best: Ranking, k: int, ranks: Ranks) -> tuple[Tensor, Tensor]:
    """Items and scores (B, k) of all ranks' best, descending, ties by column; what is missing is -1, with -inf."""
    n_rows, width = best.items.shape
    widest = int(torch.cat(ranks.of_all(torch.tensor([width]))).max())
    items = torch.full((n_rows, widest), -1, dtype=torch.int64)
    scores = torch.full((n_rows, widest), -torch.inf)
    items[:, :width] = torch.from_numpy(np.where(best.items < 0, -1, best.items.astype(np.int64) * ranks.size + ranks.rank))
    scores[:, :width] = torch.from_numpy(best.scores)
    items, scores = torch.cat(ranks.of_all(items), 1), torch.cat(ranks.of_all(scores), 1)
    by_column = items.argsort(dim=1, stable=True)
    order = by_column.gather(1, scores.gather(1, by_column).argsort(dim=1, descending=True, stable=True))[:, :k]
    items, scores = items.gather(1, order), scores.gather(1, order)
    short = (0, max(0, k - items.shape[1]))
    return F.pad(items.where(~scores.isneginf(), -1), short, value=-1), F.pad(scores, short, value=-torch.inf)
