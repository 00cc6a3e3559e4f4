"""Messages without the secrets of the configuration."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr

from pipelines.config import RunConfig
from recsys_ae import urls

LONGEST = 300
"""Characters of a sink's message: some libraries answer with pages."""
LEAST = 6
"""Characters of a part of an address that is worth hiding; shorter ones are words of any message."""


def failure(config: RunConfig, error: BaseException) -> str:
    """An error's first line, or its kind where it has none, without secrets."""
    text = str(error).strip() or type(error).__name__
    return hidden(config, text).splitlines()[0][:LONGEST]


def hidden(config: RunConfig, text: str) -> str:
    """The text, `***` in the place of every secret."""
    for secret in sorted(set(_secrets(config)), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _secrets(section: BaseModel) -> Iterator[str]:
    """Every SecretStr, and of an address what may be one alone: a password, its parts; on the web, path and query too."""
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _secrets(value)
        elif isinstance(value, SecretStr) and value.get_secret_value():
            yield value.get_secret_value()
            yield from (part for part in _parts(value.get_secret_value()) if len(part) >= LEAST)


def _parts(address: str) -> Iterator[str]:
    yield from urls.secrets(address)
    try:
        found = urlsplit(address)
    except ValueError:
        return
    if found.scheme in ("http", "https"):
        yield from (found.path, found.path.strip("/"), found.query)
