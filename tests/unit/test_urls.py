"""No part of a password is told, whatever a driver makes of the address."""

import re

import pytest

from recsys_ae.errors import ConfigError
from recsys_ae.objects import redacted
from recsys_ae.urls import blanked, check_encoded, shown, without_passwords

HERE = "127.0.0.1:5432/test"
BROKEN = {  # address: what stays of it, and the parts of its password
    f"postgresql://postgres:hunter2@secretpart@{HERE}": ("postgresql://postgres:***@" + HERE, ["hunter2", "secretpart"]),
    f"postgresql://postgres:hunter2/secretpart@{HERE}": ("postgresql://postgres:***@" + HERE, ["hunter2", "secretpart"]),
    f"postgresql://me:one?two@three/four:five@@{HERE}": (
        "postgresql://me:***@" + HERE,
        ["one", "two", "three", "four", "five"],
    ),
    f"mysql://me:ab%40cdef@gh@{HERE}": ("mysql://me:***@" + HERE, ["ab", "cdef", "gh"]),
    f"postgresql://me@server:hunter2@{HERE}": ("postgresql://me@server:***@" + HERE, ["hunter2"]),
    f"postgresql://us/er:hunter2@{HERE}": ("postgresql://us/er:***@" + HERE, ["hunter2"]),
}
WHOLE = {
    f"postgresql://postgres:hunter2@{HERE}": f"postgresql://postgres:***@{HERE}",
    f"postgresql://postgres:hunter2%40secret%2Fpart@{HERE}": f"postgresql://postgres:***@{HERE}",
    f"postgresql://{HERE}?user=me&password=hunter2": f"postgresql://{HERE}?user=me&password=***",
    f"postgresql://postgres@{HERE}": f"postgresql://postgres@{HERE}",
    f"postgresql://{HERE}": f"postgresql://{HERE}",
    "sqlite:////srv/a@b/c@d.db": "sqlite:////srv/a@b/c@d.db",
    "sqlite://": "sqlite://",
}


@pytest.mark.parametrize(("url", "expected"), [*[(url, told) for url, (told, _) in BROKEN.items()], *WHOLE.items()])
def test_all_up_to_the_last_at_is_hidden(url: str, expected: str) -> None:
    assert shown(url) == expected
    if "password=" not in url:
        assert without_passwords(f"cannot read {url}, ask x@y") == f"cannot read {expected}, ask x@y"
        assert redacted(url) == expected


@pytest.mark.parametrize("url", BROKEN)
def test_no_part_of_a_password_is_left_of_what_a_driver_says(url: str) -> None:
    _, parts = BROKEN[url]
    first = url.partition("://")[2].partition("@")[2]  # what libpq takes for the host
    for text in (url, first, first.upper(), *(f'could not translate host name "{part}@x" to address' for part in parts)):
        left = blanked(url, text)
        assert not [part for part in parts if re.search(rf"(?<!\w){part}(?!\w)", left, re.IGNORECASE)], left
        assert not [part for part in parts if len(part) >= 4 and part in left.lower()], left


def test_encoded_and_decoded_are_the_same_secret() -> None:
    url = "postgresql://me:p%40ss%2Fw0rd@db/shop?password=other%20one"
    assert blanked(url, "p%40ss%2Fw0rd p@ss/w0rd w0rd other%20one other one me db") == "*** *** *** *** *** me db"


def test_short_parts_are_hidden_as_words_alone() -> None:
    assert blanked("postgresql://me:a@b@db/x", 'no host "b@db", bad port "a"') == 'no host "***@db", bad port "***"'


@pytest.mark.parametrize("url", BROKEN)
def test_what_should_be_encoded_is_refused_and_not_told(url: str) -> None:
    with pytest.raises(ConfigError, match="percent-encoded") as raised:
        check_encoded(url)
    assert not [part for part in BROKEN[url][1] if re.search(rf"\b{part}\b", str(raised.value))]


@pytest.mark.parametrize("url", WHOLE)
def test_what_is_encoded_is_not_refused(url: str) -> None:
    check_encoded(url)
