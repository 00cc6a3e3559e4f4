"""A convolutional variational autoencoder of sequences: causal dilated convolutions over the last events (Yuan, Karatzoglou,
Arapakis, Jose, He 2019, A Simple Convolutional Generative Network for Next Item Recommendation), a normal code at every event
from which the next items are reconstructed (Sachdeva, Manco, Ritacco, Pudi 2019, Sequential Variational Autoencoders for
Collaborative Filtering)."""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Generator, Tensor
from torch.nn import functional as F

from recsys_ae.histories import Histories
from recsys_ae.models.autoencoder import Activation
from recsys_ae.models.base import Latent, ModelConfig
from recsys_ae.models.search import Choice, Search
from recsys_ae.models.variational import Normal, VariationalAutoencoder, VariationalConfig, drawn, normal
from recsys_ae.training.batches import Bags, OrderedHistories, Rows
from recsys_ae.training.layers import bag_sum, head_loss
from recsys_ae.training.loss import kl_to_standard_normal, of_logits

LOGITS = 2**26  # of a training step, at most about so many; of more codes a random part is trained on


class ConvVAEConfig(VariationalConfig):
    """Defaults from a search on validation users of amazon-beauty (docs/experiments.md). `hidden` and `target` have one value:
    there are blocks instead of hidden layers, and what is reconstructed is what follows."""

    hidden: Annotated[tuple[()], Choice(())] = ()
    target: Annotated[Literal["all"], Choice("all")] = "all"
    softmax: Annotated[Literal["exact"], Choice("exact")] = "exact"
    latent: Annotated[PositiveInt, Search(32, 256, log=True)] = 64  # width of item vectors, blocks and codes
    activation: Annotated[Activation, Choice("relu", "gelu")] = "gelu"
    window: PositiveInt = 50  # N, the last events that are looked at
    kernel: Annotated[PositiveInt, Search(2, 5)] = 2  # events that a convolution sees at once
    # of the blocks: how far apart the events are that its convolution sees
    dilations: Annotated[tuple[PositiveInt, ...], Field(min_length=1), Choice((1,), (1, 2), (1, 2, 4))] = (1,)
    ahead: Annotated[PositiveInt, Search(1, 5)] = 1  # how many of the next events a code is to reconstruct
    # items of a step's softmax beside those that it asks for, drawn; the multinomial loss alone, the others take all items
    negatives: PositiveInt = 1000
    # of item vectors and of what a block adds
    dropout: Annotated[float, Field(ge=0, lt=1), Search(0.1, 0.8)] = 0.4
    # 0: the code is not drawn, and has no variance
    beta: Annotated[float, Field(ge=0), Search(1e-4, 0.1, log=True)] = 0.001


@dataclass(frozen=True)
class Slots:
    """The last events of B histories: a row is its beginning, a slot before any event, and then a slot for each event.

    All (P,) int64: the row of a slot; its place, 0 at the beginning, negative where a row is filled up before it; the event
    among those of the bags (their number where there is none); and, (B,), how many events a row has here and its last slot.
    """

    rows: Tensor
    places: Tensor
    events: Tensor
    lengths: Tensor
    last: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def before(self, n: int) -> Tensor:
        """The slot n earlier (P,), or P where the row had not begun."""
        slots = torch.arange(len(self), device=self.rows.device)
        return torch.where(self.places >= n, slots - n, len(self))


def slots_of(bags: Bags, window: int, generator: Generator | None) -> Slots:
    """At most `window` events of each row.

    With a generator, for training: any stretch of a row, drawn, and rows as long as they are. Without: the last events, all
    rows filled up in front to `window` + 1 slots, so that no product's shape hangs on the histories.
    """
    starts, ends = bags.offsets.long(), bags.ends.long()
    lengths = (ends - starts).clamp(max=window)  # (B,)
    spare = ends - starts - lengths
    if generator is None:
        sizes = torch.full_like(lengths, window + 1)
    else:
        sizes = lengths + 1
        spare = (torch.rand(len(bags), generator=generator, device=starts.device) * (spare + 1)).long()
    rows = torch.repeat_interleave(sizes)  # (P,)
    stops = sizes.cumsum(0)
    places = torch.arange(len(rows), device=rows.device) - (stops - lengths - 1)[rows]
    events = torch.where(places > 0, (starts + spare - 1)[rows] + places, len(bags.columns))
    return Slots(rows, places, events, lengths, stops - 1)


class ConvVAE(VariationalAutoencoder):
    """Item vectors of the last events -> residual blocks of causal dilated convolutions -> mean, log variance -> z -> logits.

    A block is h + dropout(f(W * LN(h) + b)), * over the events t, t - d, ... t - (K - 1) d of its own row. In training every
    event has a code, which is to reconstruct the next `ahead`; scores are those of the last. Before the first event stands a
    beginning with a vector of its own, whose code is also that of an empty history. Weights count in targets alone.

    Tensors: encoder.0.weight (I, Z) item vectors; encoder.begin (Z,); block.j.weight (Z, K Z), block.j.bias, and
    block.j.norm.weight and .bias (Z,) for each block; code.norm.weight and .bias (Z,), code.weight (2 Z, Z), code.bias; the
    last layer as in every autoencoder.
    """

    Config: ClassVar[type[ModelConfig]] = ConvVAEConfig
    config: ConvVAEConfig
    shared = False
    rows: ClassVar[Rows] = OrderedHistories

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        z, blocks = self.config.latent, [f"block.{j}" for j in range(len(self.config.dilations))]
        shapes: dict[str, tuple[int, ...]] = {"encoder.0.weight": (self.n_items, z), "encoder.begin": (z,)}
        for block in blocks:
            shapes |= {f"{block}.weight": (z, self.config.kernel * z), f"{block}.bias": (z,)}
        for norm in (*blocks, "code"):
            shapes |= {f"{norm}.norm.{part}": (z,) for part in ("weight", "bias")}
        shapes |= {"code.weight": (2 * z, z), "code.bias": (2 * z,)}
        if not self.config.tied:
            shapes[f"{self.last}.weight"] = (self.n_items, z)
        return shapes | {f"{self.last}.bias": (self.n_items,)}

    @property
    def _variances(self) -> tuple[str, ...]:
        return ("code.bias",)

    def initial(self, generator: Generator) -> dict[str, Tensor]:
        tensors = super().initial(generator)
        for name, tensor in tensors.items():
            if name.endswith("norm.weight"):
                tensor += 1
        return tensors

    def _states(self, p: dict[str, Tensor], bags: Bags, slots: Slots, generator: Generator | None) -> Tensor:
        """What the blocks make of each slot, (P, Z)."""
        met = slots.places > 0
        columns = torch.cat([bags.columns, bags.columns.new_zeros(1)])[slots.events]
        alone = torch.arange(len(slots), dtype=torch.int32, device=columns.device)
        x = bag_sum(p["encoder.0.weight"], Bags(columns, met.float(), alone, alone))  # one event a bag
        x = x + (slots.places == 0)[:, None] * p["encoder.begin"]
        x = self._dropped(x, generator)
        for j, dilation in enumerate(self.config.dilations):
            h = self._normed(p, f"block.{j}", x)
            h = torch.cat([h, h.new_zeros(1, h.shape[1])])  # the last row is what was before a row began
            seen = torch.cat([h[slots.before(n * dilation)] for n in range(self.config.kernel)], 1)
            h = self.activate(F.linear(seen, p[f"block.{j}.weight"], p[f"block.{j}.bias"]))
            x = x + self._dropped(h, generator)
        return x

    def _normed(self, p: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[1:], p[f"{name}.norm.weight"], p[f"{name}.norm.bias"])

    def _dropped(self, x: Tensor, generator: Generator | None) -> Tensor:
        """Dropout in training, which is where there is a generator."""
        if generator is None or not self.config.dropout:
            return x
        kept = torch.rand(x.shape, generator=generator, device=x.device) >= self.config.dropout
        return x * kept / (1 - self.config.dropout)

    def _coded(self, p: dict[str, Tensor], states: Tensor) -> Normal:
        """The distribution of the code, of states (P, Z)."""
        return normal(F.linear(self._normed(p, "code", states), p["code.weight"], p["code.bias"]))

    def _objective(self, parameters: dict[str, Tensor], bags: Bags, share: float, generator: Generator) -> Tensor:
        p = parameters
        slots = slots_of(bags, self.config.window, generator)
        trained = (slots.places < slots.lengths[slots.rows]).nonzero()[:, 0]  # that have a next event
        if len(trained) > (most := math.isqrt(LOGITS) if self._draws else max(1, LOGITS // self.n_items)):
            trained = trained[torch.randperm(len(trained), generator=generator, device=trained.device)[:most]]
        mean, log_variance = self._coded(p, self._states(p, bags, slots, generator)[trained])
        z = drawn(mean, log_variance, generator) if self.config.beta else mean
        loss = self._reconstruction(p, z, self._next(bags, slots, trained), generator)
        if not self.config.beta:
            return loss
        beta = self.config.beta * self._annealed(share)
        return loss + beta * kl_to_standard_normal(mean, log_variance).sum()

    @property
    def _draws(self) -> bool:
        return self.config.loss == "multinomial" and self.n_items > 2 * self.config.negatives

    def _reconstruction(self, p: dict[str, Tensor], z: Tensor, targets: Bags, generator: Generator) -> Tensor:
        """The loss of codes (T, Z). Of a wide catalogue the softmax is over the items that are asked for and as many others as
        `negatives`, each of which stands for the same share of the rest (importance sampling: Bengio, Senecal 2003, Quick
        Training of Probabilistic Neural Nets by Importance Sampling): the normaliser's estimate has no bias."""
        weight, bias = p[self.item_rows], p[f"{self.last}.bias"]
        if not self._draws:
            return head_loss(z, weight, bias, self._criterion(targets, None), self._scratch)
        asked, columns = torch.unique(targets.columns.long(), return_inverse=True)
        others = torch.ones(self.n_items, dtype=torch.bool, device=z.device).index_fill_(0, asked, False).nonzero()[:, 0]
        chosen = others[torch.randperm(len(others), generator=generator, device=z.device)[: self.config.negatives]]
        stands_for = bias.new_zeros(len(asked) + len(chosen))
        stands_for[len(asked) :] = math.log(max(1, len(others)) / max(1, len(chosen)))
        items = torch.cat([asked, chosen])
        logits = F.linear(z, weight.index_select(0, items), bias.index_select(0, items) + stands_for)
        narrowed = Bags(columns.int(), targets.weights, targets.offsets, targets.rows)
        return of_logits(logits, self._criterion(narrowed, None))

    def _next(self, bags: Bags, slots: Slots, trained: Tensor) -> Bags:
        """What follows the slots `trained` (T,): the next `ahead` events of the row, as T bags."""
        left = (slots.lengths[slots.rows] - slots.places)[trained].clamp(max=self.config.ahead)
        rows = torch.repeat_interleave(left)  # (N,)
        begins = left.cumsum(0) - left
        events = slots.events[trained[rows] + 1 + torch.arange(len(rows), device=rows.device) - begins[rows]]
        # An item that stands twice in a row's targets is one target of their weights together.
        keys, places = torch.unique(rows * self.n_items + bags.columns[events], return_inverse=True)
        weights = bags.weights.new_zeros(len(keys)).index_add_(0, places, bags.weights[events])
        rows, columns = keys // self.n_items, keys % self.n_items
        offsets = torch.searchsorted(rows, torch.arange(len(trained), device=rows.device))
        return Bags(columns.int(), weights, offsets.int(), rows.int())

    def _posterior(self, p: dict[str, Tensor], bags: Bags) -> Normal:
        slots = slots_of(bags, self.config.window, None)
        return self._coded(p, self._states(p, bags, slots, None)[slots.last])

    def encode(self, histories: Histories) -> Latent:
        latent = super().encode(histories)
        return latent if self.config.beta else Latent(latent.mean)
