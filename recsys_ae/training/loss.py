"""Losses on sparse targets (`likelihood` by name, cosine), and what priors need: normal densities, KL divergences.

A loss is a `Writer`: it **overwrites the logits with its gradient**. Of a wide catalogue they are the largest array of a step,
and there is no second one. They are worked on by blocks of rows that stay in the cache; float32 inside, whatever they are in.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from recsys_ae.training.batches import Bags
from recsys_ae.training.sampling import SampledBags

Writer: TypeAlias = Callable[[Tensor], Tensor]
"""Logits (B, I), contiguous, float32 or bfloat16, not recorded by autograd, become the gradient of a loss; returns that loss, a
scalar."""

Likelihood: TypeAlias = Literal["multinomial", "bernoulli", "gaussian", "poisson", "focal"]

EXCLUDED = -1e30  # a logit of probability 0; finite, so that 0 times it is 0
LARGEST_LOG_RATE = 20.0
# Of an item's last bias at first: a probability, or a rate, of 1 %. From 50 %, or 1, the losses of the many items not met would
# drown all else at the beginning (Lin et al. 2017, 4.1). A focal loss weighs those little by itself.
FIRST_BIAS = {"bernoulli": math.log(0.01), "poisson": math.log(0.01)}
BLOCK = {"cpu": 2**19, "cuda": 2**28}  # logits worked on at once: what a cache holds; what memory has to spare


def _blocks(logits: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Rows of the logits in float32 (or wider), written back once they have been worked on."""
    rows = max(1, BLOCK[logits.device.type] // max(1, logits.shape[1]))
    narrow = logits.dtype == torch.bfloat16
    for start in range(0, len(logits), rows):
        block = slice(start, start + rows)
        part = logits[block].float() if narrow else logits[block]
        yield block, part
        if narrow:
            logits[block] = part


class Multinomial:
    """Negative multinomial log-likelihood per user, Liang et al. 2018, eq. 2: a `Writer`.

    The mean over the batch of sum_i x_ui * (logsumexp(logits_u) - logits_ui). `excluded` (N,) marks entries of `targets` whose
    items cannot be drawn: they leave the softmax, and weigh nothing. Of a sample of the catalogue each item counts for those it
    stands for.

    Logits that would not fit into memory come by blocks of items, twice: `look` at each, the `loss` of all, then the `gradient`
    of each.
    """

    def __init__(self, targets: Bags, excluded: Tensor | None = None) -> None:
        self._targets, self._excluded = targets, excluded
        self._weights = targets.weights if excluded is None else targets.weights * ~excluded
        self._totals = targets.row_sums(self._weights)  # (B,) N_u
        self._largest = self._totals.new_full((len(targets), 1), -torch.inf)
        self._sums = torch.zeros_like(self._largest)  # of exp(logits - largest)
        self._met = torch.zeros_like(self._weights)  # (N,) logits of the entries

    def __call__(self, logits: Tensor) -> Tensor:
        rows, columns = self._targets.rows, self._targets.columns
        self._prepare(logits, rows, columns, self._excluded, slice(None))
        flat, places = logits.view(-1), rows.long() * logits.shape[1] + columns  # half the time of an index by row and column
        self._met = flat.index_select(0, places).to(self._weights.dtype)
        whole = self._targets.others is None
        for block, part in _blocks(logits):
            largest = part.amax(1, keepdim=True)
            sums = part.sub_(largest).exp_().sum(1, keepdim=True)
            self._largest[block], self._sums[block] = largest, sums
            if whole:
                part.mul_(self._totals[block, None] / (sums * len(self._targets)))
        if not whole:  # once the others' sums are known
            largest = self._largest.clone()
            self._agree()
            share = self._totals[:, None] * (largest - self._largest).exp() / (self._sums * len(self._targets))
            for block, part in _blocks(logits):
                part.mul_(share[block])
        # An item stands once in a row, so a plain write per entry is enough, and deterministic.
        less = (self._weights / len(self._targets)).to(logits.dtype)
        flat.index_copy_(0, places, flat.index_select(0, places) - less)
        return self._found()

    def look(self, logits: Tensor, items: slice) -> None:
        """Take in the logits (B, J) of a block of items, which are overwritten."""
        entries, rows, columns = self._of(logits, items)
        self._met[entries] = logits[rows, columns].to(self._weights.dtype)
        for block, part in _blocks(logits):
            before = self._largest[block]
            largest = torch.maximum(before, part.amax(1, keepdim=True))
            self._sums[block] *= (before - largest).exp()
            self._sums[block] += part.sub_(largest).exp_().sum(1, keepdim=True)
            self._largest[block] = largest

    def loss(self) -> Tensor:
        """Of all that was looked at, a scalar."""
        self._agree()
        return self._found()

    def _agree(self) -> None:
        """Take in what the ranks that have the other items have found: a softmax over all of them."""
        if (others := self._targets.others) is not None:
            own = self._largest.clone()
            others.largest(self._largest)
            self._sums *= (own - self._largest).exp()
            others.add([self._sums])

    def _found(self) -> Tensor:
        normaliser = (self._sums.log() + self._largest).squeeze(1)  # (B,)
        return (self._totals * normaliser - self._targets.row_sums(self._weights * self._met)).sum() / len(self._targets)

    def gradient(self, logits: Tensor, items: slice) -> None:
        """Overwrite the logits (B, J) of a block of items with the gradient of the loss of all."""
        entries, rows, columns = self._of(logits, items)
        for block, part in _blocks(logits):
            share = self._totals[block, None] / (self._sums[block] * len(self._targets))
            part.sub_(self._largest[block]).exp_().mul_(share)
        logits[rows, columns] -= (self._weights[entries] / len(self._targets)).to(logits.dtype)

    def _of(self, logits: Tensor, items: slice) -> tuple[Tensor, Tensor, Tensor]:
        """The entries whose items are of a block, by number, row and column there; the block is made ready."""
        found = (self._targets.columns >= items.start) & (self._targets.columns < items.stop)
        entries = found.nonzero().squeeze(1)
        rows, columns = self._targets.rows[entries], self._targets.columns[entries] - items.start
        self._prepare(logits, rows, columns, None if self._excluded is None else self._excluded[entries], items)
        return entries, rows, columns

    def _prepare(self, logits: Tensor, rows: Tensor, columns: Tensor, excluded: Tensor | None, items: slice) -> None:
        """Correct a sample's logits, all but the users' own, and take out what is excluded."""
        if isinstance(self._targets, SampledBags):
            own = logits[rows, columns]
            logits -= self._targets.log_shares[items].to(logits.dtype)
            logits[rows, columns] = own
        if excluded is not None:
            logits[rows[excluded], columns[excluded]] = EXCLUDED


def multinomial(targets: Bags, excluded: Tensor | None = None) -> Multinomial:
    """The multinomial loss of targets."""
    return Multinomial(targets, excluded)


def gaussian(targets: Bags, excluded: Tensor | None = None) -> Writer:
    """Mean over the batch of sum_i (x_ui - logits_ui)^2 over all items, zeros included: the negative log-likelihood of a
    normal distribution, Liang et al. 2018, eq. 3 with one confidence for all, up to a factor and a constant.

    Entries that `excluded` (N,) marks leave the sum.
    """

    def unmet(part: Tensor, share: float) -> Tensor:
        value = part.square().sum()
        part.mul_(2 * share)
        return value

    return _pointwise(targets, excluded, unmet, lambda x: x.square(), lambda x, y: ((y - x).square(), 2 * (x - y)))


def bernoulli(targets: Bags, excluded: Tensor | None = None) -> Writer:
    """Mean over the batch of sum_i -x_ui log(p_ui) over met and -log(1 - p_ui) over all other items, p = sigmoid(logits):
    Liang et al. 2018, eq. 4, the logistic likelihood.

    What `excluded` does, as in `gaussian`.
    """

    def unmet(part: Tensor, share: float) -> Tensor:
        value = F.softplus(part).sum()
        part.sigmoid_().mul_(share)
        return value

    return _pointwise(targets, excluded, unmet, F.softplus, lambda x, y: (y * F.softplus(-x), -y * torch.sigmoid(-x)))


def poisson(targets: Bags, excluded: Tensor | None = None) -> Writer:
    """Mean over the batch of sum_i rate_ui - x_ui log(rate_ui), rate = exp(logits), over all items: the negative
    log-likelihood of counts up to a constant (the observation model of Gopalan, Hofman, Blei 2015, Scalable Recommendation with
    Hierarchical Poisson Factorization, 2, under a log link).

    A rate is at most e^20, so that none overflows. What `excluded` does, as in `gaussian`.
    """

    def rate(x: Tensor) -> Tensor:
        return x.clamp(max=LARGEST_LOG_RATE).exp()

    def unmet(part: Tensor, share: float) -> Tensor:
        value = part.clamp_(max=LARGEST_LOG_RATE).exp_().sum()
        part.mul_(share)
        return value

    return _pointwise(targets, excluded, unmet, rate, lambda x, y: (rate(x) - y * x, rate(x) - y))


def focal(targets: Bags, excluded: Tensor | None = None, *, focus: float, balance: float) -> Writer:
    """`bernoulli` with a weight on each item: balance * (1 - p)^focus where it was met, (1 - balance) * p^focus where not (Lin
    et al. 2017, Focal Loss for Dense Object Detection, eq. 5)."""

    def against(x: Tensor) -> tuple[Tensor, Tensor]:
        """p^focus * -log(1 - p) and its gradient."""
        p, loss = x.sigmoid(), F.softplus(x)
        power = p**focus
        return power * loss, power * (focus * (1 - p) * loss + p)

    def unmet(part: Tensor, share: float) -> Tensor:
        losses, gradients = against(part)
        part.copy_(gradients.mul_((1 - balance) * share))
        return (1 - balance) * losses.sum()

    def met(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        losses, gradients = against(-x)
        return balance * y * losses, -balance * y * gradients

    return _pointwise(targets, excluded, unmet, lambda x: (1 - balance) * against(x)[0], met)


def likelihood(name: Likelihood, targets: Bags, excluded: Tensor | None, focus: float, balance: float) -> Writer:
    """The loss of that name; `focus` and `balance` are of the focal one."""
    if name == "focal":
        return focal(targets, excluded, focus=focus, balance=balance)
    return LIKELIHOODS[name](targets, excluded)


def _pointwise(
    targets: Bags,
    excluded: Tensor | None,
    unmet: Callable[[Tensor, float], Tensor],
    unmet_loss: Callable[[Tensor], Tensor],
    met_loss: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
) -> Writer:
    """A loss of each item by itself.

    `unmet` overwrites logits of items not met with a share of their gradient and returns their loss; `unmet_loss` is the same
    loss by entry, `met_loss` (logits, targets) -> loss and gradient by entry.
    """
    share = 1 / len(targets)

    def write(logits: Tensor) -> Tensor:
        met = logits[targets.rows, targets.columns].to(targets.weights.dtype)  # (N,)
        total = torch.stack([unmet(part, share) for _, part in _blocks(logits)]).sum()
        losses, gradients = met_loss(met, targets.weights)
        if excluded is not None:
            losses, gradients = losses * ~excluded, gradients * ~excluded
        logits[targets.rows, targets.columns] = (share * gradients).to(logits.dtype)
        return targets.total(share * (total + (losses - unmet_loss(met)).sum()))

    return write


LIKELIHOODS: dict[str, Callable[[Bags, Tensor | None], Writer]] = {
    "multinomial": multinomial,
    "bernoulli": bernoulli,
    "gaussian": gaussian,
    "poisson": poisson,
}


def cosine(targets: Bags, shown: Bags) -> Writer:
    """Mean over the batch of |x / |x| - y / |y||^2 = 2 - 2 cos(x, y), y = logits - shown (Vancura et al. 2022, eq. 5).

    `shown` are the same entries as the targets, with the weights that the input had.
    """

    def write(logits: Tensor) -> Tensor:
        x, s = targets.weights, shown.weights
        at = logits[targets.rows, targets.columns].to(x.dtype)  # (N,)
        product = targets.row_sums(x * (at - s))  # (B,) of x and y
        length = targets.row_sums(x.square()).clamp_min(1e-12).sqrt()
        dense = torch.cat([part.square().sum(1) for _, part in _blocks(logits)])
        other = (dense + targets.row_sums(s * (s - 2 * at))).clamp_min(1e-12).sqrt()  # |y|
        share = 2 / (length * other * len(targets))
        along = share * product / other.square()
        logits.mul_(along[:, None])
        taken = share[targets.rows] * x + along[targets.rows] * s
        logits[targets.rows, targets.columns] -= taken.to(logits.dtype)
        return (2 - 2 * product / (length * other)).mean()

    return write


class _Overwriting(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, write: Writer) -> Tensor:
        ctx.gradient = logits.detach()  # shares their version: who still needs the logits gets an error, not a wrong number
        return write(ctx.gradient)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.gradient.mul_(grad), None


def of_logits(logits: Tensor, write: Writer) -> Tensor:
    """The loss of logits (B, I) that autograd knows, a scalar; the logits are overwritten. `layers.head_loss` makes its own."""
    loss: Tensor = _Overwriting.apply(logits, write)  # type: ignore[no-untyped-call]
    return loss


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(q || N(0, I)) by dimension, mean over the batch, (Z,); its sum is the prior's term of the ELBO (ibid., eq. 5)."""
    return 0.5 * (log_variance.exp() + mean.square() - 1 - log_variance).mean(0)


def log_normal(z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log N(z | mean, exp(log_variance)) by dimension; all three broadcast."""
    return -0.5 * (math.log(2 * math.pi) + log_variance + (z - mean).square() * (-log_variance).exp())


def log_mixture(z: Tensor, means: Tensor, log_variances: Tensor) -> Tensor:
    """log 1/K sum_k N(z | mean_k, exp(log_variance_k)), (B,), of z (B, Z) and components (K, Z).

    The squares are multiplied out, so that nothing is (B, K, Z); in float32, since what is left is small beside what cancels.
    """
    with torch.autocast(z.device.type, enabled=False):
        precisions = (-log_variances).exp()
        squares = z.square() @ precisions.T - 2 * z @ (means * precisions).T  # (B, K)
        constants = (means.square() * precisions + log_variances + math.log(2 * math.pi)).sum(1)  # (K,)
        return (-0.5 * (squares + constants)).logsumexp(1) - math.log(len(means))


def kl_of_normals(mean: Tensor, log_variance: Tensor, prior_mean: Tensor, prior_log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(prior_mean, exp(prior_log_variance))) by dimension, (B, Z)."""
    squares = log_variance.exp() + (mean - prior_mean).square()
    return 0.5 * (prior_log_variance - log_variance + squares * (-prior_log_variance).exp() - 1)
