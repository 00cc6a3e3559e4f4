"""The life of models: what is new takes over between two requests, what is broken does not, and every user keeps an arm."""

import gc
import json
import shutil
import threading
import time
import weakref
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi import FastAPI

from recsys_ae.histories import Histories
from recsys_ae.ids import IdMap
from recsys_ae.models.ease import EASE, EASEConfig
from recsys_ae.ranking import rank_top_k
from recsys_ae.registry import Registry
from recsys_ae.training.run import RunContext
from service.app import create_app
from service.live import TRY_AGAIN, Live
from service.settings import Settings
from tests.service.conftest import N_ITEMS, InProcess, World, planted, service

HISTORY = [{"item_id": 100}, {"item_id": 103}]


@dataclass
class Life:
    """A registry of its own with one version, and what is served of it."""

    registry: Registry
    world: World
    app: FastAPI
    client: InProcess

    @property
    def live(self) -> Live:
        found: Live = self.app.state.live
        return found

    def publish(self, regularisation: float = 50.0, promote: bool = True, **changes: Any) -> str:
        """Another version; where it differs from the first one it is by `changes` of the artefact."""
        model = EASE(EASEConfig(regularisation=regularisation), N_ITEMS)
        model.fit(planted(), validation=None, run=RunContext(device="cpu"))
        artifact = replace(self.world.artifact, **({"model": model} | changes))
        version = self.registry.publish(artifact, "ease", self.world.stored, {})
        if promote:
            self.registry.promote(version)
        return version

    def ask(self, **body: Any) -> dict[str, Any]:
        answer = self.client.post("/v1/recommendations", json={"history": HISTORY, "k": 3, **body})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def figure(self, name: str) -> float:
        return float(next(line.split()[-1] for line in self.client.get("/metrics").text.split("\n") if line.startswith(name)))


@pytest.fixture
def life(integers: World, tmp_path: Path) -> Life:
    shutil.copytree(integers.path, tmp_path / "registry")
    app = create_app(Settings(registry=tmp_path / "registry", threads=1))
    return Life(Registry(tmp_path / "registry"), integers, app, InProcess(app))


def damage(path: Path) -> bytes:
    """Flip a bit in the middle; returns what was there."""
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    return whole


def test_another_version_takes_over_and_the_old_one_goes(life: Life) -> None:
    first = life.ask()
    old = weakref.ref(life.live.now.main)
    version = life.publish()
    assert life.ask()["model_version"] == first["model_version"] == life.world.version  # nobody has looked yet
    life.live.look()
    second = life.ask()
    assert second["model_version"] == version and second["items"] != first["items"]
    artifact, _ = life.registry.load(version)
    ranking = rank_top_k(artifact.model, Histories.from_rows([[0, 3]], N_ITEMS), 3)
    assert [item["score"] for item in second["items"]] == ranking.row(0)[1]
    gc.collect()
    assert old() is None
    assert life.figure("recsys_ae_swaps_total") == 1 and life.figure("recsys_ae_versions_refused_total") == 0
    assert f'recsys_ae_model_info{{model="ease",version="{version}"}} 1.0' in life.client.get("/metrics").text
    life.registry.rollback()
    life.live.look()
    assert life.ask()["items"] == first["items"]


def test_a_request_keeps_the_version_that_it_began_with(life: Life) -> None:
    engine = life.live.now.main
    assert engine is not None
    began, go_on, real = threading.Event(), threading.Event(), engine.for_history
    engine.for_history = lambda *arguments: (began.set(), go_on.wait(20), real(*arguments))[2]  # type: ignore[method-assign]
    found: list[dict[str, Any]] = []
    held = threading.Thread(target=lambda: found.append(life.ask()))
    held.start()
    began.wait(20)
    version = life.publish()
    life.live.look()
    assert life.live.now.main is not None and life.live.now.main.version == version
    go_on.set()
    held.join(20)
    assert found[0]["model_version"] == life.world.version and life.ask()["model_version"] == version


@pytest.mark.parametrize("name", ["model.safetensors", "items.json", "manifest.json", "histories.safetensors", "version.json"])
def test_a_broken_version_is_refused_once_and_taken_when_it_is_whole(
    life: Life, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    before, version = life.ask(), life.publish()
    path = life.registry.path / version / name
    whole = damage(path)
    for _ in range(5):
        life.live.look()
        assert life.ask()["items"] == before["items"]
    assert life.figure("recsys_ae_versions_refused_total") == 1
    assert [version in record.message for record in caplog.records] == [True]
    assert life.client.get("/health/ready").status_code == 200
    path.write_bytes(whole)
    for _ in range(TRY_AGAIN):
        life.live.look()
    assert life.ask()["model_version"] == version


def test_a_version_whose_scores_are_no_numbers_is_refused(life: Life) -> None:
    life.ask()  # which is made again of the new version
    model = EASE(EASEConfig(), N_ITEMS)
    model.restore({name: torch.full_like(t, torch.nan) for name, t in life.world.artifact.model.tensors().items()})
    life.publish(model=model)
    life.live.look()
    assert life.ask()["model_version"] == life.world.version and life.figure("recsys_ae_versions_refused_total") == 1


def test_what_was_asked_lately_is_made_of_a_version_before_it_is_served(life: Life) -> None:
    """A version that knows other items beside those asked for."""
    asked: list[tuple[int, ...]] = []
    life.ask()
    engine = life.live.now.main
    assert engine is not None
    fewer = IdMap(tuple(range(103, 103 + N_ITEMS)))
    found = engine._recent.over(fewer)
    for row in range(len(found)):
        asked.append(tuple(found.row(row).tolist()))
    assert asked == [(0,)]  # item 103; 100 is not in that catalogue


def test_a_service_without_a_version_waits_for_one(integers: World, tmp_path: Path) -> None:
    app = create_app(Settings(registry=tmp_path, threads=1))
    client = InProcess(app)
    assert client.get("/health/ready").status_code == 503
    shutil.copytree(integers.path, tmp_path, dirs_exist_ok=True)
    app.state.live.look()
    assert client.get("/health/ready").json()["model_version"] == integers.version


@pytest.mark.parametrize("wrong", ["gone", "pointer gone", "pointer damaged", "version gone"])
def test_what_is_served_stays_whatever_becomes_of_the_registry(
    life: Life, caplog: pytest.LogCaptureFixture, wrong: str
) -> None:
    path = life.registry.path
    match wrong:
        case "gone":
            path.rename(path.with_name("elsewhere"))
        case "pointer gone":
            (path / "current.json").unlink()
        case "pointer damaged":
            damage(path / "current.json")
        case "version gone":
            version = life.publish()
            shutil.rmtree(path / version)
    for _ in range(3):
        life.live.look()
    assert life.ask()["model_version"] == life.world.version
    assert len(caplog.records) == (wrong in ("pointer damaged", "version gone"))


def test_an_ab_test_shares_users_and_every_answer_names_the_arm(life: Life) -> None:
    assert "arm" not in life.ask(user_id=1)
    other = life.publish(promote=False)
    life.registry.set_traffic({life.world.version: 0.7, other: 0.3}, salt="s")
    life.live.look()
    arms = {user: life.ask(user_id=user) for user in range(300)}
    assert all(answer["arm"] == answer["model_version"] for answer in arms.values())
    share = sum(answer["arm"] == other for answer in arms.values()) / 300
    assert 0.22 < share < 0.38  # 3 standard errors
    for user in (3, 4, 5, 6):  # the same by id, by digits, as a stored user; a session is nobody's user
        stored = life.client.get(f"/v1/users/{user}/recommendations").json()
        assert stored["arm"] == arms[user]["arm"] == life.ask(user_id=str(user))["arm"]
        assert life.ask(user_id=user, session_id="other")["arm"] == arms[user]["arm"]
        assert arms[user]["arm"] in life.client.get(f"/?user={user}").text  # the page, for who looks at a user
    sessions = {life.ask(session_id=f"session {n}")["arm"] for n in range(20)}
    assert sessions == {life.world.version, other}
    nobody = life.ask()
    assert "arm" not in nobody and nobody["model_version"] == life.world.version
    about = life.client.get("/v1/model").json()
    assert about["version"] == life.world.version
    assert about["arms"] == [
        {"version": life.world.version, "share": 0.7, "served": True},
        {"version": other, "share": 0.3, "served": True},
    ]
    figures = life.client.get("/metrics").text
    assert f'recsys_ae_lists_total{{arm="{other}",source="model",version="{other}"}}' in figures
    assert f'recsys_ae_model_share{{version="{other}"}} 0.3' in figures
    batch = {"requests": [{"history": HISTORY, "user_id": user} for user in range(20)]}
    results = life.client.post("/v1/recommendations/batch", json=batch).json()["results"]
    assert [result["arm"] for result in results] == [arms[user]["arm"] for user in range(20)]
    life.registry.set_traffic(None)
    life.live.look()
    assert "arm" not in life.ask(user_id=3) and set(life.live.now.engines) == {life.world.version}


def test_an_arm_that_cannot_be_loaded_is_answered_by_the_main_version(life: Life) -> None:
    other = life.publish(promote=False)
    life.registry.set_traffic({life.world.version: 0.5, other: 0.5}, salt="s")
    damage(life.registry.path / other / "model.safetensors")
    life.live.look()
    found = [life.ask(user_id=user) for user in range(30)]
    assert {answer["model_version"] for answer in found} == {life.world.version}
    assert {answer["arm"] for answer in found} == {life.world.version, other}
    assert [arm["served"] for arm in life.client.get("/v1/model").json()["arms"]] == [True, False]


def test_a_damaged_ab_test_is_no_ab_test(life: Life, caplog: pytest.LogCaptureFixture) -> None:
    other = life.publish(promote=False)
    life.registry.set_traffic({life.world.version: 0.5, other: 0.5})
    damage(life.registry.path / "traffic.json")
    life.live.look()
    life.live.look()
    assert "arm" not in life.ask(user_id=3) and "traffic.json" in caplog.records[0].message and len(caplog.records) == 1


@pytest.mark.slow
def test_the_service_watches_by_itself(life: Life) -> None:
    with service(life.registry.path, watch_seconds="0.05") as started, started.client() as client:
        assert client.get("/v1/model").json()["version"] == life.world.version
        version = life.publish()
        end = time.monotonic() + 20
        while client.get("/v1/model").json()["version"] != version:
            assert time.monotonic() < end
            time.sleep(0.02)


def bytes_but_the_id(answer: Any) -> str:
    found = answer.json()
    del found["request_id"]
    return json.dumps(found)


def test_a_list_is_kept_until_something_that_it_was_made_from_changes(integers: World, tmp_path: Path) -> None:
    shutil.copytree(integers.path, tmp_path / "registry")
    app = create_app(Settings(registry=tmp_path / "registry", threads=1, store=f"sqlite:///{tmp_path}/events.db"))
    made, engine = [], app.state.live.now.main
    real = engine.for_user
    engine.for_user = lambda *arguments: (made.append(arguments[0]), real(*arguments))[1]
    client = InProcess(app)

    def ask(query: str = "k=5", user: int = 7) -> Any:
        return client.get(f"/v1/users/{user}/recommendations?{query}")

    first = ask()
    again = ask()
    assert made == ["7"] and bytes_but_the_id(first) == bytes_but_the_id(again)
    assert first.json()["request_id"] != again.json()["request_id"] == again.headers["x-request-id"]
    assert list(first.json()) == list(client.post("/v1/recommendations", json={"history": []}).json())
    ask("k=6")
    assert len(made) == 2
    event = {"event_id": "e", "user_id": 7, "item_id": first.json()["items"][0]["item_id"], "weight": 5}
    assert client.post("/v1/interactions", json={"events": [event]}).status_code == 200
    changed = ask()
    assert len(made) == 3 and event["item_id"] not in [item["item_id"] for item in changed.json()["items"]]
    gone = changed.json()["items"][0]["item_id"]
    ask(user=8)
    ask(user=8)
    assert len(made) == 4
    client.delete(f"/v1/items/{gone}")
    assert gone not in [item["item_id"] for item in ask().json()["items"]]
    client.delete("/v1/users/7")
    assert ask().status_code == 404
    life = Life(Registry(tmp_path / "registry"), integers, app, client)
    version = life.publish()
    app.state.live.look()
    assert ask(user=8).json()["model_version"] == version


def test_an_id_that_no_database_keeps_is_nobody(integers: World, url: str) -> None:
    app = create_app(Settings(registry=integers.path, threads=1, store=url))
    for user in ("a%00b", "%00"):
        assert InProcess(app).get(f"/v1/users/{user}/recommendations").status_code == 404
    app.state.store.close()
