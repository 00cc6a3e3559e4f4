"""The loop closes: what the API was told is what the next night trains on, and an erased user is in nothing of it."""

import json
from pathlib import Path

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines.config import load_config
from pipelines.nightly import nightly
from recsys_ae import Registry, datasets
from recsys_ae.events import RawEvent, history_of
from recsys_ae.ranking import rank_top_k
from service.store import NewEvent, Store
from tests.service.conftest import running

CONFIG = """
[log]
source = "store"
[store]
url = "sqlite:///events.db"
[split]
by = "hash"
salt = "loop"
test_users = 0.3
[evaluation]
ks = [5]
map = "none"
[publish]
metric = "ndcg@5"
min_ratio_to_current = 0.1
[score]
k = 5
[[models]]
name = "ease"
"""
USER = 987_654_321


def traces(folder: Path) -> list[str]:
    """Files of the run, of the latest lists and of the current version that hold the user."""
    registry = Registry(folder / "registry")
    found = ["registry"] if USER in registry.load()[1].users.ids else []
    lists = folder / "scores" / json.loads((folder / "scores/scores.json").read_text())["folder"]
    for path in [*folder.glob("runs/**/*.parquet"), *lists.glob("*.parquet")]:
        table = pq.read_table(path)
        if "user_id" in table.column_names and str(USER) in map(str, table["user_id"].to_pylist()):
            found.append(str(path.relative_to(folder)))
    return found


@pytest.mark.slow
def test_feedback_is_trained_on_and_an_erased_user_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.toml").write_text(CONFIG)
    url = f"sqlite:///{tmp_path / 'events.db'}"
    rows = datasets.synthetic(n_users=150, n_items=70, seed=3).events.to_pylist()
    store = Store(url)
    store.add([NewEvent(f"s{n}", str(r["user_id"]), r["item_id"], None, int(r["timestamp"])) for n, r in enumerate(rows)])
    store.add([NewEvent("foreign", "1", "no number")])  # which would make texts of all ids
    store.close()
    config = load_config(Path("run.toml"))
    first = nightly(config).version
    registry = Registry(tmp_path / "registry")
    artifact, stored = registry.load(first)
    assert artifact.items.kind == "integer" and artifact.manifest["source"] == "store"
    read = json.loads(Path("runs/nightly/run.json").read_text())["stages"]["read"]["result"]["facts"]
    assert read["foreign_items"] == 1 and read["rows"] == len(rows)

    liked = artifact.items.at(np.argsort(stored.histories.matrix.sum(0))[:4])
    with running(registry.path, store=url) as address, httpx.Client(base_url=address, trust_env=False) as api:
        known = stored.users.ids[0]
        answer = api.get(f"/v1/users/{known}/recommendations", params={"k": 5}).json()
        ranking = rank_top_k(artifact.model, stored.histories.take(np.array([0])), 5)
        assert [i["item_id"] for i in answer["items"]] == artifact.items.at(ranking.row(0)[0])  # as ingest has it, not twice
        events = [{"event_id": f"f{n}", "user_id": USER, "item_id": item} for n, item in enumerate(liked)]
        events += [{"event_id": f"n{n}", "user_id": n, "item_id": 10_000} for n in stored.users.ids[:80]]
        assert api.post("/v1/interactions", json={"events": events}).json()["accepted"] == len(events)
        before = api.get(f"/v1/users/{USER}/recommendations", params={"k": 5}).json()
        assert before["model_version"] == first and len(before["items"]) == 5

    second = nightly(config).version
    assert second != first and {"registry", "runs/log.parquet"} < set(traces(tmp_path))
    artifact, stored = registry.load(second)
    raw = [RawEvent(item, None, 1_700_000_000 + n) for n, item in enumerate(liked)]
    row = stored.histories.row(stored.users.position(USER))
    assert sorted(row) == sorted(history_of(raw, artifact.items, artifact.preprocessing)[0].items)
    with running(registry.path, store=url) as address, httpx.Client(base_url=address, trust_env=False) as api:
        after = api.get(f"/v1/users/{USER}/recommendations", params={"k": 5}).json()
        assert after["model_version"] == second and 10_000 in artifact.items.ids
        assert [i["score"] for i in after["items"]] != [i["score"] for i in before["items"]]
        assert api.delete(f"/v1/users/{USER}").status_code == 204
        assert api.get(f"/v1/users/{USER}/recommendations").status_code == 404

    third = nightly(config).version
    assert third != second and traces(tmp_path) == []
    with running(registry.path, store=url) as address, httpx.Client(base_url=address, trust_env=False) as api:
        assert api.get(f"/v1/users/{USER}/recommendations").status_code == 404
        assert api.get("/v1/model").json()["version"] == third


def test_serve_hands_the_file_on_and_shows_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import sys

    from pipelines.__main__ import serve

    (tmp_path / "run.toml").write_text(CONFIG.replace("sqlite:///events.db", "postgresql://me:secret@here/x"))
    asked: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, command: asked.append(command))
    serve(tmp_path / "run.toml", None, "127.0.0.1", 0, workers=2)
    ((python, *command),) = asked
    assert python == sys.executable and "secret" not in " ".join(command)
    assert command == f"-m service --host 127.0.0.1 --port 0 --config {tmp_path}/run.toml --workers 2".split()
