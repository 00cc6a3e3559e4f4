"""The approximate index: its recall is what is stated, its scores are exact, and what it cannot answer is answered exactly."""

from pathlib import Path

import numpy as np
import pytest
import torch

from recsys_ae import Histories, IdMap, rank_top_k
from recsys_ae.artifact import Artifact
from recsys_ae.errors import ArtifactError
from recsys_ae.index import Index
from recsys_ae.items import ItemMetadata
from recsys_ae.models.als import ALS, ALSConfig
from recsys_ae.preprocessing import Preprocessing
from recsys_ae.registry import Registry, StoredUsers
from service.app import create_app
from service.settings import Settings
from tests.service.conftest import InProcess, World

N_ITEMS, FACTORS = 5_000, 16
pytest.importorskip("faiss")


@pytest.fixture(scope="module")
def model() -> ALS:
    """Items in 50 clusters; a history's query is the sum of what it holds."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(50, FACTORS, generator=generator)
    rows = centres.repeat(N_ITEMS // 50, 1) + 0.1 * torch.randn(N_ITEMS, FACTORS, generator=generator)
    made = ALS(ALSConfig(factors=FACTORS), N_ITEMS)
    return made.restore({"item_factors": rows})


def histories(n: int, seed: int) -> Histories:
    rng = np.random.default_rng(seed)
    return Histories.from_rows(
        [(rng.integers(50) + 50 * rng.choice(100, 8, replace=False)).tolist() for _ in range(n)], N_ITEMS
    )


def test_the_recall_is_what_it_states_and_scores_are_exact(model: ALS) -> None:
    index = Index.of(model, histories(200, 0))
    assert index is not None and index.recall >= 0.95 and index.probed < index.cells and index.queries == 200
    others = histories(100, 1)
    factors = model.factors(others)
    assert factors is not None
    exact = rank_top_k(model, others, 100)
    found = index.ranked(factors.queries.numpy(), [others.row(row) for row in range(100)], [100] * 100)
    shares = []
    for row, ranking in enumerate(found):
        if ranking is None:
            continue
        assert not np.isin(ranking.items, others.row(row)).any()
        assert (np.diff(ranking.scores) <= 0).all()
        scores = model.score(others.take(slice(row, row + 1)))[0].numpy()
        np.testing.assert_allclose(ranking.scores[0], scores[ranking.items[0]], rtol=1e-4, atol=1e-4)
        shares.append(np.isin(exact.items[row], ranking.items[0]).mean())
    assert len(shares) > 50 and abs(np.mean(shares) - index.recall) < 0.05


def test_what_is_asked_beyond_the_cells_is_left_to_the_exact_search(model: ALS) -> None:
    index = Index.of(model, histories(50, 0))
    factors = model.factors(histories(1, 2))
    assert index is not None and factors is not None
    assert index.ranked(factors.queries.numpy(), [np.empty(0, np.int32)], [N_ITEMS - 1]) == [None]


def test_a_model_without_item_rows_has_no_index(strings: World) -> None:
    assert Index.of(strings.artifact.model, strings.stored.histories) is None


def test_the_service_states_its_index_and_uses_it(model: ALS, tmp_path: Path) -> None:
    items, users, rows = IdMap(tuple(range(N_ITEMS))), IdMap(tuple(range(300))), histories(300, 3)
    artifact = Artifact("als", model, items, ItemMetadata.of(items, rows, {}, {}), Preprocessing())
    registry = Registry(tmp_path)
    registry.promote(registry.publish(artifact, "als", StoredUsers(users, rows), {}))
    client = InProcess(create_app(Settings(registry=tmp_path, threads=1, index_from_items=N_ITEMS)))
    about = client.get("/v1/model").json()["index"]
    assert about["recall_at_100"] >= 0.95 and about["queries"] == 200 and about["probed"] < about["cells"]
    exact = rank_top_k(model, rows, 20)
    shares = []
    for user in range(20):
        found = [item["item_id"] for item in client.get(f"/v1/users/{user}/recommendations?k=20").json()["items"]]
        assert len(found) == 20 and not set(found) & set(rows.row(user).tolist())
        shares.append(len(set(found) & set(exact.items[user].tolist())) / 20)
    assert np.mean(shares) > 0.9
    body = {"history": [{"item_id": 7}], "allow": list(range(200)), "k": 200}
    filtered = client.post("/v1/recommendations", json=body).json()["items"]
    assert len(filtered) == 199  # all that are allowed but the seen one
    assert len(client.post("/v1/recommendations", json=body | {"allow": None, "k": 1_000}).json()["items"]) == 1_000


def test_the_job_makes_the_index_and_the_service_takes_it(model: ALS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items, users, rows = IdMap(tuple(range(N_ITEMS))), IdMap(tuple(range(300))), histories(300, 3)
    artifact = Artifact("als", model, items, ItemMetadata.of(items, rows, {}, {}), Preprocessing())
    made, registry = Index.of(model, rows), Registry(tmp_path)
    version = registry.publish(artifact, "als", StoredUsers(users, rows), {}, index=made)
    registry.promote(version)
    assert made is not None and registry.show(version)["index"] == made.facts and made.facts["recall"] >= 0.95
    read, query = registry.index(version), np.ones((1, FACTORS), np.float32)
    assert read is not None and read.facts == made.facts
    for one, other in zip(*(each.ranked(query, [np.empty(0, np.int32)], [50]) for each in (made, read)), strict=True):
        assert one is not None and other is not None and (one.items == other.items).all()
    monkeypatch.setattr(Index, "of", lambda *_: pytest.fail("made again"))
    client = InProcess(create_app(Settings(registry=tmp_path, threads=1, index_from_items=N_ITEMS)))
    assert client.get("/v1/model").json()["index"]["recall_at_100"] == made.recall
    path = tmp_path / version / "index.faiss"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(ArtifactError, match=r"index\.faiss: is damaged"):
        registry.index(version)


def test_a_model_without_rows_is_served_without(integers: World) -> None:
    client = InProcess(create_app(Settings(registry=integers.path, threads=1, index_from_items=1)))
    assert client.get("/v1/model").json()["index"] is None
    found = client.post("/v1/recommendations", json={"history": [{"item_id": 100}], "k": 3}).json()["items"]
    assert found == integers.expected([0], 3)
