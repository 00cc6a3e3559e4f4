"""No train/serve skew: the same raw events through ingest, and through the API, give the same scores."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.service.conftest import running

CONFIG = """
[log]
path = "events.parquet"
repeats = "sum"
weight_transform = "log1p"
half_life_days = 20
min_weight = 1.5
max_history = 9
max_user_events = 80
max_user_events_per_day = 25
max_item_idle_days = 40
min_item_interactions = 3
[log.event_weights]
view = 1.0
cart = 2.5
buy = 6.0
[split]
validation_users = 10
test_users = 10
[[models]]
name = "ease"
regularisation = 10.0
"""
N_USERS, DAYS, START = 90, 60, 1_700_000_000
HASTY, MANY = 3, 4  # two robots: one clicks all day, one all the time


def raw_events() -> list[dict[str, Any]]:
    """Events in no order: repeats, types that do not count, negative weights, robots, items that die and items of one user."""
    rng = np.random.default_rng(11)
    events = []
    for user in range(N_USERS):
        count = {HASTY: 40, MANY: 120}.get(user, int(rng.integers(3, 40)))
        days = np.full(count, 7) if user == HASTY else rng.integers(0, DAYS, count)
        for day in days:
            item = int(rng.integers(0, 12) + (12 if user % 2 else 0))
            events.append(
                {
                    "user_id": f"u{user}",
                    "item_id": f"i{item}" if day > 15 or item % 5 else f"old{item}",
                    "timestamp": int(START + day * 86_400 + rng.integers(0, 5)),
                    "weight": float(rng.choice([1.0, 1.0, 2.0, 0.5, -1.0])),
                    "event_type": str(rng.choice(["view", "view", "cart", "buy", "hover"])),
                }
            )
        events.append({**events[-1], "item_id": f"only{user}", "weight": 3.0, "event_type": "buy"})
    return [events[i] for i in rng.permutation(len(events))]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, list[dict[str, Any]], set[str]]]:
    """A model trained on the events by the command line, and the API that serves it; the events; the users ingest kept."""
    folder = tmp_path_factory.mktemp("skew")
    events = raw_events()
    pq.write_table(pa.Table.from_pylist(events), folder / "events.parquet")
    (folder / "run.toml").write_text(CONFIG)
    for command in ("ingest", "train"):
        done = subprocess.run(
            [sys.executable, "-m", "pipelines", command, "run.toml", "--json"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    kept = set(pq.read_table(folder / "runs/log.parquet")["user_id"].to_pylist())
    with running(folder / "registry") as url, httpx.Client(base_url=url, timeout=20, trust_env=False) as client:
        yield client, events, kept


@pytest.mark.slow
def test_every_user_gets_the_same_list_from_what_was_stored_and_from_the_raw_events(served: Any) -> None:
    client, events, kept = served
    assert len(kept) > N_USERS - 10
    for user in sorted(kept):
        history = [{k: v for k, v in event.items() if k != "user_id"} for event in events if event["user_id"] == user]
        posted = client.post("/v1/recommendations", json={"history": history, "k": 30}).raise_for_status().json()
        stored = client.get(f"/v1/users/{user}/recommendations", params={"k": 30}).raise_for_status().json()
        assert posted["items"] == stored["items"], user
        assert posted["source"] == stored["source"] == "model"
        assert f"only{user[1:]}" in posted["unknown_items"]


def test_a_robot_that_ingest_left_out_is_no_one_to_the_api_either(served: Any) -> None:
    client, events, kept = served
    for user in (f"u{HASTY}", f"u{MANY}"):
        assert user not in kept
        assert client.get(f"/v1/users/{user}/recommendations").status_code == 404
        history = [{k: v for k, v in event.items() if k != "user_id"} for event in events if event["user_id"] == user]
        assert client.post("/v1/recommendations", json={"history": history}).json()["source"] == "popularity"


def test_items_that_died_or_that_too_few_met_are_unknown(served: Any) -> None:
    client, _, _ = served
    for item in ("old5", "only7"):
        assert client.get(f"/v1/items/{item}/similar").status_code == 404
    assert client.get("/v1/items/i5/similar").status_code == 200
