"""A small registry with planted structure, and a real server on a real socket."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest

from recsys_ae.artifact import Artifact
from recsys_ae.histories import Histories
from recsys_ae.ids import Id, IdMap
from recsys_ae.items import ItemMetadata
from recsys_ae.models import MODELS
from recsys_ae.preprocessing import Preprocessing
from recsys_ae.registry import Registry, StoredUsers
from recsys_ae.training import RunContext

N_USERS, N_ITEMS = 60, 24


def publish(folder: Path, ids: list[Id]) -> Registry:
    """EASE on two tastes: even and odd columns never meet. Item 0 is the most popular; weights below 3 do not count."""
    rng = np.random.default_rng(0)
    rows = [sorted(rng.choice(np.arange(u % 2, N_ITEMS, 2), 6, replace=False)) for u in range(N_USERS)]
    rows = [row if u % 2 else sorted({0, *row}) for u, row in enumerate(rows)]
    histories = Histories.from_rows(rows, N_ITEMS)
    items, users = IdMap(tuple(ids)), IdMap(tuple(range(1, N_USERS + 1)))
    model = MODELS["ease"](MODELS["ease"].Config(), N_ITEMS)
    model.fit(histories, validation=None, run=RunContext())
    titles = {id_: f"Title of {id_}" for id_ in ids[:-1]}
    categories = {id_: (("even",) if column % 2 == 0 else ("odd",)) for column, id_ in enumerate(ids)}
    metadata = ItemMetadata.of(items, histories, titles, categories)
    manifest = {"data": {"digest": "sha256:planted"}, "fit": {}}
    artifact = Artifact("ease", model, items, metadata, Preprocessing(min_weight=3.0), manifest)
    registry = Registry(folder)
    metrics = {"ndcg@10": {"mean": 0.5, "se": 0.1, "ci95": [0.3, 0.7], "users": 9}}
    registry.promote(registry.publish(artifact, "ease", StoredUsers(users, histories), metrics))
    return registry


@dataclass(frozen=True)
class Server:
    """A running service and what it serves."""

    registry: Registry
    client: httpx.Client

    def post(self, **body: object) -> httpx.Response:
        return self.client.post("/v1/recommendations", json=body)

    def raw(self, content: bytes | str, kind: str = "application/json") -> httpx.Response:
        return self.client.post("/v1/recommendations", content=content, headers={"Content-Type": kind})


def serving(registry: Registry) -> Iterator[Server]:
    command = [sys.executable, "-m", "service", "--registry", str(registry.path), "--port", "0", "--exit-with-stdin"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdin is not None
    assert child.stderr is not None
    try:
        line = child.stderr.readline()
        assert " at http://" in line, line + child.stderr.read()
        with httpx.Client(base_url=line.rsplit(" at ", 1)[1].strip(), timeout=30) as client:
            yield Server(registry, client)
    finally:
        child.terminate()
        said = child.stderr.read()
        child.wait(20)
        child.stdin.close()
        child.stderr.close()
    assert "Traceback" not in said, said


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Integer ids 100, 101, ..."""
    yield from serving(publish(tmp_path_factory.mktemp("integers") / "registry", list(range(100, 100 + N_ITEMS))))


@pytest.fixture(scope="session")
def strings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """String ids, some of digits, one not ASCII."""
    ids: list[Id] = [f"item-{c}" for c in range(N_ITEMS - 2)] + ["7", "žluť/ý?"]
    yield from serving(publish(tmp_path_factory.mktemp("strings") / "registry", ids))


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A registry without a version."""
    yield from serving(Registry(tmp_path_factory.mktemp("empty")))


def problem(response: httpx.Response, status: int) -> dict[str, object]:
    """Asserts a problem document of that status and returns it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, object] = json.loads(response.content)
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    assert response.headers["x-request-id"]
    return document
