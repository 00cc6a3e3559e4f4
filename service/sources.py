"""load_settings(file, given): arguments over the environment over a run's TOML file over defaults."""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings.exceptions import SettingsError

from recsys_ae.errors import ConfigError
from recsys_ae.toml import read_toml
from service.settings import Settings

ELSEWHERE = {"registry": ("registry", "path"), "store": ("store", "url")}
"""Settings that stand in a section of their own, which the batch jobs read too; all others stand in [service]."""
DEFAULT_REGISTRY = "registry"
"""Where a run keeps its versions if its file says nothing."""
MISSPELT = 0.85
"""How like one of our sections an unknown one is taken for it; [storage] and [score], which are others', are less."""


def load_settings(file: Path | None, given: Mapping[str, Any]) -> Settings:
    """What an operator chose; `given` are the arguments. Relative paths start from the folder in which the command runs.

    Raises ConfigError, which names file, section and key, or the variable, or the argument.
    """
    set_outside = {name.upper() for name in os.environ}
    written = {name: value for name, value in _written(file).items() if variable(name) not in set_outside}
    try:
        return Settings(**{**written, **given})
    except ValidationError as error:
        raise ConfigError(_explained(error, file, given, set_outside)) from None
    except SettingsError as error:
        name = str(error).split('"')[1]  # the field stands in quotes, and nothing before it
        raise ConfigError(f'{variable(name)}: is not JSON; expected a list as ["one", "two"]') from None


def place(name: str) -> tuple[str, str]:
    """Section and key of a setting."""
    return ELSEWHERE.get(name, ("service", name))


def variable(name: str) -> str:
    """The environment's name of a setting."""
    return "__".join(("RECSYS_AE", *place(name))).upper()


def _written(file: Path | None) -> dict[str, Any]:
    """What the file says, by setting; other sections are others' to check."""
    if file is None:
        return {}
    content = read_toml(file)
    sections: dict[str, dict[str, str]] = {"service": {}, "registry": {}, "store": {}}
    for name in Settings.model_fields:
        section, key = place(name)
        sections[section][key] = name
    for section in content.keys() - sections.keys():
        if near := get_close_matches(section.lower(), sections, 1, MISSPELT):
            raise ConfigError(f"{file}: [{section}]: unknown section; expected [{near[0]}]")
    found: dict[str, Any] = {"registry": DEFAULT_REGISTRY}
    for section, keys in sections.items():
        values = content.get(section, {})
        if not isinstance(values, dict):  # which is not shown: it may be a url
            raise ConfigError(f"{file}: {section} is a {type(values).__name__}; expected a section [{section}]")
        for key, value in values.items():
            if key not in keys:
                raise ConfigError(f"{file}: [{section}] {key}: unknown key; expected {_near(key, list(keys))}")
            found[keys[key]] = value
    return found


def _near(key: str, keys: list[str]) -> str:
    if key in ELSEWHERE:
        return "[{}] {}".format(*place(key))
    return " or ".join(get_close_matches(key, keys)) or f"one of {', '.join(keys)}"


def _explained(error: ValidationError, file: Path | None, given: Mapping[str, Any], set_outside: set[str]) -> str:
    """The first fault: where it was said, what is wrong, and what was found, unless it is a secret."""
    fault = error.errors(include_url=False)[0]
    message = fault["msg"].removeprefix("Value error, ")
    if not fault["loc"]:  # of several settings, which the message names
        return message
    name = next(name for name in Settings.model_fields if fault["loc"][0] in (name, variable(name)))
    if fault["type"] == "missing":
        return "expected --registry DIR, or the TOML file of a run"
    if name in given:
        where = f"--{name.replace('_', '-')}"
    elif variable(name) in set_outside:
        where = variable(name)
    else:
        where = "{}: [{}] {}".format(file, *place(name))
    where = ".".join((where, *map(str, fault["loc"][1:])))
    return f"{where}: {message}; found {fault['input']!r}" if Settings.model_fields[name].repr else f"{where}: {message}"
