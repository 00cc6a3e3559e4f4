"""TOML and environment -> RunConfig: frozen, validated; a wrong key or value is one clear message.

Every key is also `RECSYS_AE__SECTION__KEY` in the environment, which wins over the file. Relative paths start from the
folder in which the command runs, as those on the command line do.
"""

import datetime
import zoneinfo
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from recsys_ae.cleaning import Cleaning
from recsys_ae.datasets import DIVIDED, check_name
from recsys_ae.errors import ConfigError
from recsys_ae.evaluation import parse_metric
from recsys_ae.latent.features import WORDS
from recsys_ae.models import MODELS, ModelConfig
from recsys_ae.objects import check_options, check_url, redacted
from recsys_ae.preprocessing import Preprocessing
from recsys_ae.staging import Columns
from recsys_ae.toml import read_toml
from recsys_ae.training.run import Precision
from recsys_ae.urls import check_encoded

LONGEST_TABLE = 50
"""Bytes of the name of a table of lists: PostgreSQL cuts names at 63, and the table beside it has a longer one."""
LEAST_MEMORY = 128 * 10**6
"""Bytes that reading and cleaning a log need whatever its size: DuckDB's own buffers."""


SECRETS = (["url"], ["signing_key"])
"""Keys whose values no message shows."""


class Section(BaseModel):
    """A section of the file: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Paths = str | list[str]
"""A file, a glob, a URL of objects, or several."""


def without_secret(path: Paths | None) -> Paths | None:
    """What a key that names files or objects holds. Raises ValueError where a URL has a password in it."""
    for each in [path] if isinstance(path, str) else path or ():
        try:
            check_url(each)
        except ConfigError as error:
            raise ValueError(str(error)) from None
    return path


def encoded(url: SecretStr | None) -> SecretStr | None:
    """A database's url. Raises ValueError where its password is not percent-encoded: drivers cut it and tell the rest."""
    if url is not None:
        try:
            check_encoded(url.get_secret_value())
        except ConfigError as error:
            raise ValueError(str(error)) from None
    return url


class LogSection(Preprocessing):
    """Where interactions come from: `path`, `dataset`, a database's `url` with a `query` or a `table`, or `source = "store"`.

    With `event_id` and `since` only what is new or changed is read of a database. And what becomes of a row: every key of
    Preprocessing too.
    """

    path: Paths | None = None
    url: SecretStr | None = None
    query: str | None = None
    table: str | None = None
    event_id: str | None = None
    since: str | None = None
    since_overlap: float = Field(3600.0, ge=0, allow_inf_nan=False)
    dataset: str | None = None
    source: Literal["store"] | None = None
    data_folder: Path | None = None
    user: str = "user_id"
    item: str = "item_id"
    timestamp: str = "timestamp"
    weight: str = "weight"
    event_type: str = "event_type"
    timezone: str = "UTC"
    ids: Literal["auto", "string"] = "auto"
    min_user_interactions: PositiveInt = 1
    min_item_interactions: PositiveInt = 1
    memory_limit: Annotated[ByteSize, Field(ge=LEAST_MEMORY)] | None = None

    _no_secret = field_validator("path")(without_secret)
    _encoded = field_validator("url")(encoded)

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.dataset is not None:
            try:
                check_name(self.dataset)
            except ConfigError as error:
                raise ValueError(str(error)) from None
        sources = [name for name in ("path", "dataset", "url", "source") if getattr(self, name) is not None]
        if len(sources) > 1:
            raise ValueError(f"{' and '.join(sources)} are set; expected one of them")
        asked = [name for name in ("query", "table") if getattr(self, name) is not None]
        if self.url is not None and len(asked) != 1:
            raise ValueError(f"url needs either a query or a table; found {' and '.join(asked) or 'neither'}")
        if asked and self.url is None:
            raise ValueError(f"{asked[0]} is of a database; expected its url too")
        marks = [name for name in ("event_id", "since") if getattr(self, name) is not None]
        if len(marks) == 1:
            raise ValueError(f"{marks[0]} is set; expected both event_id and since, two columns of the source")
        if marks and self.url is None:
            raise ValueError("event_id and since are of a database; expected its url too")
        if self.timezone not in zoneinfo.available_timezones():
            raise ValueError(f"timezone {self.timezone!r} is unknown; expected an IANA name like UTC or Europe/Berlin")
        return self

    @property
    def columns(self) -> Columns:
        """Column names; a timestamp or weight that the file names must be there."""
        roles = ("user", "item", "timestamp", "weight")
        required = frozenset({"user", "item"} | ({"timestamp", "weight"} & self.model_fields_set))
        names = {role: getattr(self, role) for role in (*roles, "event_type")}
        return Columns(**names, required=required, timezone=self.timezone)

    @property
    def preprocessing(self) -> Preprocessing:
        """What is saved in the artefact."""
        return Preprocessing(**{name: getattr(self, name) for name in Preprocessing.model_fields})

    @property
    def cleaning(self) -> Cleaning:
        """What a row must pass."""
        return Cleaning(self.preprocessing, self.min_user_interactions, self.min_item_interactions)


class ItemsSection(Section):
    """Titles and categories (separated by |) by item id."""

    path: Paths | None = None
    id: str = "item_id"
    title: str | None = None
    category: str | None = None

    _no_secret = field_validator("path")(without_secret)


class ContentSection(Section):
    """What cold items are placed by, those of `[items]` or with an image that nobody has met: titles, categories, images of a
    folder; so many words of titles and categories at most."""

    titles: bool = True
    categories: bool = True
    images: Path | None = None
    words: PositiveInt = WORDS


Share = int | float
Moment = datetime.datetime | datetime.date | int
KINDS_WITH = {
    "by": ("strong_generalization", "item_hold_out"),
    "salt": ("strong_generalization", "item_hold_out"),
    "validation_items": ("item_hold_out",),
    "test_items": ("item_hold_out",),
    "windows": ("by_time",),
}
"""The kinds of split to which a key says something; any other kind refuses it."""


class SplitSection(Section):
    """The protocol of evaluation."""

    kind: Literal["strong_generalization", "by_time", "given", "leave_last_out", "item_hold_out"] = "strong_generalization"
    by: Literal["seed", "hash"] = "seed"
    salt: str | None = Field(None, min_length=1)
    validation_users: Share = 0.1
    test_users: Share = 0.1
    validation_items: Share = 0.1
    test_items: Share = 0.1
    held_out_fraction: float = Field(0.2, gt=0, lt=1)
    validation_from: Moment | None = None
    test_from: Moment | None = None
    validation_fraction: float = Field(0.1, gt=0, lt=1)
    test_fraction: float = Field(0.1, gt=0, lt=1)
    windows: PositiveInt = 1
    train: Paths | None = None
    test: Paths | None = None
    refit: bool = True

    _no_secret = field_validator("train", "test")(without_secret)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for name in ("validation_users", "test_users", "validation_items", "test_items"):
            value = getattr(self, name)
            if value <= 0 or (isinstance(value, float) and value >= 1):
                what = name.partition("_")[2]
                raise ValueError(f"{name} is {value}; expected a number of {what}, or a fraction between 0 and 1")
        for name, kinds in KINDS_WITH.items():
            if name in self.model_fields_set and self.kind not in kinds:
                raise ValueError(f"{name} means nothing to kind {self.kind!r}; expected {' or '.join(map(repr, kinds))}")
        if self.by == "hash" and self.salt is None:
            raise ValueError('by = "hash" needs a salt, any text of your own')
        if self.by == "hash":
            what = "items" if self.kind == "item_hold_out" else "users"
            shares = {name: getattr(self, name) for name in (f"validation_{what}", f"test_{what}")}
            for name, share in shares.items():
                if not isinstance(share, float):
                    raise ValueError(
                        f'{name} is {share}; with by = "hash" expected a fraction: a number would move {what} as the log grows'
                    )
            if sum(shares.values()) >= 1:
                raise ValueError(f"{' and '.join(shares)} leave nothing to train on; expected a sum below 1")
        if self.by == "seed" and self.salt is not None:
            raise ValueError('salt needs by = "hash"; drawn by seed, nothing is salted')
        if bool(self.train) != bool(self.test):
            raise ValueError("one of train and test is set; expected both, two files")
        if self.kind == "by_time" and self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("validation_fraction and test_fraction leave nothing to train on")
        return self


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
            raise ValueError(
                f"model {self.name!r}: {_explained(error, sorted(MODELS[self.name].Config.model_fields))}"
            ) from None
        return self

    @property
    def config(self) -> ModelConfig:
        """The model's validated Config."""
        return MODELS[self.name].Config(**(self.model_extra or {}))

    @property
    def key(self) -> str:
        """What the model is called in every output."""
        return self.id or self.name


class RegistrySection(Section):
    """Where versions are kept."""

    path: Path = Path("registry")


class PublishSection(Section):
    """What chooses the best model, what the gate asks of it, and how many versions are kept."""

    metric: str = "ndcg@100"
    min_ratio_to_current: float = Field(0.98, gt=0)
    keep: int = Field(7, ge=2)

    @model_validator(mode="after")
    def _known(self) -> Self:
        try:
            parse_metric(self.metric)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self


Action = Literal["stop", "warn", "off"]
Fraction = Annotated[float, Field(ge=0, le=1)]


class ColumnsCheck(Section):
    """Columns and kinds of ids are those of the last night."""

    action: Action = "stop"


class VolumeCheck(Section):
    """Rows read and kept, in multiples of the median of the nights before."""

    min_ratio: Fraction = 0.5
    max_ratio: float = Field(3.0, ge=1, allow_inf_nan=False)
    action: Action = "stop"


class DroppedCheck(Section):
    """The share of rows that cleaning leaves out, above the median of the nights before."""

    max_rise: Fraction = 0.2
    action: Action = "stop"


class NewUsersCheck(Section):
    """The share of users that the last night did not have."""

    max_share: Fraction = 0.5
    action: Action = "warn"


class NewItemsCheck(Section):
    """The share of items that the last night did not have."""

    max_share: Fraction = 0.5
    action: Action = "stop"


class DriftCheck(Section):
    """Jensen-Shannon divergence of the items' popularity from the last night's, in bits."""

    max_divergence: Fraction = 0.05
    action: Action = "warn"


class BotsCheck(Section):
    """The share of rows dropped as those of robots, and of interactions that the heaviest thousandth of the users has."""

    max_dropped_share: Fraction = 0.1
    max_heaviest_share: Fraction = 0.2
    action: Action = "warn"


class FreshnessCheck(Section):
    """The age of the newest event; not looked at without `max_age_hours`."""

    max_age_hours: float | None = Field(None, gt=0, allow_inf_nan=False)
    action: Action = "stop"


class FutureCheck(Section):
    """The share of interactions later than this machine's clock."""

    max_share: Fraction = 0.001
    action: Action = "warn"


class AnomaliesCheck(Section):
    """The share of users whom the current version flags as strange; that many of ordinary ones are."""

    max_share: Fraction = 0.05
    false_positive_rate: float = Field(0.01, gt=0, le=0.5)
    action: Action = "off"


class ChecksSection(Section):
    """What tonight's data must be like before anything is trained on them; `nights`: how many accepted ones have a say."""

    nights: PositiveInt = 7
    columns: ColumnsCheck = ColumnsCheck()
    volume: VolumeCheck = VolumeCheck()
    dropped: DroppedCheck = DroppedCheck()
    new_users: NewUsersCheck = NewUsersCheck()
    new_items: NewItemsCheck = NewItemsCheck()
    drift: DriftCheck = DriftCheck()
    bots: BotsCheck = BotsCheck()
    freshness: FreshnessCheck = FreshnessCheck()
    future: FutureCheck = FutureCheck()
    anomalies: AnomaliesCheck = AnomaliesCheck()


TABLE = r"^([^.\x00]{1,63}\.)?[^.\x00]+$"
"""A table of a database, with or without its schema."""


class ScoreSection(Section):
    """Lists of all users: where, how long, users of a file, a file of item_id that nobody is shown, and a database's table."""

    path: Path = Path("scores")
    k: PositiveInt = 100
    users_per_file: PositiveInt = 100_000
    exclude: Paths | None = None
    url: SecretStr | None = None
    table: str | None = Field(None, pattern=TABLE)

    _no_secret = field_validator("exclude")(without_secret)
    _encoded = field_validator("url")(encoded)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.url is None) != (self.table is None):
            raise ValueError("one of url and table is set; expected both, a database and its table for the lists, or neither")
        name = (self.table or "").rpartition(".")[2]
        if len(name.encode()) > LONGEST_TABLE:
            raise ValueError(f"table is called {name!r}; expected at most {LONGEST_TABLE} bytes")
        return self


class NotifySection(Section):
    """Who is told what became of a night: a webhook, with the outcomes it wants, and a textfile for Prometheus.

    `project` names this job there. `signing_key` signs what is posted. `timeout`: seconds of one try.
    """

    project: str = Field("recsys-ae", min_length=1)
    url: SecretStr | None = None
    on: tuple[Literal["failed", "refused", "published"], ...] = ("failed", "refused")
    timeout: float = Field(10, gt=0)
    signing_key: SecretStr | None = Field(None, min_length=1)
    textfile: Path | None = None

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.url is not None and not _is_web(self.url.get_secret_value()):
            raise ValueError("url is no address of the web; expected https://HOST/PATH or http://HOST/PATH")
        if self.textfile is not None and self.textfile.suffix != ".prom":
            raise ValueError(f"textfile is {str(self.textfile)!r}; expected a name that ends with .prom, others are not read")
        return self


def _is_web(address: str) -> bool:
    try:
        found = urlsplit(address)
        return found.scheme in ("http", "https") and bool(found.hostname) and found.port != 0
    except ValueError:
        return False


class TrackingSection(Section):
    """Whether nights and `train` are logged to MLflow, where, and whether with the model itself."""

    mlflow: bool = False
    url: SecretStr = Field(SecretStr("sqlite:///mlflow.db"), min_length=1)
    experiment: str = Field("recsys-ae", min_length=1)
    artifact: bool = True


class StoreSection(Section):
    """The database of the API's events."""

    url: SecretStr | None = Field(None, min_length=1)


class TuneSection(Section):
    """The search of hyperparameters: trials of each model over all processes and restarts, seconds of each in this process."""

    trials: PositiveInt = 50
    timeout: float | None = Field(None, gt=0)
    storage: Path = Path("tune.db")
    out: Path = Path("tuned.toml")


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
            said = self.items.path is not None and (
                (self.content.titles and self.items.title) or (self.content.categories and self.items.category)
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
        raise ConfigError(f"{origin}: {_explained(error, sorted(RunConfig.model_fields))}") from None
    except ValueError as error:  # an environment variable that is not JSON where JSON is needed
        raise ConfigError(f"{origin} or the environment: {error}") from None


def _explained(error: ValidationError, known: list[str]) -> str:
    """The first fault as `[section] key: what; found ...`, with the number of others."""
    faults = error.errors(include_url=False)
    first = faults[0]
    where = [str(part) for part in first["loc"]]
    place = f"[{where[0]}] {'.'.join(where[1:])}".strip() if len(where) > 1 else "".join(where)
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "unknown key"
        if len(where) == 1:
            message += f"; expected one of {', '.join(known)}"
        elif keys := _keys_at(where[:-1]):
            message += f"; expected one of {', '.join(keys)}"
    elif first["type"] != "value_error" and where[-1:] not in SECRETS:
        message += f"; found {redacted(repr(first['input']))}"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{place}: {message}{more}" if place else f"{message}{more}"


def _keys_at(where: list[str]) -> list[str]:
    """The keys of a section, or of one within it; none where a list is on the way."""
    keys: dict[str, Any] = RunConfig.model_fields
    for name in where:
        keys = getattr(keys[name].annotation, "model_fields", {}) if name in keys else {}
    return list(keys)
