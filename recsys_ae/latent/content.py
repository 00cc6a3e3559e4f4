"""Cold items: a ridge map from what is known of an item to the row that training would have given it (Gantner, Drumond,
Freudenthaler, Rendle, Schmidt-Thieme 2010, Learning Attribute-to-Feature Mappings for Cold-Start Recommendations)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recsys_ae.artifact import Artifact
from recsys_ae.errors import DataError, ModelError
from recsys_ae.ids import Id, IdMap
from recsys_ae.items import ItemMetadata
from recsys_ae.latent.features import ItemFeatures
from recsys_ae.models.base import Recommender
from recsys_ae.models.ease import DenseItemWeights
from recsys_ae.models.ensemble import Ensemble, as_members
from recsys_ae.models.neighbours import ItemNeighbours
from recsys_ae.models.user_knn import UserKNN

Floats = NDArray[np.float64]

STRENGTHS = tuple(10.0**power for power in range(-3, 4))
"""Regularisations that are tried, in units of the mean eigenvalue of the features' covariance."""
OUTPUTS = 256  # columns by which a regularisation is chosen, random projections of them where there are more


@dataclass(frozen=True)
class Fit:
    """How well a tensor's rows follow from the features: the regularisation chosen, and the share of the rows' variance
    that is explained where each item is left out of its own map (1 all, 0 no better than the mean row)."""

    regularisation: float
    explained: float


@dataclass(frozen=True)
class FeatureMap:
    """Rows (n, R) = offset + (features (n, D) - mean) @ coefficients."""

    mean: Floats
    offset: Floats
    coefficients: Floats
    fit: Fit

    def __call__(self, values: NDArray[np.floating]) -> Floats:
        return self.offset + (values - self.mean) @ self.coefficients


class Ridge:
    """Ridge regression on features (n, D) of items with weights (n,), decomposed once for many targets.

    The regularisation is chosen by the exact leave-one-out error over the items, that of the hat matrix (Allen 1974, The
    Relationship between Variable Selection and Data Augmentation); the offset is not regularised.
    """

    def __init__(self, values: NDArray[np.floating], weights: Floats) -> None:
        self.shares = weights / weights.sum()
        self.mean = self.shares @ values
        centred = values - self.mean
        spectrum, self.vectors = np.linalg.eigh((centred * self.shares[:, None]).T @ centred)
        self.spectrum = spectrum.clip(0)
        self.rotated = centred @ self.vectors  # (n, D)

    def map(self, rows: NDArray[np.floating]) -> FeatureMap:
        """The map to rows (n, R)."""
        offset = self.shares @ rows
        centred = rows - offset
        judged = centred
        if centred.shape[1] > OUTPUTS:  # squared lengths stay what they are, in expectation (Johnson, Lindenstrauss 1984)
            judged = centred @ np.random.default_rng(0).normal(0, OUTPUTS**-0.5, (centred.shape[1], OUTPUTS))
        covered = self.rotated.T @ (judged * self.shares[:, None])  # (D, R)
        unit = max(float(self.spectrum.mean()), 1e-12)
        errors = [self._error(judged, covered, unit * strength) for strength in STRENGTHS]
        best = int(np.argmin(errors))
        alone = float(self.shares @ ((judged / (1 - self.shares)[:, None]) ** 2).sum(1))  # of the mean of the others
        inverse = 1 / (self.spectrum + unit * STRENGTHS[best])
        coefficients = self.vectors @ (inverse[:, None] * (self.rotated.T @ (centred * self.shares[:, None])))
        return FeatureMap(self.mean, offset, coefficients, Fit(STRENGTHS[best], 1 - errors[best] / max(alone, 1e-300)))

    def _error(self, rows: Floats, covered: Floats, regularisation: float) -> float:
        """The weighted squared error (each item's row from the map of all others)."""
        inverse = 1 / (self.spectrum + regularisation)
        leverage = self.shares * (1 + (self.rotated**2) @ inverse)
        missed = rows - self.rotated @ (inverse[:, None] * covered)
        return float(self.shares @ ((missed / (1 - leverage).clip(1e-6)[:, None]) ** 2).sum(1))


@dataclass(frozen=True)
class Placed:
    """A model that knows cold items, and how well each tensor's rows followed from the features."""

    model: Recommender
    fits: dict[str, Fit]


class Placement:
    """Gives models over one catalogue rows for their cold columns (C,), as their features say; all other rows stay.

    The map is learnt from the columns of positive weight that are not cold. A tied row serves encoder and decoder alike; in an
    untied model each has a map of its own, so that a cold item counts in a history too. A linear model's row and column of
    item-item weights are mapped; a neighbour model's list of neighbours is, and there a cold item says nothing of others.

    Args:
        values: features (I, D).
        cold: columns to fill.
        weights: how much each item's own row is to be believed (I,); 0 leaves it out.

    Raises DataError with less than two items to learn from.
    """

    def __init__(self, values: NDArray[np.floating], cold: NDArray[np.integer], weights: NDArray[np.floating]) -> None:
        warm = weights > 0
        warm[cold] = False
        if warm.sum() < 2:
            raise DataError(f"{int(warm.sum())} items with features and users; expected at least two to learn a map from")
        self._ridge = Ridge(values[warm], weights[warm].astype(np.float64))
        self._warm = torch.from_numpy(warm)
        self._asked = values[cold]
        self._columns = torch.from_numpy(np.asarray(cold, np.int64))

    def __call__(self, model: Recommender) -> Placed:
        """The model with its cold items; it is itself left as it was. Raises ModelError where it has no rows of items, an
        ensemble where no member has."""
        if isinstance(model, Ensemble):
            return self._members_of(model)
        tensors = {name: tensor.detach().cpu().clone() for name, tensor in model.tensors().items()}
        fits: dict[str, Fit] = {}

        def rows_for(name: str, rows: Tensor) -> Tensor:
            """What rows (I, R) of the warm items say of the cold ones, (C, R)."""
            learnt = self._ridge.map(rows[self._warm].double().numpy())
            fits[name] = learnt.fit
            return torch.from_numpy(learnt(self._asked)).float()

        _fill(model, tensors, self._columns, rows_for)
        own = {name: tensor.to(model.device) for name, tensor in tensors.items()}
        return Placed(type(model)(model.config, model.n_items).restore(own), fits)

    def _members_of(self, model: Ensemble) -> Placed:
        placed = [self._or_as_it_is(member) for member in model.members]
        weights = model.tensors()["weights"].tolist()
        if not any(each.fits for each, weight in zip(placed, weights, strict=True) if weight):
            raise ModelError("no member of the ensemble that counts keeps a row of numbers for each item; nothing to map to")
        fits = {f"members.{n}.{name}": fit for n, each in enumerate(placed) for name, fit in each.fits.items()}
        tensors = model.tensors() | as_members(each.model.tensors() for each in placed)
        return Placed(Ensemble(model.config, model.n_items).restore(tensors), fits)

    def _or_as_it_is(self, member: Recommender) -> Placed:
        """A member without rows of items goes on knowing nothing of cold ones, as long as others do."""
        try:
            return self(member)
        except ModelError:
            return Placed(member, {})


def placeable(model: Recommender) -> bool:
    """Whether a model, fitted or not, has rows of items that cold ones can be given; of an ensemble, whether a member has."""
    return any(map(placeable, model.members)) if isinstance(model, Ensemble) else not isinstance(model, UserKNN)


def _fill(model: Recommender, tensors: dict[str, Tensor], columns: Tensor, rows_for: Callable[[str, Tensor], Tensor]) -> None:
    """Put what `rows_for` says of the columns (C,) into a model's tensors."""
    if isinstance(model, DenseItemWeights):
        weight = tensors["weights"]
        weight[columns] = rows_for("rows", weight)
        weight[:, columns] = rows_for("columns", weight.T.contiguous()).T
        weight[columns, columns] = 0
    elif isinstance(model, ItemNeighbours):
        dense = rows_for("similarities", _similarities(tensors))
        dense[:, columns] = 0
        kept = dense.abs().topk(tensors["neighbours"].shape[1], dim=1).indices
        tensors["neighbours"][columns] = kept.int()
        tensors["similarities"][columns] = dense.gather(1, kept)
        tensors["bias"][columns] = rows_for("bias", tensors["bias"][:, None])[:, 0]
    else:
        for name, axis in model.layout().items():
            if axis is None:
                continue
            tensor = tensors[name]
            if axis != 0 or not tensor.is_floating_point():
                raise ModelError(f"{type(model).__name__} keeps no row of numbers for each item ({name}); nothing to map to")
            found = rows_for(name, tensor.flatten(1) if tensor.ndim > 1 else tensor[:, None])
            tensor[columns] = found.view(len(columns), *tensor.shape[1:]).to(tensor.dtype)


def _similarities(tensors: Mapping[str, Tensor]) -> Tensor:
    """The neighbours' similarities as a dense matrix (I, I)."""
    n = len(tensors["neighbours"])
    return torch.zeros(n, n).scatter_add_(1, tensors["neighbours"].long(), tensors["similarities"])


@dataclass(frozen=True, eq=False)
class Extended:
    """An artefact with cold items, which they are, and how well each tensor's rows followed from the features."""

    artifact: Artifact
    cold: tuple[Id, ...]
    fits: dict[str, Fit] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """For a manifest."""
        explained = {name: round(fit.explained, 4) for name, fit in self.fits.items()}
        regularisation = {name: fit.regularisation for name, fit in self.fits.items()}
        return {"cold_items": len(self.cold), "explained": explained, "regularisation": regularisation}


def extend(
    artifact: Artifact,
    features: ItemFeatures,
    titles: Mapping[Id, str] | None = None,
    categories: Mapping[Id, tuple[str, ...]] | None = None,
) -> Extended:
    """The artefact with the items of `features` that it does not have, at the end of its catalogue, popularity 0.

    Items of it that nobody has met (popularity 0, those of an earlier extension too) are placed anew where they have features.
    Each warm item counts by the root of its number of users, where that is known (docs/content.md). Without a cold item the
    artefact comes back as it is.

    Raises DataError where ids are of another kind or too few items are there to learn from; ModelError as `Placement` does.
    """
    new = tuple(id_ for id_ in features.items.ids if id_ not in artifact.items)
    if new and len(artifact.items) and features.items.kind != artifact.items.kind:
        raise DataError(f"features of {features.items.kind} ids; the catalogue has {artifact.items.kind} ids")
    items = IdMap(artifact.items.ids + new)
    metadata = _longer(artifact.metadata, len(artifact.items), new, titles or {}, categories or {})
    values, known = features.over(items)
    popularity = np.array(metadata.popularity or [1] * len(artifact.items) + [0] * len(new), np.float64)
    cold = np.flatnonzero(known & (popularity == 0))
    if not len(cold):
        return Extended(artifact, ())
    placed = Placement(values, cold, np.where(known, np.sqrt(popularity), 0))(widened(artifact.model, len(items)))
    made = Artifact(artifact.name, placed.model, items, metadata, artifact.preprocessing, dict(artifact.manifest))
    found = Extended(made, tuple(items.at(cold)), placed.fits)
    made.manifest["content"] = found.facts()
    return found


def widened(model: Recommender, n_items: int) -> Recommender:
    """The model over a longer catalogue, whose new items have rows of zeros."""
    wider = type(model)(model.config, n_items)
    if isinstance(model, Ensemble):
        return wider.restore(model.tensors() | as_members(widened(member, n_items).tensors() for member in model.members))
    new, tensors = n_items - model.n_items, model.tensors()
    for name, axis in model.layout().items():
        axes = (0, 1) if isinstance(model, DenseItemWeights) else () if axis is None else (axis,)
        for each in axes:
            shape = list(tensors[name].shape)
            shape[each] = new
            tensors[name] = torch.cat([tensors[name], tensors[name].new_zeros(shape)], each)
    return wider.restore(tensors)


def _longer(
    metadata: ItemMetadata,
    n_items: int,
    new: tuple[Id, ...],
    titles: Mapping[Id, str],
    categories: Mapping[Id, tuple[str, ...]],
) -> ItemMetadata:
    """Of items to which new ones are added; what was not known of any of them becomes an entry of nothing."""
    if not metadata.popularity and not titles and not categories:
        return metadata
    return ItemMetadata(
        (metadata.titles or (None,) * n_items) + tuple(titles.get(i) for i in new),
        (metadata.categories or ((),) * n_items) + tuple(categories.get(i, ()) for i in new),
        (metadata.popularity or (1,) * n_items) + (0,) * len(new),
        (metadata.last_seen or (None,) * n_items) + (None,) * len(new),
    )
