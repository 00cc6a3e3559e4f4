"""A TOML file as a dict, or one clear message."""

import tomllib
from pathlib import Path
from typing import Any

from recsys_ae.errors import ConfigError


def read_toml(path: Path) -> dict[str, Any]:
    """The file's content. Raises ConfigError where there is none, or it is no TOML."""
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        raise ConfigError(f"{path}: does not exist; expected a TOML file") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder; expected a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not valid TOML: {error}") from None
