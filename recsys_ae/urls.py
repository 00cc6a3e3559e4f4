"""Addresses without their passwords, also such as nobody percent-encoded."""

import re
from urllib.parse import unquote

from recsys_ae.errors import ConfigError

# A password reaches to the last @: drivers stop at the first, and take the rest of it for a host, a port or a path.
PASSWORD = re.compile(r"(://(?!/)[^:]*):(.*)@", re.DOTALL)
PASSWORD_IN_TEXT = re.compile(r"(://(?!/)[^:\s]*):\S*@")
PASSWORD_IN_QUERY = re.compile(r"(password=)([^&]+)")
BETWEEN = re.compile(r"[@/:?#&=,\[\]]")
"""Where drivers cut an address."""
SHORTEST = 4
"""Characters of a part of a password that is blanked within a word too."""


def shown(url: str) -> str:
    """The url without its password."""
    return PASSWORD_IN_QUERY.sub(r"\1***", PASSWORD.sub(r"\1:***@", url))


def without_passwords(text: str) -> str:
    """A text without the passwords of the addresses in it."""
    return PASSWORD_IN_TEXT.sub(r"\1:***@", text)


def secrets(url: str) -> set[str]:
    """The url's passwords and their parts, as a driver may tell them: as they stand, and percent-decoded."""
    passwords = {found[2] for rule in (PASSWORD, PASSWORD_IN_QUERY) for found in rule.finditer(url)}
    whole = passwords | set(map(unquote, passwords))
    parts = {part for password in whole for part in BETWEEN.split(password)}
    return (whole | parts | set(map(unquote, parts))) - {""}


def blanked(url: str, text: str) -> str:
    """The text, `***` in the place of the url's passwords and their parts; of a short one only where it is a word."""
    longest_first = sorted(secrets(url), key=lambda part: (-len(part), part))
    rules = [re.escape(part) if len(part) >= SHORTEST else rf"(?<!\w){re.escape(part)}(?!\w)" for part in longest_first]
    return re.sub("|".join(rules), "***", text, flags=re.IGNORECASE) if rules else text  # hosts come back in lower case


def check_encoded(url: str) -> None:
    """Raises ConfigError where a url's user or password has an @ or / that is not percent-encoded, without telling it."""
    _, _, rest = url.partition("://")
    before, at, _ = rest.rpartition("@")
    if at and not rest.startswith("/") and ("@" in before or "/" in before):
        raise ConfigError(
            "has a second @, or a / before its @; expected those of user, password and query percent-encoded: %40, %2F"
        )
