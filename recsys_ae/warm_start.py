"""Warm starts: a fit begins with what an earlier one learnt, mapped by item id onto the catalogue of today."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from recsys_ae.artifact import Artifact
from recsys_ae.errors import WidthError
from recsys_ae.ids import IdMap
from recsys_ae.models import MODELS, Recommender

LEARNT = 0.7  # docs/decisions/011-warm-start.md


@dataclass(frozen=True)
class WarmStart:
    """What RunContext.initial takes, and how many items both know, only the new catalogue knows, only the old one."""

    tensors: dict[str, Tensor]
    items_kept: int
    items_new: int
    items_gone: int


def warm_start(model: Recommender, items: IdMap, earlier: Artifact, seed: int, learnt: float = LEARNT) -> WarmStart:
    """What `model`, yet to be fitted over `items`, begins with where it goes on from `earlier`; the seed draws what is new.

    The share `learnt` is what `earlier` ended with, the rest a fresh beginning: a fit that goes on from the very end ranks
    worse than one that begins anew (Ash, Adams 2020, On Warm-Starting Neural Network Training, 4: shrink and perturb).

    Raises WidthError where it cannot: another model, other widths, no item in common, or a model that begins with nothing.
    """
    kind = type(model).__name__
    if type(model) is not MODELS[earlier.name]:
        raise WidthError(f"{kind} cannot start from {earlier.name}; expected the same model")
    fresh = model.initial(Generator().manual_seed(seed))
    if not fresh:
        raise WidthError(f"{kind} is not trained step by step: there is nothing to start from")
    kept = int((items.positions(earlier.items.ids) >= 0).sum())
    if not kept:
        raise WidthError(f"none of {len(items)} items is among the {len(earlier.items)} of the model to start from")
    tensors = mapped(earlier.model.tensors(), model.layout(), earlier.items, items, fresh)
    tensors = {name: torch.lerp(fresh[name], tensor.to(fresh[name].device), learnt) for name, tensor in tensors.items()}
    return WarmStart(tensors, kept, len(items) - kept, len(earlier.items) - kept)


def mapped(
    tensors: Mapping[str, Tensor], layout: Mapping[str, int | None], old: IdMap, new: IdMap, fresh: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Tensors over the items `old` as tensors over `new`: what is known of an item goes where it stands now.

    Args:
        layout: the item axis of each tensor, None where it has none.
        fresh: the tensors wanted, as freshly drawn; new items keep their rows of these.

    Raises WidthError where one is missing or of another shape or type beside the item axis.
    """
    found = {}
    to_new = torch.from_numpy(new.positions(old.ids))
    from_old = (to_new >= 0).nonzero()[:, 0]
    to_new = to_new[from_old]
    for name, start in fresh.items():
        axis = layout[name]
        known = tensors.get(name)
        if known is None or known.dtype != start.dtype or _beside(known, axis) != _beside(start, axis):
            there = "is missing" if known is None else f"is {known.dtype} {tuple(known.shape)}"
            raise WidthError(f"tensor {name} to start from {there}; the model's is {start.dtype} {tuple(start.shape)}")
        if axis is None:
            found[name] = known
        else:
            known = known.to(start.device)
            found[name] = start.index_copy(axis, to_new.to(start.device), known.index_select(axis, from_old.to(start.device)))
    return found


def _beside(tensor: Tensor, axis: int | None) -> tuple[int, ...]:
    """The shape without the item axis."""
    return tuple(n for d, n in enumerate(tensor.shape) if d != axis)
