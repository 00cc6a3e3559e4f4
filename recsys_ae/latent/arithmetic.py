"""Arithmetic on histories: one less another, and several as one group."""

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from recsys_ae.errors import DataError, WidthError
from recsys_ae.histories import Histories
from recsys_ae.models.base import LatentRecommender, Recommender
from recsys_ae.models.ensemble import comparable
from recsys_ae.products import Factors, products

GroupRule: TypeAlias = Literal["codes", "average", "least_misery"]


def less(model: Recommender, histories: Histories, others: Histories, strength: float = 1.0) -> Tensor:
    """Scores (B, I) of histories without what others, (B, I) too, stand for: "like these, but not like those".

    An autoencoder decodes z(history) - strength * (z(other) - z(nothing)), as vectors of words are subtracted (Mikolov, Yih,
    Zweig 2013, Linguistic Regularities in Continuous Space Word Representations); of another model the scores are subtracted
    in the same way. Nothing subtracted from a history leaves its scores as they are. Mask what both hold when you rank.

    Raises WidthError where there are not as many others as histories.
    """
    if len(histories) != len(others):
        raise WidthError(f"{len(others)} histories to subtract from {len(histories)}; expected as many")
    nothing = Histories.from_rows([[]], model.n_items)
    if not isinstance(model, LatentRecommender):
        return model.score(histories) - strength * (model.score(others) - model.score(nothing))
    with torch.no_grad():
        z, away, zero = (model.encode(each).mean for each in (histories, others, nothing))
        return products(Factors(model.query(z - strength * (away - zero)), *model.head()))


def blend(model: Recommender, histories: Histories, rule: GroupRule = "codes", weights: Tensor | None = None) -> Tensor:
    """Scores (1, I) for a group of users with histories (B, I).

    Args:
        rule: codes: decode the mean of the members' codes, one imagined user (autoencoders alone); average: the mean of their
            standardised scores; least_misery: an item is worth what it is to whom it is worth least (O'Connor, Cosley, Konstan,
            Riedl 2001, PolyLens; Masthoff 2004, Group Modeling).
        weights: how much each member counts (B,), not negative; the same for all where None. Least misery has none.

    Raises DataError for an empty group, weights that do not fit, or a model without codes where codes are asked for.
    """
    if not len(histories):
        raise DataError("a group of nobody; expected at least one history")
    shares = torch.ones(len(histories)) if weights is None else weights.float()
    if len(shares) != len(histories) or not (shares >= 0).all() or not shares.sum() > 0:
        raise DataError(f"weights {shares.tolist()} for {len(histories)} members; expected one each, not negative, not all 0")
    if weights is not None and rule == "least_misery":
        raise DataError("least misery takes the least score, whoever it is of; expected no weights")
    shares = (shares / shares.sum()).to(model.device)[None]
    if rule == "codes":
        if not isinstance(model, LatentRecommender):
            raise DataError(f"{type(model).__name__} has no codes to blend; expected average or least_misery")
        with torch.no_grad():
            return products(Factors(model.query(shares @ model.encode(histories).mean), *model.head()))
    scores = comparable(model.score(histories), "score")
    return shares @ scores if rule == "average" else scores.amin(0, keepdim=True)
