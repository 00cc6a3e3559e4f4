"""What is said of a configuration that is wrong."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from recsys_ae.objects import redacted

SECRETS = (["url"], ["signing_key"])
"""Keys whose values no message shows."""


def explained(error: ValidationError, fields: Mapping[str, Any]) -> str:
    """The first fault as `[section] key: what; found ...`, with the number of others."""
    faults = error.errors(include_url=False)
    first = faults[0]
    where = [str(part) for part in first["loc"]]
    place = f"[{where[0]}] {'.'.join(where[1:])}".strip() if len(where) > 1 else "".join(where)
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "unknown key"
        if len(where) == 1:
            message += f"; expected one of {', '.join(sorted(fields))}"
        elif keys := _keys_at(fields, where[:-1]):
            message += f"; expected one of {', '.join(keys)}"
    elif first["type"] != "value_error" and where[-1:] not in SECRETS:
        message += f"; found {redacted(repr(first['input']))}"
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{place}: {message}{more}" if place else f"{message}{more}"


def _keys_at(fields: Mapping[str, Any], where: list[str]) -> list[str]:
    """The keys of a section, or of one within it; none where a list is on the way."""
    keys = fields
    for name in where:
        keys = getattr(keys[name].annotation, "model_fields", {}) if name in keys else {}
    return list(keys)
