"""Losses on sparse targets (multinomial, squared, logistic), and the Gaussian KL divergence."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from recsys_ae.training.batches import Bags

EXCLUDED = -1e30  # a logit of probability 0; finite, so that 0 times it is 0


class _MultinomialLoss(torch.autograd.Function):
    """Mean over the batch of sum_i x_ui * (logsumexp(logits_u) - logits_ui), without a dense target."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, bags: Bags, excluded: Tensor | None) -> Tensor:  # (B, I)
        if excluded is not None:
            logits = logits.clone()
            logits[bags.rows[excluded], bags.columns[excluded]] = EXCLUDED
        totals = bags.row_sums(bags.weights)  # (B,) N_u
        normaliser = logits.logsumexp(1)  # (B,)
        positive = bags.row_sums(bags.weights * logits[bags.rows, bags.columns])
        ctx.bags, ctx.totals = bags, totals
        ctx.save_for_backward(logits, normaliser)
        return (totals * normaliser - positive).sum() / len(bags)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None, None]:
        logits, normaliser = ctx.saved_tensors
        scale = grad[0] / len(ctx.bags)
        gradient = (logits - normaliser[:, None]).exp_().mul_((ctx.totals * scale)[:, None])
        # An item stands once in a row, so a plain write per entry is enough, and deterministic.
        gradient[ctx.bags.rows, ctx.bags.columns] -= ctx.bags.weights * scale
        return gradient, None, None


def multinomial_loss(logits: Tensor, targets: Bags, excluded: Tensor | None = None) -> Tensor:
    """Negative multinomial log-likelihood per user, Liang et al. 2018, eq. 2: logits (B, I) float32 -> scalar.

    `excluded` (N,) marks entries of `targets` whose items cannot be drawn: they leave the softmax, and weigh nothing.
    """
    if excluded is not None:
        targets = targets.reweighted(targets.weights * ~excluded)
    loss: Tensor = _MultinomialLoss.apply(logits, targets, excluded)  # type: ignore[no-untyped-call]
    return loss


def squared_loss(logits: Tensor, targets: Bags, excluded: Tensor | None = None) -> Tensor:
    """Mean over the batch of sum_i (x_ui - logits_ui)^2 over all items, zeros included: logits (B, I) float32 -> scalar.

    The dense part is that of a target of zeros; stored entries correct it. Those that `excluded` (N,) marks leave the sum.
    """
    met = logits[targets.rows, targets.columns]  # (N,)
    corrections = (met - targets.weights).square()
    if excluded is not None:
        corrections = corrections * ~excluded
    return (logits.square().sum() + (corrections - met.square()).sum()) / len(targets)


def logistic_loss(logits: Tensor, targets: Bags, excluded: Tensor | None = None) -> Tensor:
    """Mean over the batch of sum_i -x_ui log(p_ui) over met and -log(1 - p_ui) over all other items, p = sigmoid(logits).

    Shapes, and what `excluded` does, as in `squared_loss`.
    """
    met = logits[targets.rows, targets.columns]  # (N,)
    corrections = targets.weights * F.softplus(-met)
    if excluded is not None:
        corrections = corrections * ~excluded
    return (F.softplus(logits).sum() + (corrections - F.softplus(met)).sum()) / len(targets)


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(q || N(0, I)) by dimension, mean over the batch, (Z,); its sum is the prior's term of the ELBO (ibid., eq. 5)."""
    return 0.5 * (log_variance.exp() + mean.square() - 1 - log_variance).mean(0)
