"""TOML and environment -> RunConfig: frozen, validated; a wrong key or value is one clear message.

Every key is also `RECSYS_AE__SECTION__KEY` in the environment, which wins over the file. Relative paths start from the
folder in which the command runs, as those on the command line do.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, NonNegativeInt, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from pipelines.config.base import Paths
from pipelines.config.checks import ChecksSection
from pipelines.config.faults import explained
from pipelines.config.log import ContentSection, ItemsSection, LogSection
from pipelines.config.models import ClusterSection, EvaluationSection, ModelSection, RunSection, TuneSection
from pipelines.config.publishing import (
    NotifySection,
    PublishSection,
    RegistrySection,
    ScoreSection,
    StoreSection,
    TrackingSection,
)
from pipelines.config.split import SplitSection
from recsys_ae.datasets import DIVIDED
from recsys_ae.errors import ConfigError
from recsys_ae.evaluation import parse_metric
from recsys_ae.objects import check_options
from recsys_ae.toml import read_toml

__all__ = [
    "ChecksSection",
    "ClusterSection",
    "ContentSection",
    "EvaluationSection",
    "ItemsSection",
    "LogSection",
    "ModelSection",
    "NotifySection",
    "Paths",
    "PublishSection",
    "RegistrySection",
    "RunConfig",
    "RunSection",
    "ScoreSection",
    "SplitSection",
    "StoreSection",
    "TrackingSection",
    "TuneSection",
    "load_config",
    "make_config",
]


class RunConfig(BaseSettings):
    """All of a run."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix="RECSYS_AE__",
        env_nested_delimiter="__",
    )

    seed: NonNegativeInt = 0
    log: LogSection = LogSection()
    items: ItemsSection = ItemsSection()
    content: ContentSection | None = None
    split: SplitSection = SplitSection()
    evaluation: EvaluationSection = EvaluationSection()
    run: RunSection = RunSection()
    cluster: ClusterSection = ClusterSection()
    models: tuple[ModelSection, ...] = Field((ModelSection(name="mult_vae"),), min_length=1)
    registry: RegistrySection = RegistrySection()
    publish: PublishSection = PublishSection()
    checks: ChecksSection = ChecksSection()
    score: ScoreSection = ScoreSection()
    tune: TuneSection = TuneSection()
    notify: NotifySection = NotifySection()
    tracking: TrackingSection = TrackingSection()
    store: StoreSection = StoreSection()
    service: dict[str, Any] = {}  # the API's own, which checks it when it starts
    storage: dict[str, dict[str, Any]] = {}

    @field_validator("storage")
    @classmethod
    def _no_secret(cls, storage: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """By protocol of a URL, what its driver is given."""
        for protocol, options in storage.items():
            try:
                check_options(protocol, options)
            except ConfigError as error:
                raise ValueError(str(error)) from None
        return storage

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file, key by key."""
        return env_settings, init_settings

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        keys = [model.key for model in self.models]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise ValueError(f"two [[models]] are called {twice[0]!r}; give each an id of its own")
        if self.split.kind == "given" and not self.split.train and self.log.dataset not in DIVIDED:
            sets = ", ".join(DIVIDED)
            raise ValueError(f'[split] kind = "given" needs train and test, two files, or a [log] dataset of {sets}')
        if self.split.kind != "given" and not (self.log.path or self.log.dataset or self.log.url or self.log.source):
            raise ValueError('[log] has no source; expected path = "FILE", url = "DATABASE" with a query, or dataset = "NAME"')
        if self.content is not None:
            said = (self.items.path is None and self.log.dataset is not None) or (
                self.items.path is not None
                and ((self.content.titles and self.items.title) or (self.content.categories and self.items.category))
            )
            if not said and self.content.images is None:
                raise ValueError("[content] has nothing to go by; expected [items] with a title or category column, or images")
        if self.log.source and self.store.url is None:
            raise ValueError('[log] source = "store" needs a store; expected [store] url, or RECSYS_AE__STORE__URL')
        return self

    @property
    def ks(self) -> tuple[int, ...]:
        """List lengths to judge: those asked for and that of the publishing metric."""
        return tuple(sorted({*self.evaluation.ks, parse_metric(self.publish.metric)[1]}))


def load_config(path: Path) -> RunConfig:
    """Read and validate. Raises ConfigError, which names file, section, key, what was found and what was expected."""
    return make_config(read_toml(path), str(path))


def make_config(content: Mapping[str, Any], origin: str = "configuration") -> RunConfig:
    """Validate what a file would hold."""
    try:
        return RunConfig(**content)
    except ValidationError as error:
        raise ConfigError(f"{origin}: {explained(error, RunConfig.model_fields)}") from None
    except ValueError as error:  # an environment variable that is not JSON where JSON is needed
        raise ConfigError(f"{origin} or the environment: {error}") from None
