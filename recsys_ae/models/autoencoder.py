"""What the autoencoders share: sparse first layer, dense layers, fit through the one loop."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, ClassVar, Literal, Self, TypeAlias, cast

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Generator, Tensor
from torch.nn import functional as F

from recsys_ae.errors import ModelError, WidthError
from recsys_ae.evaluation import mean_metric
from recsys_ae.histories import Histories, Holdout
from recsys_ae.models.base import Latent, LatentRecommender, ModelConfig
from recsys_ae.models.pretraining import Pretrain, als_factors, begin_with_factors, begin_with_layers, ease_factors
from recsys_ae.models.search import Choice, Search
from recsys_ae.shards import rank_by_shards
from recsys_ae.training import loop
from recsys_ae.training.batches import Bags, OwnItems
from recsys_ae.training.checkpoint import digest_of
from recsys_ae.training.device import resolve_device
from recsys_ae.training.layers import Scratch, bag_sum, head_loss
from recsys_ae.training.loss import FIRST_BIAS, Likelihood, Writer, likelihood
from recsys_ae.training.ranks import ALONE, Ranks
from recsys_ae.training.run import FitRecord, RunContext

Activation: TypeAlias = Literal["identity", "sigmoid", "tanh", "gelu", "relu", "swish"]
ACTIVATIONS = {
    "identity": lambda x: x,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "relu": torch.relu,
    "swish": F.silu,
}
ROWS_DRAWN = 2**16  # rows of item tensors that are drawn at once
SAMPLED_FROM = 200_000  # items from which on softmax = "auto" samples


class AutoencoderConfig(ModelConfig):
    """Keys that every autoencoder shares."""

    # widths between input and code; mirrored in the decoder
    hidden: Annotated[tuple[PositiveInt, ...], Choice((), (600,))] = ()
    latent: Annotated[PositiveInt, Search(64, 1024, log=True)] = 512  # width of the code
    activation: Annotated[Activation, Choice("identity", "tanh", "gelu")] = "identity"
    dropout: Annotated[float, Field(ge=0, lt=1), Search(0.1, 0.8)] = 0.2  # of the stored entries of the input
    # what is to be reconstructed: the whole row, or what dropout hid of it
    target: Annotated[Literal["all", "dropped"], Choice("all", "dropped")] = "dropped"
    loss: Likelihood = "multinomial"  # docs/losses.md
    focus: float = Field(2.0, ge=0)  # gamma of the focal loss
    balance: float = Field(0.25, gt=0, lt=1)  # alpha of the focal loss: the weight of items met
    # over all items of the catalogue, or in each step over the batch's and some drawn ones; docs/scaling.md
    softmax: Literal["auto", "exact", "sampled"] = "auto"
    negatives: PositiveInt = 8192  # items that a step of a sampled softmax draws beside its batch's
    tied: Annotated[bool, Choice(True, False)] = True  # the last layer's item rows are the first layer's
    # decoupled, per step and learning rate (AdamW)
    weight_decay: Annotated[float, Field(ge=0), Search(0.0, 0.1)] = 0.0
    learning_rate: Annotated[float, Field(gt=0), Search(1e-4, 1e-2, log=True)] = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    batch_size: PositiveInt | Literal["auto"] = "auto"  # auto: at least 50 steps an epoch, at most 500 users
    epochs: PositiveInt = 100  # at most
    patience: PositiveInt = 10  # epochs without a better validation metric

    pretrain: Pretrain = "none"  # docs/pretraining.md
    pretrain_epochs: PositiveInt = 10  # of each layer

    @model_validator(mode="after")
    def _layers_to_train(self) -> Self:
        if self.pretrain == "layerwise" and not self.hidden:
            raise ValueError(
                'pretrain = "layerwise" with hidden = [] has no layers to train one by one; expected a width in hidden'
            )
        return self

    @model_validator(mode="after")
    def _softmax_to_sample(self) -> Self:
        if self.softmax == "sampled" and self.loss != "multinomial":
            raise ValueError(f'softmax = "sampled" with loss = "{self.loss}", which has none; expected loss = "multinomial"')
        return self

    @model_validator(mode="after")
    def _something_to_find(self) -> Self:
        if self.target == "dropped" and self.dropout == 0:
            raise ValueError('target = "dropped" with dropout = 0 leaves nothing to find; expected target = "all"')
        return self


class Autoencoder(LatentRecommender):
    """Encoder and decoder of dense layers around a sparse first and a wide last one, trained on the `loss` of its Config.

    Tensors: encoder.0.weight (I, H_0) and further encoder.j.weight (out, in); decoder.j.weight (out, in), the last (I, H);
    a bias beside each. With `tied` the last weight is the first one, and is not stored twice.
    """

    config: AutoencoderConfig
    shared: ClassVar[bool] = True
    """Whether all that an objective draws is drawn by row or entry of a batch, so that several ranks may share one."""
    divisible: ClassVar[bool] = True
    """Whether items meet in the first layer and in the loss alone, so that several ranks may have some of them each."""

    def __init__(self, config: AutoencoderConfig, n_items: int) -> None:
        super().__init__(config, n_items)
        self._scratch = Scratch()
        self._ranks = ALONE

    @property
    @abstractmethod
    def _code_width(self) -> int:
        """Outputs of the last encoder layer."""

    @property
    def _decoder_hidden(self) -> tuple[int, ...]:
        """Widths between code and last layer."""
        return self.config.hidden[::-1]

    @property
    def _query_width(self) -> int:
        """H of what enters the last layer."""
        return (self.config.latent, *self._decoder_hidden)[-1]

    @abstractmethod
    def _objective(self, parameters: dict[str, Tensor], bags: Bags, share: float, generator: Generator) -> Tensor:
        """Loss of a batch."""

    def _passes(self, parameters: dict[str, Tensor]) -> Sequence[loop.Objective]:
        """The objectives of an epoch's walks over the rows, made of the parameters at its beginning."""
        return (self._objective,)

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        encoder = [*self.config.hidden, self._code_width]
        decoder = [self.config.latent, *self._decoder_hidden, self.n_items]
        if self.config.tied:
            decoder.pop()
        shapes: dict[str, tuple[int, ...]] = {"encoder.0.weight": (self.n_items, encoder[0])}
        for j, (width, out) in enumerate(zip(encoder, encoder[1:], strict=False), 1):
            shapes[f"encoder.{j}.weight"] = (out, width)
        for j, (width, out) in enumerate(zip(decoder, decoder[1:], strict=False)):
            shapes[f"decoder.{j}.weight"] = (out, width)
        biases = {"encoder.0.bias": (encoder[0],)}
        biases |= {n.replace("weight", "bias"): (s[0],) for n, s in shapes.items() if n != "encoder.0.weight"}
        return shapes | biases | {f"{self.last}.bias": (self.n_items,)}

    @property
    def last(self) -> str:
        return f"decoder.{len(self._decoder_hidden)}"

    def layout(self) -> dict[str, int | None]:
        axes: dict[str, int | None] = dict.fromkeys(self._shapes(), None)
        item_axes = {"encoder.0.weight": 0, f"{self.last}.weight": 0, f"{self.last}.bias": 0}
        return axes | {name: axis for name, axis in item_axes.items() if name in axes}

    def fit(self, train: Histories, *, validation: Holdout | None, run: RunContext) -> FitRecord:
        self._require_width(train)
        device = resolve_device(run.device)
        generator = Generator(device).manual_seed(run.seed)
        self._tensors = {}  # a fit that fails leaves no model behind
        ranks = self._ranks = self.sharing(run)
        parameters = self._begun(train, run, generator) if run.initial is None else self._copied(run.initial, device)
        if ranks.by_items:
            whole = {name for name in self.by_item if len(parameters[name]) == self.n_items}
            parameters |= {name: parameters[name][ranks.mine(self.n_items)].clone() for name in whole}
        judged_by_all = cast(Holdout, validation)
        mine = judged_by_all if validation is None or ranks.alone else validation.take(ranks.mine(len(validation)))

        def validate(parameters: dict[str, Tensor]) -> float:
            judged = type(self)(self.config, self.n_items)
            judged._ranks, judged._tensors = ranks, self._finished(parameters)
            if ranks.by_items:
                return mean_metric(judged, judged_by_all, run.metric, partial(rank_by_shards, ranks=ranks))
            if ranks.alone:
                return mean_metric(judged if run.placed is None else run.placed(judged), mine, run.metric)
            own = len(mine) * mean_metric(judged, mine, run.metric) if len(mine) else 0.0
            return ranks.total(own) / len(judged_by_all)

        record = loop.train(
            parameters,
            self._passes,
            train,
            validate if validation is not None and len(validation) else None,
            self.config,
            run,
            generator,
            self._run_key(validation, run),
            self.rows,
            self.by_item,
            self._negatives(),
        )
        self._tensors, self._scratch = self._finished(parameters), Scratch()
        return record

    def _negatives(self) -> int | None:
        """How many items each step draws, where it does not train the whole catalogue."""
        wanted = self.config.softmax
        if wanted == "auto":
            wanted = "sampled" if self.n_items >= SAMPLED_FROM and self.config.loss == "multinomial" else "exact"
        return self.config.negatives if wanted == "sampled" else None

    def sharing(self, run: RunContext) -> Ranks:
        """Who trains. Raises ModelError where a model cannot be trained by several."""
        ranks = Ranks.of(run)
        if not ranks.alone and (not self.shared or self.config.pretrain == "layerwise"):
            what = "pretrain = layerwise" if self.shared else f"the model {type(self).__name__}"
            raise ModelError(f'{what} cannot be trained by {ranks.size} ranks; expected one, engine = "local"')
        if ranks.by_items and not self.divisible:
            raise ModelError(f'the items of {type(self).__name__} cannot be shared out among ranks; expected share = "users"')
        if ranks.by_items and ranks.size > self.n_items:
            raise ModelError(f"{ranks.size} ranks for {self.n_items} items; expected no more ranks than items")
        if not ranks.alone and run.placed is not None:
            raise ModelError(f'cold items are not placed while {ranks.size} ranks train; expected one, engine = "local"')
        return ranks

    def _bags(self, histories: Histories) -> Bags:
        if self._ranks.by_items:
            return OwnItems.of(histories, self.device, self._ranks).whole()
        return super()._bags(histories)

    def _begun(self, train: Histories, run: RunContext, generator: Generator) -> dict[str, Tensor]:
        """What a cold fit begins with."""
        parameters = self.initial(generator)
        match self.config.pretrain:
            case "als":
                begin_with_factors(self, parameters, als_factors(train, self._query_width, run.seed), train)
            case "ease":
                begin_with_factors(self, parameters, ease_factors(train, self._query_width), train)
            case "layerwise":
                begin_with_layers(self, parameters, train, run)
        return parameters

    def _finished(self, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
        """What is scored with and saved, of what is trained."""
        return {name: tensor.detach() for name, tensor in parameters.items()}

    def _run_key(self, validation: Holdout | None, run: RunContext) -> str:
        """What a checkpoint must share with this run, beside the training rows and what the loop itself knows."""
        parts = [type(self).__name__, self.config.model_dump_json()]
        if validation is not None:
            parts += [loop.digest_of_histories(h) for h in (validation.fold_in, validation.held_out)]
        if run.initial is not None:
            parts.append(digest_of(run.initial))
        return " ".join(parts)

    def initial(self, generator: Generator) -> dict[str, Tensor]:
        """Glorot normal weights and small normal biases, as the reference implementation of Liang et al. has them; the last
        bias where the loss wants it."""
        tensors = {}
        for name, shape in self._shapes().items():
            std = (2 / sum(shape)) ** 0.5 if len(shape) == 2 else 1e-3
            tensors[name] = std * self._drawn(name, shape, generator)
        if f"{self.last}.bias" in tensors:
            tensors[f"{self.last}.bias"] += FIRST_BIAS.get(self.config.loss, 0.0)
        return tensors

    def _drawn(self, name: str, shape: tuple[int, ...], generator: Generator) -> Tensor:
        """Standard normal numbers. A rank of some items keeps their rows alone, of the numbers that all draw."""
        if not (self._ranks.by_items and self.config.pretrain == "none" and self.layout()[name] == 0):
            return torch.randn(shape, generator=generator, device=generator.device)
        kept = []
        # Blocks of so many rows are drawn on a CPU as all at once would be; so the last one is not cut off from the one before.
        for start in range(0, max(1, shape[0] - ROWS_DRAWN), ROWS_DRAWN):
            rows = ROWS_DRAWN if start + 2 * ROWS_DRAWN < shape[0] else shape[0] - start
            block = torch.randn((rows, *shape[1:]), generator=generator, device=generator.device)
            kept.append(block[(self._ranks.rank - start) % self._ranks.size :: self._ranks.size])
        return torch.cat(kept)

    def _copied(self, tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
        """What a warm fit begins with. Raises WidthError, which names both shapes, where a tensor is not this model's."""
        given = type(self)(self.config, self.n_items).restore(tensors).tensors()
        for name, shape in self._shapes().items():
            if given[name].shape != shape:
                raise WidthError(f"tensor {name} to start from is {tuple(given[name].shape)}; the model's is {shape}")
        return {name: t.detach().to(device, torch.float32, copy=True) for name, t in given.items()}

    def activate(self, x: Tensor) -> Tensor:
        return cast(Tensor, ACTIVATIONS[self.config.activation](x))

    def _first(self, p: dict[str, Tensor], bags: Bags) -> Tensor:
        """The first layer's output, (B, H_0): a bag of embeddings over stored entries."""
        return bags.gathered(bag_sum(p["encoder.0.weight"], bags)) + p["encoder.0.bias"]

    def _encoded(self, p: dict[str, Tensor], bags: Bags) -> Tensor:
        """The last encoder layer's output, (B, code width), of normalised bags."""
        depth = len(self.config.hidden)
        if not depth:
            return self._first(p, bags)
        return F.linear(self.activations(p, bags, depth), p[f"encoder.{depth}.weight"], p[f"encoder.{depth}.bias"])

    def activations(self, p: dict[str, Tensor], bags: Bags, depth: int) -> Tensor:
        """What the first `depth` encoder layers make of normalised bags, (B, H), activated."""
        x = self.activate(self._first(p, bags))
        for j in range(1, depth):
            x = self.activate(F.linear(x, p[f"encoder.{j}.weight"], p[f"encoder.{j}.bias"]))
        return x

    def _queried(self, p: dict[str, Tensor], z: Tensor) -> Tensor:
        """The hidden decoder layers, (B, Z) -> (B, H)."""
        for j in range(len(self._decoder_hidden)):
            z = self.activate(F.linear(z, p[f"decoder.{j}.weight"], p[f"decoder.{j}.bias"]))
        return z

    def _head_of(self, p: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Item rows (I, H) and bias (I,) of the last layer."""
        return p[self.item_rows][:, : self._query_width], p[f"{self.last}.bias"]

    @property
    def item_rows(self) -> str:
        """The tensor of the last layer; tied to a variational first layer, its half that makes the mean counts."""
        return "encoder.0.weight" if self.config.tied else f"{self.last}.weight"

    def _criterion(self, targets: Bags, excluded: Tensor | None) -> Writer:
        """The loss; entries (N,) of the targets that are `excluded` count neither as met nor as not met."""
        return likelihood(self.config.loss, targets, excluded, self.config.focus, self.config.balance)

    def _loss(self, p: dict[str, Tensor], z: Tensor, bags: Bags, kept: Tensor | None) -> Tensor:
        """The loss of the target that the configuration asks for; `kept` (N,) entries were the input."""
        write = self._criterion(bags, kept if self.config.target == "dropped" else None)
        query = bags.spread(self._queried(p, z))
        return head_loss(query, p[self.item_rows], p[f"{self.last}.bias"], write, self._scratch)

    def _corrupted(self, bags: Bags, generator: Generator) -> tuple[Bags, Tensor]:
        """The input of a training step, each row normalised and then thinned by dropout, and which entries it kept (N,)."""
        kept = bags.kept(self.config.dropout, generator)
        normalised = bags.normalised()
        return normalised.reweighted(normalised.weights * kept / (1 - self.config.dropout)), kept

    def query(self, z: Tensor) -> Tensor:
        self._require_fitted()
        return self._queried(self._tensors, z)

    def head(self) -> tuple[Tensor, Tensor]:
        self._require_fitted()
        return self._head_of(self._tensors)


class DenoisingAutoencoder(Autoencoder):
    """x -> x / |x| -> dropout -> code -> logits, one code a history. Without dropout it denoises nothing."""

    @property
    def _code_width(self) -> int:
        return self.config.latent

    def _code(self, p: dict[str, Tensor], bags: Bags) -> Tensor:
        return self.activate(self._encoded(p, bags))

    def _objective(self, parameters: dict[str, Tensor], bags: Bags, share: float, generator: Generator) -> Tensor:
        corrupted, kept = self._corrupted(bags, generator)
        return self._loss(parameters, self._code(parameters, corrupted), bags, kept)

    def encode(self, histories: Histories) -> Latent:
        self._require_fitted()
        return Latent(self._code(self._tensors, self._bags(histories).normalised()))
