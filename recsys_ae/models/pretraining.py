"""What the weights of an autoencoder can begin with other than chance: item vectors of another model, or layers trained one
by one. What last night's model has learnt is a warm start (`recsys_ae.warm_start`), which takes the place of either."""

from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from scipy.sparse.linalg import eigsh
from torch import Generator, Tensor
from torch.nn import functional as F

from recsys_ae.histories import Histories
from recsys_ae.models.als import ALS, ALSConfig
from recsys_ae.models.ease import EASE, EASEConfig
from recsys_ae.training import loop
from recsys_ae.training.batches import Bags
from recsys_ae.training.run import RunContext

if TYPE_CHECKING:
    from recsys_ae.models.autoencoder import Autoencoder

Pretrain: TypeAlias = Literal["none", "als", "ease", "layerwise"]

SCALES = [2.0**n for n in range(-4, 6)]  # of item vectors, of which the loss chooses
JUDGED = 500  # users whose loss it is


def als_factors(train: Histories, width: int, seed: int) -> Tensor:
    """Item factors (I, width) of weighted matrix factorisation (Hu, Koren, Volinsky 2008)."""
    model = ALS(ALSConfig(factors=width), train.n_items)
    model.fit(train, validation=None, run=RunContext(seed=seed, device="cpu"))
    return model.tensors()["item_factors"]


def ease_factors(train: Histories, width: int) -> Tensor:
    """W (I, width) whose product W W' is the nearest of its rank to EASE's B made symmetric, but for eigenvalues below 0.

    W = V sqrt(lambda) of the largest eigenvalues (Eckart, Young 1936); that a linear autoencoder of low rank and EASE are two
    ways to shrink the same spectrum is from Jin, Li, Gao, Liu, Chen, Liu 2021, Towards a Better Understanding of Linear Models
    for Recommendation, 3. Memory: two matrices I x I. Columns past the catalogue's width, and past the users', are 0.
    """
    model = EASE(EASEConfig(), train.n_items)
    model.fit(train, validation=None, run=RunContext(device="cpu"))
    weights = model.tensors()["weights"].numpy()
    found = torch.zeros(train.n_items, width)
    # Past as many as there are users no eigenvalue is above 0: alike as they are, the search for them would take minutes.
    rank = min(width, train.n_items - 1, len(train))
    if rank > 0:
        values, vectors = eigsh((weights + weights.T) / 2, rank, which="LA", v0=torch.ones(train.n_items).numpy())
        found[:, :rank] = torch.from_numpy(vectors * values.clip(0) ** 0.5).flip(1)
    return found


def begin_with_factors(model: "Autoencoder", p: dict[str, Tensor], factors: Tensor, train: Histories) -> None:
    """Item vectors (I, F) become the first columns of the first and the last layer's item rows, in place.

    Another model's vectors have another scale: of some powers of 2 the one is taken by which the model's own loss of its first
    training users is least.
    """
    device = p["encoder.0.weight"].device
    users = torch.from_numpy(train.lengths.nonzero()[0][:JUDGED])
    bags = model.rows(train.take(users.numpy()), device).whole()
    factors = factors.to(device) * len(factors) ** 0.5 / factors.norm().clamp_min(1e-12)  # rows of length 1 in the mean
    rows = [p[name] for name in dict.fromkeys(("encoder.0.weight", model.item_rows)) if name in p]

    @torch.no_grad()
    def loss(scale: float) -> float:
        for weight in rows:
            width = min(weight.shape[1], factors.shape[1])
            weight[:, :width] = scale * factors[:, :width]
        return float(model._objective(p, bags, 1.0, Generator(device).manual_seed(0)))

    loss(min(SCALES, key=loss) if len(users) else 1.0)


def begin_with_layers(model: "Autoencoder", p: dict[str, Tensor], train: Histories, run: RunContext) -> None:
    """Layers trained one by one, each as a denoising autoencoder of what the layers below make of a history (Vincent,
    Larochelle, Lajoie, Bengio, Manzagol 2010, Stacked Denoising Autoencoders, 3.5), in place.

    The first is a mult_dae of one layer under the model's own loss; the others are tied and under a squared loss, with the
    model's dropout. A decoder's layer begins as its encoder's, transposed; of a variational code the mean alone is trained.
    """
    from recsys_ae.models.mult_dae import MultDAE, MultDAEConfig  # which is itself an autoencoder

    config, device = model.config, p["encoder.0.weight"].device
    shared = {key: getattr(config, key) for key in MultDAEConfig.model_fields if hasattr(config, key)}
    narrow = shared | {
        "hidden": (),
        "latent": config.hidden[0],
        "tied": True,
        "pretrain": "none",
        "epochs": config.pretrain_epochs,
    }
    first = MultDAE(MultDAEConfig(**narrow), model.n_items)
    alone = RunContext(seed=run.seed, device=run.device, precision=run.precision)
    first.fit(train, validation=None, run=alone)
    learnt = first.tensors()
    p["encoder.0.weight"].copy_(learnt["encoder.0.weight"])
    p["encoder.0.bias"].copy_(learnt["encoder.0.bias"])
    p[f"{model.last}.bias"].copy_(learnt["decoder.0.bias"])
    if model.item_rows in p:
        p[model.item_rows].copy_(learnt["encoder.0.weight"])

    depth, generator = len(config.hidden), Generator(device).manual_seed(run.seed)
    settings = config.model_copy(update={"epochs": config.pretrain_epochs})
    for j in range(1, depth + 1):
        width = (*config.hidden, config.latent)[j]
        weight, bias = p[f"encoder.{j}.weight"][:width], p[f"encoder.{j}.bias"][:width]
        layer = {"weight": weight.clone(), "bias": bias.clone(), "back": torch.zeros(weight.shape[1], device=device)}
        below = {name: tensor.clone() for name, tensor in p.items() if name.startswith("encoder.")}

        objective = partial(_layer_loss, model, below, j)
        loop.train(layer, _alone(objective), train, None, settings, alone, generator, f"layer {j}", model.rows)
        weight.copy_(layer["weight"])
        bias.copy_(layer["bias"])
        mirrored = f"decoder.{depth - j}"
        p[f"{mirrored}.weight"].copy_(layer["weight"].T)
        p[f"{mirrored}.bias"].copy_(layer["back"])


def _alone(objective: loop.Objective) -> loop.Passes:
    """Epochs of one walk."""
    return lambda _: (objective,)


def _layer_loss(
    model: "Autoencoder",
    below: dict[str, Tensor],
    depth: int,
    layer: dict[str, Tensor],
    bags: Bags,
    share: float,
    generator: Generator,
) -> Tensor:
    """Squared error of what a layer makes of the thinned outputs of the `depth` layers below it, which stay as they are."""
    with torch.no_grad():
        h = model.activations(below, bags.normalised(), depth)  # (B, H)
    kept = torch.rand(h.shape, generator=generator, device=h.device) >= model.config.dropout
    code = model.activate(F.linear(h * kept / (1 - model.config.dropout), layer["weight"], layer["bias"]))
    return (F.linear(code, layer["weight"].T, layer["back"]) - h).square().sum(1).mean()
