"""Lists written by a Ray cluster are those of this process, byte by byte, whoever dies meanwhile."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.killing import killing
from pipelines.config import RunConfig, make_config
from pipelines.score import score
from recsys_ae.artifact import Artifact
from recsys_ae.errors import ConfigError
from recsys_ae.ids import IdMap
from recsys_ae.items import ItemMetadata
from recsys_ae.preprocessing import Preprocessing
from recsys_ae.registry import Registry, StoredUsers
from tests.extras.conftest import NEEDS_RAY
from tests.worlds import fitted, tastes

pytestmark = NEEDS_RAY

USERS, PARTS = 1_200, 24


@pytest.fixture
def configured(tmp_path: Path) -> Callable[..., RunConfig]:
    """A registry with one version, and a configuration with what is asked of `[cluster]`, whose lists are in a folder."""
    histories = tastes(USERS, weighted=False)
    items = IdMap(tuple(range(histories.n_items)))
    artifact = Artifact("ease", fitted("ease", histories), items, ItemMetadata.of(items, histories, {}, {}), Preprocessing())
    registry = Registry(tmp_path / "registry")
    stored = StoredUsers(IdMap(tuple(f"user {n}" for n in range(USERS))), histories)
    registry.promote(registry.publish(artifact, "ease", stored, {}))

    def configured(folder: str, **cluster: Any) -> RunConfig:
        where = {"path": str(tmp_path / folder), "k": 10, "users_per_file": USERS // PARTS}
        return make_config(
            {"log": {"path": "none"}, "registry": {"path": str(registry.path)}, "score": where, "cluster": cluster}
        )

    return configured


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("part-*.parquet")}


def test_the_same_lists(cluster: str, configured: Callable[..., RunConfig]) -> None:
    here = score(configured("here"))
    told: list[tuple[int, int]] = []
    config = configured("there", engine="ray", address=cluster, workers=3)
    there = score(config, told=lambda done, of: told.append((done, of)))
    assert (there.rows, there.parts, there.resumed) == (here.rows, PARTS, 0) and here.rows == 10 * USERS
    assert contents(there.folder) == contents(here.folder)
    assert told == [(n, PARTS) for n in range(1, PARTS + 1)]
    broken = sorted(there.folder.glob("part-*.parquet"))[5]
    broken.write_bytes(broken.read_bytes()[:-9])
    again = score(config)  # what is there stays, what is not whole is written anew
    assert again.resumed == PARTS - 1 and contents(again.folder) == contents(here.folder)


@pytest.mark.slow
def test_workers_that_are_killed_cost_a_part_each(cluster: str, configured: Callable[..., RunConfig]) -> None:
    here = score(configured("here"))
    with killing(3, "_Scorer", least=0.1, most=0.5) as killed:
        there = score(configured("there", engine="ray", address=cluster, workers=2))
    assert killed
    assert contents(there.folder) == contents(here.folder) and there.rows == here.rows


def test_a_worker_for_whom_nobody_has_room_is_refused(cluster: str, configured: Callable[..., RunConfig]) -> None:
    with pytest.raises(ConfigError, match="nodes there have room for 0"):
        score(configured("there", engine="ray", address=cluster, cpus=64))
