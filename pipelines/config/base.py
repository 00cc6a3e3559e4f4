"""What sections share."""

from pydantic import BaseModel, ConfigDict, SecretStr

from recsys_ae.errors import ConfigError
from recsys_ae.objects import check_url
from recsys_ae.urls import check_encoded


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
