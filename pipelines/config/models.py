"""[run], [cluster], [[models]], [tune], [evaluation]: how models are made and judged."""

from pathlib import Path
from typing import Literal, Self

from pydantic import ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError, model_validator

from pipelines.config.base import Section
from pipelines.config.faults import explained
from recsys_ae.cluster.session import Room
from recsys_ae.models import MODELS, ModelConfig
from recsys_ae.training.run import Precision


class EvaluationSection(Section):
    """List lengths, and how the items' map is drawn: t-SNE, PCA (fast), or not at all."""

    ks: tuple[PositiveInt, ...] = Field((10, 20, 50, 100), min_length=1)
    map: Literal["tsne", "pca", "none"] = "tsne"


class RunSection(Section):
    """Where and how to compute."""

    device: str = "auto"
    precision: Precision = "auto"
    folder: Path = Path("runs")
    warm_start: bool = False  # a night's models begin from the weights of the current version
    cold_every: int = Field(7, ge=2)  # of so many versions of a model in a row, one begins cold


class ClusterSection(Section):
    """Who works: this process; several of this machine, by torchrun, in training; or those of a Ray cluster, which also clean
    the log and write the lists. In training each has a part of the users, or of the items.

    `address`, `cpus` and `gpus` (of a worker), `min_workers` and `wait` are of Ray; without an address a Ray of this machine is
    started and ended.
    """

    engine: Literal["local", "torchrun", "ray"] = "local"
    address: str | None = None
    workers: PositiveInt = 2
    cpus: float = Field(1.0, gt=0)
    gpus: float = Field(0.0, ge=0)
    min_workers: PositiveInt | None = None  # with which a fit goes on while no more have room; None: all
    wait: float = Field(0.0, ge=0)  # seconds for nodes that are on their way
    share: Literal["users", "items"] = "users"
    restarts: NonNegativeInt = 3  # times that all are started again where one has died

    @model_validator(mode="after")
    def _of_its_engine(self) -> Self:
        named = [name for name in ("address", "cpus", "gpus", "min_workers", "wait") if name in self.model_fields_set]
        if named and self.engine != "ray":
            raise ValueError(f'{named[0]} means nothing to engine = "{self.engine}"; expected engine = "ray"')
        if self.min_workers is not None and self.min_workers > self.workers:
            raise ValueError(
                f"min_workers = {self.min_workers} is more than workers = {self.workers}; expected at most as many"
            )
        if self.min_workers is not None and (self.cpus % 1 or self.gpus % 1):  # Ray would count one too few of tenths
            raise ValueError(f"min_workers with cpus = {self.cpus:g} and gpus = {self.gpus:g}; expected whole numbers of both")
        if self.min_workers is not None and self.share == "items":
            raise ValueError('min_workers means nothing to share = "items": each worker holds the rows of its own items')
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"gpus = {self.gpus:g}; expected a whole number, or a part of one below 1")
        return self

    @property
    def room(self) -> Room:
        """What a fit asks of a Ray cluster."""
        return Room(self.workers, self.cpus, self.gpus, self.min_workers, self.wait)


class ModelSection(Section):
    """One model: `name`, `id`, and any key of the model's Config."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str
    id: str = Field("", pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.-]*)?$")

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.name not in MODELS:
            raise ValueError(f"model {self.name!r} is unknown; expected one of {', '.join(MODELS)}")
        try:
            MODELS[self.name].Config(**(self.model_extra or {}))
        except ValidationError as error:
            raise ValueError(f"model {self.name!r}: {explained(error, MODELS[self.name].Config.model_fields)}") from None
        return self

    @property
    def config(self) -> ModelConfig:
        """The model's validated Config."""
        return MODELS[self.name].Config(**(self.model_extra or {}))

    @property
    def key(self) -> str:
        """What the model is called in every output."""
        return self.id or self.name


class TuneSection(Section):
    """The search of hyperparameters: trials of each model over all processes and restarts, seconds of each in this process."""

    trials: PositiveInt = 50
    timeout: float | None = Field(None, gt=0)
    storage: Path = Path("tune.db")
    out: Path = Path("tuned.toml")
