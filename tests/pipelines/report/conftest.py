"""Reports that several tests read, each drawn once."""

from pathlib import Path

import pytest

from pipelines.report import render
from tests.pipelines.report import documents


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a whole document."""
    return render(documents.full(), tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a document with hostile texts."""
    return render(documents.hostile(), tmp_path_factory.mktemp("hostile"))
