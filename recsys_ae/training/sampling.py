"""A softmax over some of a large catalogue's items: a batch's and some drawn ones, each counted for those it stands for."""

from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from recsys_ae.training.batches import Bags, SparseRows
from recsys_ae.training.ranks import ALONE, Ranks

POWER = 0.75  # items are drawn by their users to this power (Mikolov et al. 2013, Distributed Representations, 2.2)


@dataclass(frozen=True)
class SampledBags(Bags):
    """A batch over the C items of a step. `log_shares` (C,): log of the probability that a user's step has an item which is
    none of the user's own."""

    log_shares: Tensor = field(kw_only=True)


class Sampling:
    """Which items a step trains: all of its batch, and `negatives` draws from the catalogue.

    An item i that is none of user u's own comes with probability

        pi_i = 1 - h_i (1 - q_i)^n

    with h_i the probability that none of the batch's other users has it (hypergeometric: an epoch draws users without putting
    back) and q_i its share of the n draws. A sum over the catalogue is then estimated without bias by the user's own items and
    the others divided by pi_i (Horvitz, Thompson 1952): under the softmax, log pi_i is taken from their logits. It is the
    correction by log Q of sampled softmax (Bengio, Senecal 2008; Yi et al. 2019, Sampling-Bias-Corrected Neural Modeling, 3.1)
    with the probability of being in the sample in the place of that of one draw.
    """

    def __init__(
        self, data: SparseRows, n_users: int, n_items: int, batch_size: int, negatives: int, ranks: Ranks = ALONE
    ) -> None:
        self._ranks = ranks
        counts = torch.bincount(data.columns, minlength=n_items).double()  # (I,)
        users = torch.tensor(n_users, device=counts.device)
        self._ranks.add([counts])
        odds = (counts + 1) ** POWER  # an item that nobody has is still one that could be recommended
        self._sums = odds.cumsum(0)
        self._negatives = negatives
        # Who does not have the item draws the batch's others among all others, who have it `counts` times.
        others = (users - 1).clamp(min=1)
        drawn = others.clamp(max=batch_size - 1).double()
        absent = _log_choose(others - counts, drawn) - _log_choose(others.double(), drawn)  # log h
        absent += negatives * torch.log1p(-odds / self._sums[-1])
        self._log_shares = torch.log(-torch.expm1(absent)).float()

    def draw(self, bags: Bags, generator: Generator) -> tuple[Tensor, SampledBags]:
        """The items (C,) int64 of a step in ascending order, and the batch over them."""
        at = torch.rand(self._negatives, generator=generator, device=bags.columns.device, dtype=torch.float64)
        drawn = torch.searchsorted(self._sums, at * self._sums[-1], right=True).clamp_(max=len(self._sums) - 1)
        mine = bags.columns.long()
        if bags.part is not None and not bags.part.share:  # a row that stands in brings no items
            mine = drawn[:1].expand(len(mine))
        items = self._ranks.union(torch.cat([mine, drawn]))
        columns = torch.searchsorted(items, mine).int()
        return items, SampledBags(columns, bags.weights, bags.offsets, bags.rows, bags.part, log_shares=self._log_shares[items])


def _log_choose(n: Tensor, k: Tensor) -> Tensor:
    """log of the ways to choose k of n; minus infinity where n is less than k."""
    found = torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma((n - k).clamp(min=0) + 1)
    return torch.where(n < k, -torch.inf, found)
