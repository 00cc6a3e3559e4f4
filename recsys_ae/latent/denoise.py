"""Denoising: which interactions the rest of their history does not support."""

import numpy as np
import torch
from numpy.typing import NDArray

from recsys_ae.errors import DataError
from recsys_ae.histories import Histories
from recsys_ae.models.base import Recommender

FOLDS = 10
SCORES = 2**22
"""Held at once: 16 MiB, and as much again while they are sorted."""


def support(model: Recommender, histories: Histories, *, folds: int = FOLDS, seed: int = 0) -> NDArray[np.float32]:
    """How far the rest of its history speaks for each of N stored interactions, (N,): 1 wholly, 0 not at all.

    Each history is cut at random into `folds` parts (one interaction each where it has fewer), and the items of a part are
    scored from the other parts. The support of an item is the share of the items outside of the history that score lower,
    ties by half: of a click at random on any item, unknown to the model's training, it is spread evenly between 0 and 1.
    What stands twice in a history does not support itself.

    The score of what is left out, as denoising autoencoders learn it (Vincent et al. 2008, Extracting and Composing Robust
    Features with Denoising Autoencoders), for any model; docs/latent_denoising.md has it beside other ways to score.

    Raises DataError for fewer than two folds, and what `model.score` raises.
    """
    if folds < 2:
        raise DataError(f"folds = {folds}; expected 2 or more")
    part = _parts(histories, folds, seed)
    jobs = np.unique(histories.rows * folds + part)  # a row and the part of it to be scored
    found = np.zeros(histories.n_interactions, np.float32)
    size = max(1, SCORES // max(histories.n_items, 1))
    for start in range(0, len(jobs), size):
        rows, asked = np.divmod(jobs[start : start + size], folds)
        whole = histories.take(rows)
        entries = np.repeat(histories.indptr[rows] - whole.indptr[:-1], whole.lengths) + np.arange(whole.n_interactions)
        held = part[entries] == asked[whole.rows]
        found[entries[held]] = _shares_below(model.score(whole.select(~held)), whole, held)
    return found


def least_supported(supports: NDArray[np.float32], share: float) -> NDArray[np.bool_]:
    """The given share of all N interactions, rounded: those of least support; of equal ones the first."""
    gone = np.zeros(len(supports), np.bool_)
    gone[np.argsort(supports, kind="stable")[: round(share * len(supports))]] = True
    return gone


def _parts(histories: Histories, folds: int, seed: int) -> NDArray[np.int64]:
    """The part (N,) of each stored interaction: parts of a row differ by one item at most, and an item is in one of them."""
    keys, back = np.unique(histories.rows * histories.n_items + histories.items, return_inverse=True)
    rows = keys // max(histories.n_items, 1)
    order = np.lexsort((np.random.default_rng(seed).random(len(keys)), rows))
    starts = np.searchsorted(rows, rows)  # where each one's row begins
    part = np.empty(len(keys), np.int64)
    part[order] = (np.arange(len(keys)) - starts) % folds
    return part[back]


def _shares_below(scores: torch.Tensor, whole: Histories, held: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Of each held interaction the share of the items outside of its row that score lower; scores (b, I) are used up."""
    rows, items = (torch.tensor(each, dtype=torch.long, device=scores.device) for each in (whole.rows, whole.items))
    asked = torch.from_numpy(held).to(scores.device)
    own = scores[rows[asked], items[asked]]
    scores[rows, items] = torch.inf
    outside = scores.isfinite().sum(1)[rows[asked]]
    counts = np.bincount(whole.rows[held], minlength=len(whole))
    place = torch.from_numpy(np.arange(len(own)) - np.repeat(np.cumsum(counts) - counts, counts)).to(scores.device)
    padded = scores.new_zeros(len(whole), max(int(counts.max(initial=0)), 1))
    padded[rows[asked], place] = own
    ascending = scores.sort(1).values
    below, upto = (torch.searchsorted(ascending, padded, side=side)[rows[asked], place] for side in ("left", "right"))
    share = (below + upto) / (2 * outside.clamp(min=1))
    share[outside == 0] = 0.5  # nothing to compare with
    found: NDArray[np.float32] = share.float().cpu().numpy()
    return found
