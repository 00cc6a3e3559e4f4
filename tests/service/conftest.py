"""Two small registries, one of integer and one of string ids, and a real server on a real socket for each."""

import asyncio
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from recsys_ae.artifact import Artifact
from recsys_ae.histories import Histories
from recsys_ae.ids import Id, IdMap
from recsys_ae.items import ItemMetadata
from recsys_ae.models.ease import EASE, EASEConfig
from recsys_ae.preprocessing import Preprocessing
from recsys_ae.ranking import Ranking, rank_top_k
from recsys_ae.registry import Registry, StoredUsers
from recsys_ae.training.run import RunContext
from service.store import Store
from tests.unit.test_sql import POSTGRES, needs_postgres

N_USERS, N_ITEMS = 30, 24
REFERENCE_TIME = 1_700_000_000


@dataclass(frozen=True)
class World:
    """A registry with one current version, and what is in it."""

    path: Path
    version: str
    artifact: Artifact
    stored: StoredUsers

    def id(self, column: int) -> Id:
        """The id of an item's column."""
        return self.artifact.items.ids[column]

    def described(self, ranking: Ranking) -> list[dict[str, Any]]:
        """A ranking's one row as the API gives it."""
        columns, scores = ranking.row(0)
        return [
            {"item_id": self.id(column), "score": score, "title": self.artifact.metadata.title(column), "rank": rank}
            for rank, (column, score) in enumerate(zip(columns, scores, strict=True), 1)
        ]

    def expected(self, columns: list[int], k: int, **options: Any) -> list[dict[str, Any]]:
        """What `rank_top_k` itself gives for a history of weights 1."""
        return self.described(rank_top_k(self.artifact.model, Histories.from_rows([columns], N_ITEMS), k, **options))


def planted() -> Histories:
    """30 users of two tastes: each took 7 of the 12 items of one half of the catalogue; early items more often."""
    random = np.random.default_rng(7)
    chance = np.linspace(2, 1, 12) / np.linspace(2, 1, 12).sum()
    rows = [(random.choice(12, 7, replace=False, p=chance) + 12 * (user % 2)).tolist() for user in range(N_USERS)]
    times = [(REFERENCE_TIME - 86_400 * np.arange(7, 0, -1)).tolist() for _ in rows]
    return Histories.from_rows(rows, N_ITEMS, times=times)


def build(path: Path, users: IdMap, items: IdMap, preprocessing: Preprocessing) -> World:
    """A registry whose one version is EASE on the planted histories."""
    histories = planted()
    model = EASE(EASEConfig(regularisation=5.0), N_ITEMS)
    model.fit(histories, validation=None, run=RunContext(device="cpu"))
    titles = {id_: f"Title of {id_}" for id_ in items.ids[1:]}
    categories = {
        id_: (("first",) if column < 12 else ("second",)) + (("even",) if column % 2 == 0 else ())
        for column, id_ in enumerate(items.ids)
    }
    metadata = ItemMetadata.of(items, histories, titles, categories)
    manifest = {"data": {"digest": "sha256:planted"}}
    artifact = Artifact("ease", model, items, metadata, preprocessing, manifest)
    stored = StoredUsers(users, histories)
    registry = Registry(path)
    version = registry.publish(artifact, "ease", stored, {"ndcg@10": {"mean": 0.5}})
    registry.promote(version)
    return World(path, version, artifact, stored)


@pytest.fixture(scope="session")
def integers(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Ids are integers; events below weight 4 do not count, the others count 1."""
    users, items = IdMap(tuple(range(1, N_USERS + 1))), IdMap(tuple(range(100, 100 + N_ITEMS)))
    return build(tmp_path_factory.mktemp("integers"), users, items, Preprocessing(min_weight=4.0))


@pytest.fixture(scope="session")
def strings(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Ids are strings, some of them awkward; weights count as they are and halve every 10 days."""
    users = IdMap(tuple(f"user {n}" for n in range(N_USERS)))
    items = IdMap(("a/b", "é?&#", "7", *(f"item-{n}" for n in range(3, N_ITEMS))))
    preprocessing = Preprocessing(weight_transform="linear", half_life_days=10, reference_time=REFERENCE_TIME)
    return build(tmp_path_factory.mktemp("strings"), users, items, preprocessing)


@dataclass(frozen=True)
class Service:
    """`python -m service` in a process of its own, and the lines it has written on stderr since it listens."""

    url: str
    process: subprocess.Popen[str]
    lines: list[str]

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=20, trust_env=False, **options)


@contextmanager
def service(registry: Path, *arguments: str, store: str | None = None, **environment: str) -> Iterator[Service]:
    """A service that ends with the block; settings may come from the environment, `largest_k="5"`."""
    command = [sys.executable, "-m", "service", "--registry", str(registry), "--port", "0", *arguments]
    settings = {f"RECSYS_AE__SERVICE__{name.upper()}": value for name, value in environment.items()}
    settings |= {"RECSYS_AE__STORE__URL": store} if store else {}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | settings)
    lines: list[str] = []
    assert process.stderr is not None
    drain = threading.Thread(target=lines.extend, args=(process.stderr,))  # nobody else reads: a full pipe would block it
    try:
        line = process.stderr.readline()
        found = re.fullmatch(r"serving (.+) at (http://\S+:\d+)\n", line)
        assert found, line + process.stderr.read()
        drain.start()
        yield Service(found[2], process, lines)
    finally:
        process.kill()
        if drain.ident:
            drain.join()
        process.stderr.close()
        process.wait()


@contextmanager
def running(registry: Path, *arguments: str, store: str | None = None) -> Iterator[str]:
    """The URL of a service that ends with the block."""
    with service(registry, *arguments, store=store) as started:
        yield started.url


@contextmanager
def client_of(world: World, store: str | None = None) -> Iterator[httpx.Client]:
    """A client of a server of its own."""
    with running(world.path, store=store) as url, httpx.Client(base_url=url, timeout=20, trust_env=False) as client:
        yield client


@pytest.fixture(scope="session")
def api(integers: World) -> Iterator[httpx.Client]:
    """A client of the server of integer ids."""
    with client_of(integers) as client:
        yield client


@pytest.fixture(scope="session")
def string_api(strings: World) -> Iterator[httpx.Client]:
    """A client of the server of string ids."""
    with client_of(strings) as client:
        yield client


def ask(app: FastAPI, method: str, path: str, **options: Any) -> httpx.Response:
    """One request, without a socket."""

    async def answer() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **options)

    return asyncio.run(answer())


@dataclass(frozen=True)
class InProcess:
    """A client of an application in this process."""

    app: FastAPI

    def get(self, path: str, **options: Any) -> httpx.Response:
        return ask(self.app, "GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return ask(self.app, "POST", path, **options)

    def delete(self, path: str, **options: Any) -> httpx.Response:
        return ask(self.app, "DELETE", path, **options)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=needs_postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of an empty database for a store."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'events.db'}"
        return
    import psycopg

    name = f"recsys_ae_test_store_{os.getpid()}"
    with psycopg.connect(POSTGRES, autocommit=True) as con:
        con.execute(f"drop schema if exists {name} cascade")
        con.execute(f"create schema {name}")
        yield f"{POSTGRES}?options=-csearch_path%3D{name}"
        con.execute(f"drop schema {name} cascade")


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    """The store of it."""
    opened = Store(url)
    yield opened
    opened.close()


def post(client: httpx.Client, columns: list[int], world: World, **body: Any) -> dict[str, Any]:
    """The answer for a history of the items of those columns."""
    history = [{"item_id": world.id(column)} for column in columns]
    answer = client.post("/v1/recommendations", json={"history": history, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


def assert_problem(answer: httpx.Response, *statuses: int) -> dict[str, Any]:
    """The problem document of an answer with one of the statuses."""
    assert answer.status_code in statuses, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == answer.status_code and problem["title"] and problem["detail"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    return problem
