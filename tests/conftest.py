"""What all tests share: one thread, so that results on the CPU are bit-equal, and the small planted worlds."""

import pytest
import torch

from recsys_ae import Histories, Holdout
from tests import worlds

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tastes() -> Histories:
    """23 users of three tastes over 42 items."""
    return worlds.tastes()


@pytest.fixture(scope="session")
def holdout() -> Holdout:
    """19 further users of the same tastes, a fifth of each one's history held out."""
    return worlds.holdout()
