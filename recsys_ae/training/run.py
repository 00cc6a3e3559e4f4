"""RunContext: how a run enters a fit, apart from the hyperparameters. FitRecord: what came of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from torch import Tensor

if TYPE_CHECKING:
    from recsys_ae.models.base import Recommender

Device: TypeAlias = str  # auto, cpu, cuda, cuda:1
Precision: TypeAlias = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class Progress:
    """One finished epoch, for a progress bar: epoch counts from 1 to `epochs`; `validation` is None without a holdout."""

    epoch: int
    epochs: int
    loss: float
    validation: float | None


@dataclass(frozen=True)
class RunContext:
    """Everything of a run that is no hyperparameter.

    seed: of the one generator that a fit draws from; the global one is never touched. stop_after: end after that many
    epochs, with the schedules of the full run: how a refit repeats what early stopping found. found: the record of the fit that
    a refit repeats, for what else was chosen there. checkpoint_folder: written after every epoch, resumed from if it holds the
    same run. initial: tensors of an earlier fit to start from, over the items of today (`warm_start`); annealing is over then,
    moments and learning rate begin anew. metric: what is chosen by on the validation users. placed: what is made of a model
    before these users judge it, where it is not judged as it is (`Split.placed`). rank, world_size, shared: which of
    several processes this is, and what of the data and the model is shared out among them (`training.ranks`).
    """

    seed: int = 0
    device: Device = "auto"
    precision: Precision = "auto"
    progress: Callable[[Progress], None] | None = None
    checkpoint_folder: Path | None = None
    initial: Mapping[str, Tensor] | None = None
    stop_after: int | None = None
    found: "FitRecord | None" = None
    metric: str = "ndcg@100"
    placed: "Callable[[Recommender], Recommender] | None" = None
    rank: int = 0
    world_size: int = 1
    shared: Literal["users", "items"] = "users"


@dataclass(frozen=True)
class FitRecord:
    """What came of a fit. Lists have one entry an epoch; `best_epoch` counts from 1 and is 0 where nothing is iterated.

    `seconds` by part: training (inside steps), validation, checkpoints, probing. `weights` and `members`: of an ensemble.
    """

    best_epoch: int = 0
    epochs: int = 0
    losses: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    kl_by_dimension: list[float] = field(default_factory=list)
    beta: float | None = None
    batch_size: int | None = None
    device: str = "cpu"
    precision: str = "float32"
    softmax: str = "exact"  # or sampled
    seconds: dict[str, float] = field(default_factory=dict)
    weights: list[float] = field(default_factory=list)
    members: "list[FitRecord]" = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """What evaluation.json and the manifest say of the fit: all that does not change from run to run."""
        return {
            "best_epoch": self.best_epoch,
            "epochs": self.epochs,
            "losses": self.losses,
            "validation": self.validation,
            "kl_by_dimension": self.kl_by_dimension,
            "beta": self.beta,
            "batch_size": self.batch_size,
            **({"weights": self.weights, "members": [member.summary() for member in self.members]} if self.members else {}),
        }
