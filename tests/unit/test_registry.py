from datetime import UTC, datetime, tzinfo
from pathlib import Path

import numpy as np
import pytest

from recsys_ae import Artifact, Histories, IdMap, Preprocessing, Registry, registry
from recsys_ae.errors import ArtifactError, RecsysError, RegistryError
from recsys_ae.items import ItemMetadata
from recsys_ae.registry import StoredUsers
from tests.worlds import N_ITEMS, N_USERS, fitted, tastes

STORED = StoredUsers(IdMap(tuple(f"ü{i}" for i in range(N_USERS))), tastes())


def publish(store: Registry, name: str = "popularity", model_id: str | None = None) -> str:
    artifact = Artifact(name, fitted(name, tastes()), IdMap(tuple(range(N_ITEMS))), ItemMetadata(), Preprocessing())
    return store.publish(artifact, model_id or name, STORED, {"ndcg@100": 0.5})


@pytest.fixture
def store(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


@pytest.fixture
def noon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every publish happens in the same second."""

    class Frozen(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Frozen":
            return cls(2026, 11, 24, 12, tzinfo=UTC)

    monkeypatch.setattr(registry, "datetime", Frozen)


def test_an_absent_registry_lists_nothing(store: Registry) -> None:
    assert store.versions() == []
    assert store.current() is None
    for use in (store.show, store.load, store.rollback):
        with pytest.raises(RegistryError):
            use()
    assert not store.path.exists()


def test_publish_does_not_promote(store: Registry) -> None:
    version = publish(store)
    assert store.versions() == [version]
    assert store.current() is None
    with pytest.raises(RegistryError, match="no current version.*" + version):
        store.show()


def test_a_version_is_a_folder_that_bears_its_name_and_says_what_it_is(store: Registry, noon: None) -> None:
    version = publish(store, "ease", "ease/λ=500")
    assert (store.path / version).is_dir()
    assert version.startswith("20261124T120000.000000-ease___500-")
    about = store.show(version)
    assert about["version"] == version
    assert about["model"] == "ease/λ=500"
    assert about["created"] == "2026-11-24T12:00:00+00:00"
    assert about["metrics"] == {"ndcg@100": 0.5}
    assert (about["items"], about["users"], about["current"]) == (N_ITEMS, N_USERS, False)


def test_load_gives_model_and_stored_histories(store: Registry) -> None:
    store.promote(publish(store, "ease"))
    artifact, stored = store.load()
    np.testing.assert_array_equal(artifact.model.score(STORED.histories), fitted("ease", tastes()).score(STORED.histories))
    assert stored.users == STORED.users
    for name in ("indptr", "items", "weights", "times"):
        np.testing.assert_array_equal(getattr(stored.histories, name), getattr(STORED.histories, name))


def test_promote_and_roll_back(store: Registry) -> None:
    one, two, three = (publish(store, model_id=f"m{i}") for i in range(3))
    for version in (one, two, three):
        store.promote(version)
    assert store.show()["version"] == store.current() == three
    assert store.show(three)["current"]
    assert not store.show(one)["current"]
    assert (store.rollback(), store.rollback()) == (two, one)
    assert store.current() == one
    with pytest.raises(RegistryError, match=f"no earlier version.*{one}"):
        store.rollback()
    assert store.current() == one


def test_promoting_the_current_version_again_changes_nothing(store: Registry) -> None:
    one, two = publish(store, model_id="a"), publish(store, model_id="b")
    for version in (one, two, two):
        store.promote(version)
    assert store.rollback() == one


def test_promoting_current_by_that_name_leaves_a_registry_that_can_be_read(store: Registry) -> None:
    version = publish(store)
    store.promote(version)
    store.promote("current")
    assert store.current() == version
    assert store.show()["version"] == version


def test_roll_back_skips_versions_that_are_gone(store: Registry) -> None:
    one, two, three = (publish(store, model_id=f"m{i}") for i in range(3))
    for version in (one, two, three):
        store.promote(version)
    for file in (store.path / two).iterdir():
        file.unlink()
    (store.path / two).rmdir()
    assert store.rollback() == one


@pytest.mark.parametrize("version", ["no-such-version", "..", "", "../registry"])
def test_an_unknown_version_is_named_with_those_there_are(version: str, store: Registry) -> None:
    known = publish(store)
    for use in (store.promote, store.show, store.load, store.check):
        with pytest.raises(RegistryError, match=f"no version '{version}'; the latest are {known}"):
            use(version)


def test_a_folder_without_version_json_is_not_a_version(store: Registry) -> None:
    version = publish(store)
    (store.path / version / "version.json").rename(store.path / "elsewhere.json")
    assert store.versions() == []
    with pytest.raises(RegistryError, match="no version"):
        store.promote(version)


@pytest.mark.parametrize("step", ["save_file", "file_digest", "write_sealed", "sync"])
def test_a_publish_that_dies_leaves_nothing_behind(step: str, store: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    before = publish(store, model_id="before")
    store.promote(before)

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(registry, step, die)
        with pytest.raises(KeyboardInterrupt):
            publish(store, model_id="after")
    assert store.versions() == [before]
    assert store.current() == before
    assert sorted(p.name for p in store.path.iterdir()) == sorted([".lock", "current.json", before])
    assert len({before, publish(store, model_id="after")}) == 2


def test_a_promotion_that_dies_leaves_the_pointer(store: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = publish(store, model_id="a"), publish(store, model_id="b")
    store.promote(one)

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", die)
        with pytest.raises(KeyboardInterrupt):
            store.promote(two)
    assert store.current() == one
    assert store.load()[0].name == "popularity"


def test_publishes_in_the_same_second_are_different_versions(store: Registry, noon: None) -> None:
    versions = [publish(store) for _ in range(3)]
    assert len(set(versions)) == 3
    assert store.versions() == versions
    for version in versions:
        assert store.show(version)["version"] == version
        store.promote(version)


def test_versions_of_one_second_stand_in_the_order_of_their_making(store: Registry, noon: None) -> None:
    versions = [publish(store, model_id=name) for name in ("second", "first")]
    assert store.versions() == versions


@pytest.mark.parametrize("name", ["manifest.json", "model.safetensors", "items.json", "histories.safetensors", "version.json"])
def test_a_damaged_version_is_neither_promoted_nor_loaded(name: str, store: Registry) -> None:
    good, bad = publish(store, model_id="good"), publish(store, model_id="bad")
    store.promote(good)
    path = store.path / bad / name
    data = bytearray(path.read_bytes())
    for place in np.random.default_rng(0).integers(0, 8 * len(data), 20).tolist():
        data[place // 8] ^= 1 << place % 8
        path.write_bytes(data)
        for use in (store.promote, store.load):
            with pytest.raises(ArtifactError, match=name):
                use(bad)
        data[place // 8] ^= 1 << place % 8
    assert store.current() == good
    path.write_bytes(data)
    store.promote(bad)
    assert store.current() == bad


def test_histories_over_another_catalogue_are_not_published(store: Registry) -> None:
    """Such a version can be promoted, and then not be loaded."""
    artifact = Artifact(
        "popularity", fitted("popularity", tastes()), IdMap(tuple(range(N_ITEMS))), ItemMetadata(), Preprocessing()
    )
    stored = StoredUsers(IdMap((1,)), Histories.from_rows([[N_ITEMS + 3]], N_ITEMS + 9))
    with pytest.raises(RecsysError, match=f"{N_ITEMS + 9}.*{N_ITEMS}"):
        store.publish(artifact, "popularity", stored, {})
    assert store.versions() == []


def test_a_damaged_pointer_is_an_error(store: Registry) -> None:
    store.promote(publish(store))
    pointer = store.path / "current.json"
    pointer.write_text(pointer.read_text().replace("popularity", "popularitz"))
    with pytest.raises(ArtifactError, match=r"current\.json: is damaged"):
        store.current()


def test_no_file_of_a_registry_is_a_pickle(store: Registry) -> None:
    store.promote(publish(store, "mult_vae"))
    files = [path for path in store.path.rglob("*") if path.is_file()]
    assert len(files) >= 6
    assert not [p for p in files if p.read_bytes().startswith((b"\x80", b"PK"))]


def test_what_killed_writers_left_goes_with_the_next_publish_or_prune(store: Registry) -> None:
    version = publish(store)
    for use in (lambda: store.prune(2), lambda: publish(store)):
        for name in (".writing-abc", ".removing-abc"):
            (store.path / name / "version").mkdir(parents=True)
        use()
        assert not [path for path in store.path.iterdir() if path.name.startswith((".writing", ".removing"))]
    assert version in store.versions()


def test_a_damaged_pointer_is_mended_by_promote(store: Registry) -> None:
    version = publish(store)
    store.promote(version)
    path = store.path / "current.json"
    path.write_text(path.read_text().replace("null", "nul").replace('"previous"', '"Previous"'))
    with pytest.raises(ArtifactError, match=r"current\.json"):
        store.current()
    store.promote(version)
    assert store.current() == version
