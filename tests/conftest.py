"""What all tests share: one thread, so that results on the CPU are bit-equal, and the small planted worlds."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import torch

from recsys_ae import Histories, Holdout
from tests import worlds

if TYPE_CHECKING:
    from tests.stores import Store

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tastes() -> Histories:
    """23 users of three tastes over 42 items."""
    return worlds.tastes()


@pytest.fixture(scope="session")
def holdout() -> Holdout:
    """19 further users of the same tastes, a fifth of each one's history held out."""
    return worlds.holdout()


@pytest.fixture(scope="session")
def _s3_server() -> Iterator["Store"]:
    from tests.stores import running

    with running() as store:
        yield store


@pytest.fixture
def s3(_s3_server: "Store", monkeypatch: pytest.MonkeyPatch) -> Iterator["Store"]:
    """An S3 store with the empty bucket `shop`, which the environment leads to."""
    from tests.stores import emptied

    with emptied(_s3_server, monkeypatch) as store:
        yield store
