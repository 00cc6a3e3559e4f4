"""[registry], [publish], [score], [notify], [tracking], [store]: where the outcome goes."""

from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, PositiveInt, SecretStr, field_validator, model_validator

from pipelines.config.base import Paths, Section, encoded, without_secret
from recsys_ae.errors import ConfigError
from recsys_ae.evaluation import parse_metric

LONGEST_TABLE = 50
"""Bytes of the name of a table of lists: PostgreSQL cuts names at 63, and the table beside it has a longer one."""


class RegistrySection(Section):
    """Where versions are kept."""

    path: Path = Path("registry")


class PublishSection(Section):
    """What chooses the best model, what the gate asks of it, and how many versions are kept."""

    metric: str = "ndcg@100"
    min_ratio_to_current: float = Field(0.98, gt=0)
    keep: int = Field(7, ge=2)
    index_from_items: PositiveInt | None = None  # a catalogue from which on versions bear an approximate index (extra faiss)

    @model_validator(mode="after")
    def _known(self) -> Self:
        try:
            parse_metric(self.metric)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self


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
