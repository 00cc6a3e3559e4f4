"""The k best of inner products without computing all of them, exactly (after LEMP: Teflioudi, Gemulla, Mykytiuk 2015, Fast
Retrieval of Large Entries in a Matrix Product)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from recsys_ae.histories import Histories
from recsys_ae.masks import masked_
from recsys_ae.products import Factors, dense_product, products
from recsys_ae.top_k import contenders, lists, reaching, top_k
from recsys_ae.top_k_torch import NARROW

CHUNKS = 16  # of the catalogue, longest items first
FIRST = 2  # of them are scored for everyone
LEAST_ROWS, LEAST_ITEMS = 32, 8_192  # sorting the catalogue pays from here on
WORTH_SKIPPING = 0.5  # of all scores; fewer, and the next batches are scored whole
ROUNDING = 1e-5  # of |query| |item|, more than a float32 product is ever wrong by


@dataclass(frozen=True)
class _Sorted:
    """The catalogue with the items first that can score highest, in chunks of `size`."""

    order: Tensor  # (I,) columns
    place: Tensor  # (I,) its inverse
    bias: Tensor  # (I,) in that order
    size: int
    longest: Tensor  # (CHUNKS,) |weight|
    highest: Tensor  # (CHUNKS,) bias


class PrunedProducts:
    """|query| |item| + bias bounds a score (Cauchy-Schwarz). Once the longest items are scored, few others can enter.

    How many depends on the factors: of matrix factorisation four in five need no product, of a softmax's nearly none.
    """

    def __init__(self, k: int) -> None:
        self._k = k
        self._useful = True
        self._sorted: _Sorted | None = None
        self._weight: Tensor | None = None  # (I, H) in that order, once it has proved useful

    def pays(self, rows: Histories) -> bool:
        """Whether to try, for these rows: many, of a large catalogue, after batches of which much was skipped."""
        least = max(LEAST_ITEMS, NARROW * self._k * CHUNKS // FIRST)
        return self._useful and len(rows) >= LEAST_ROWS and rows.n_items >= least

    def top_k(self, factors: Factors | None, left_out: list[Histories], banned: Tensor | None) -> tuple[Tensor, Tensor] | None:
        """Values and columns (B, k) as of all scores masked; None where scores are no inner products."""
        if factors is None:
            self._useful = False
            return None
        queries, k = factors.queries, self._k
        if self._sorted is None:  # by the first batch; weight and bias are the same for all
            self._sorted = _by_reach(factors)
        items = self._sorted
        hidden = _Hidden(items, left_out, banned)
        first = slice(0, FIRST * items.size)
        everyone = torch.arange(len(queries), device=queries.device)
        scores = hidden.masked_(self._scores(factors, queries, first), everyone, first)
        rows, places, failed, bound = contenders(scores, k)
        values = scores[rows, places]
        length = queries.norm(dim=1, keepdim=True)
        reach = (1 + ROUNDING) * length * items.longest + items.highest + ROUNDING * items.highest.abs()  # (B, CHUNKS)
        active = (reach >= bound[:, None]) & ~failed[:, None]
        active[:, :FIRST] = False
        found = [(rows, places, values)]
        for chunk in active.any(0).nonzero()[:, 0].tolist():
            some = active[:, chunk].nonzero()[:, 0]
            columns = slice(chunk * items.size, (chunk + 1) * items.size)
            scores = hidden.masked_(self._scores(factors, queries[some], columns), some, columns)
            rows, places, crowded = reaching(scores, bound[some], k)
            failed[some] |= crowded
            found.append((some[rows], places + columns.start, scores[rows, places]))
        rows, places, values = (torch.cat(part) for part in zip(*found, strict=True))
        if len(found) > 1 or failed.any():
            kept = (~failed[rows]).nonzero()[:, 0]
            kept = kept[rows[kept].argsort(stable=True)]
            rows, places, values = rows[kept], places[kept], values[kept]
        best, columns_found = lists(values, rows, items.order[places], len(queries), k)
        if failed.any():
            which = failed.nonzero()[:, 0]
            own = which.cpu().numpy()
            whole = products(Factors(queries[which], factors.weight, factors.bias))
            best[which], columns_found[which] = top_k(masked_(whole, [h.take(own) for h in left_out], banned), k)
        computed = (FIRST + float(active.float().sum(1).mean())) / CHUNKS + float(failed.float().mean())
        self._useful = computed <= 1 - WORTH_SKIPPING
        if self._useful and self._weight is None:
            self._weight = factors.weight[items.order]
        return best, columns_found

    def _scores(self, factors: Factors, queries: Tensor, places: slice) -> Tensor:
        assert self._sorted is not None
        weight = factors.weight[self._sorted.order[places]] if self._weight is None else self._weight[places]
        return dense_product(queries, weight).add_(self._sorted.bias[places])


def _by_reach(factors: Factors) -> _Sorted:
    """Sorted by the bound of a query of the batch's mean length."""
    queries, weight, bias = factors
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    lengths = weight.norm(dim=1)
    order = (queries.norm(dim=1).mean() * lengths + bias).argsort(descending=True, stable=True)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    size = -(-len(order) // CHUNKS)
    lengths, bias = lengths[order], bias[order]
    longest, highest = (torch.stack([part.amax() for part in torch.split(of, size)]) for of in (lengths, bias))
    return _Sorted(order, place, bias, size, longest, highest)


class _Hidden:
    """What may not be returned of a batch, by place in the sorted catalogue."""

    def __init__(self, items: _Sorted, left_out: list[Histories], banned: Tensor | None) -> None:
        device = items.order.device
        rows = [torch.from_numpy(histories.rows).to(device) for histories in left_out]
        columns = [torch.from_numpy(histories.items.astype("int64")).to(device) for histories in left_out]
        nothing = torch.zeros(0, dtype=torch.int64, device=device)
        self._rows = torch.cat([nothing, *rows])
        self._places = items.place[torch.cat([nothing, *columns])]
        self._banned = None if banned is None else banned[items.order]

    def masked_(self, scores: Tensor, rows: Tensor, places: slice) -> Tensor:
        """Scores (R, P) of some rows (R,), ascending, at consecutive places, in place."""
        within = ((self._places >= places.start) & (self._places < places.stop)).nonzero()[:, 0]
        own = torch.searchsorted(rows, self._rows[within]).clamp_max(len(rows) - 1)
        mine = rows[own] == self._rows[within]
        scores[own[mine], self._places[within[mine]] - places.start] = -torch.inf
        if self._banned is not None:
            scores[:, self._banned[places]] = -torch.inf
        return scores
