import shutil
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import numpy as np
import pytest

from recsys_ae import Artifact, Histories, IdMap, Preprocessing, Registry, registry
from recsys_ae.errors import ArtifactError, ConfigError, RecsysError, RegistryError
from recsys_ae.items import ItemMetadata
from recsys_ae.registry import StoredUsers
from recsys_ae.sealed import read_sealed, write_sealed
from recsys_ae.traffic import Traffic
from tests.worlds import N_ITEMS, N_USERS, fitted, tastes

STORED = StoredUsers(IdMap(tuple(f"ü{i}" for i in range(N_USERS))), tastes())


def artifact_of(name: str = "popularity") -> Artifact:
    return Artifact(name, fitted(name, tastes()), IdMap(tuple(range(N_ITEMS))), ItemMetadata(), Preprocessing())


def publish(store: Registry, name: str = "popularity", model_id: str | None = None, twin: Artifact | None = None) -> str:
    return store.publish(artifact_of(name), model_id or name, STORED, {"ndcg@100": 0.5}, twin)


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


@pytest.mark.parametrize("back", [timedelta(microseconds=1), timedelta(hours=1), timedelta(days=4_000)])
def test_a_clock_set_back_makes_no_version_older_than_those_there_are(
    store: Registry, monkeypatch: pytest.MonkeyPatch, back: timedelta
) -> None:
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Clock":
            return cls.fromtimestamp(now.timestamp(), tz)

    monkeypatch.setattr(registry, "datetime", Clock)
    versions = [publish(store, model_id="z")]
    now -= back
    versions += [publish(store, model_id=name) for name in ("y", "a")]
    now += back + timedelta(seconds=1)
    versions.append(publish(store, model_id="a"))
    assert store.versions() == versions
    assert versions[-1].startswith("20261124T120001.000000-")  # right again, it is believed
    assert store.prune(1) == versions[:-1]


@pytest.mark.parametrize("name", ["manifest.json", "model.safetensors", "items.json"])
def test_a_damaged_twin_is_found_by_check_and_stops_neither_service_nor_rollback(name: str, store: Registry) -> None:
    bad, good = publish(store, model_id="bad", twin=artifact_of("ease")), publish(store, model_id="good")
    for version in (bad, good):
        store.promote(version)
    path = store.path / bad / "twin" / name
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    for use in (store.check, store.promote, store.twin):
        with pytest.raises(ArtifactError, match=f"twin/{name}"):
            use(bad)
    (fault,) = store.faults(bad)
    assert f"{bad}/twin/{name}: is damaged" in fault
    assert store.faults(good) == []
    assert store.load(bad)[0].name == "popularity"
    assert store.rollback() == bad


def test_a_twin_of_another_version_is_not_taken(store: Registry) -> None:
    one, other = (publish(store, twin=artifact_of(name)) for name in ("ease", "popularity"))
    shutil.rmtree(store.path / one / "twin")
    with pytest.raises(ArtifactError, match=r"twin/manifest\.json: is missing"):
        store.check(one)
    shutil.copytree(store.path / other / "twin", store.path / one / "twin")
    for use in (store.check, store.twin):
        with pytest.raises(ArtifactError, match=r"twin/manifest\.json: is damaged"):
            use(one)


def test_a_version_of_before_that_lists_no_twin_is_whole(store: Registry) -> None:
    version = publish(store, twin=artifact_of("ease"))
    path = store.path / version / "version.json"
    about = read_sealed(path)
    del about["files"]["twin/manifest.json"]
    write_sealed(path, about)
    assert store.check(version) and store.twin(version)
    items = store.path / version / "twin" / "items.json"
    items.write_bytes(items.read_bytes() + b" ")
    with pytest.raises(ArtifactError, match=r"twin/items\.json"):
        store.check(version)


def test_all_that_is_damaged_is_named(store: Registry) -> None:
    version = publish(store, twin=artifact_of("ease"))
    assert store.faults(version) == []
    names = ("histories.safetensors", "model.safetensors", "twin/items.json")
    for name in names:
        path = store.path / version / name
        path.write_bytes(path.read_bytes() + b"\0")
    (store.path / version / "items.json").unlink()
    faults = store.faults(version)
    assert sorted(fault.partition(f"{version}/")[2].partition(":")[0] for fault in faults) == sorted([*names, "items.json"])
    (store.path / version / "version.json").write_text("{}")
    assert "version.json" in store.faults(version)[0]


def test_pins_hold_a_version_until_they_are_taken_off(store: Registry) -> None:
    versions = [publish(store, model_id=f"m{i}") for i in range(4)]
    store.promote(versions[3])
    assert store.pins() == {}
    assert store.pin(versions[0], "a reference") == versions[0]
    store.pin(versions[0], "the reference")
    assert Registry(store.path).pins() == {versions[0]: "the reference"}
    assert store.prune(1) == versions[1:3]
    with pytest.raises(RegistryError, match=f"{versions[3]} is not pinned; pinned are {versions[0]}"):
        store.unpin("current")
    with pytest.raises(RegistryError, match="no version 'x'"):
        store.pin("x")
    store.unpin(versions[0])
    assert store.prune(1) == versions[:1]


def test_an_ab_test_lasts_until_it_is_cleared_whatever_becomes_current(store: Registry) -> None:
    one, two, three = (publish(store, model_id=f"m{i}") for i in range(3))
    assert store.served() == (None, None)
    store.promote(one)
    assert store.traffic() is None and store.served() == (Traffic({one: 1.0}), None)
    made = store.set_traffic({two: 10, "current": 90})
    assert made is not None and made.shares == {one: 0.9, two: 0.1} and len(made.salt) == 16
    store.promote(three)
    assert store.served() == (made, None) and store.traffic() == made
    assert store.rollback() == one and store.prune(1) == []
    moved = store.set_traffic({one: 0.5, two: 0.5})
    assert moved is not None and moved.salt == made.salt  # who has a version keeps it, as far as can be
    again = store.set_traffic({one: 0.5, two: 0.5}, salt="mine")
    assert again is not None and again.salt == "mine"
    for wrong in ({one: 0.5}, {one: 0.5, two: 0.6}, {one: 1.0, two: 0.0}, {one: 0.5, "current": 0.5}):
        with pytest.raises(ConfigError, match=r"expected|one version has two"):
            store.set_traffic(wrong)
    with pytest.raises(RegistryError, match="no version 'x'"):
        store.set_traffic({one: 0.5, "x": 0.5})
    assert store.traffic() == again
    assert store.set_traffic(None) is None and store.traffic() is None


def test_no_traffic_goes_to_a_damaged_version(store: Registry) -> None:
    one, two = publish(store, model_id="a"), publish(store, model_id="b")
    path = store.path / two / "model.safetensors"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ArtifactError, match=r"model\.safetensors"):
        store.set_traffic({one: 0.5, two: 0.5})
    assert store.traffic() is None


@pytest.mark.parametrize("name", ["traffic.json", "pins.json"])
def test_while_traffic_or_pins_are_damaged_nothing_is_pruned_and_current_is_served(name: str, store: Registry) -> None:
    versions = [publish(store, model_id=f"m{i}") for i in range(3)]
    store.promote(versions[2])
    store.set_traffic({versions[0]: 0.5, versions[2]: 0.5})
    store.pin(versions[0])
    (store.path / name).write_text((store.path / name).read_text().replace("m0", "m1"))
    with pytest.raises(ArtifactError, match=rf"{name}: is damaged"):
        store.prune(1)
    assert store.versions() == versions and store.load()[0].name == "popularity"
    if name == "traffic.json":
        served, wrong = store.served()
        assert served == Traffic({versions[2]: 1.0}) and wrong is not None and "traffic.json: is damaged" in wrong
        assert store.set_traffic({versions[1]: 1}) == store.traffic()


def test_where_a_version_of_an_ab_test_is_gone_current_is_served(store: Registry) -> None:
    one, two = publish(store, model_id="a"), publish(store, model_id="b")
    store.promote(one)
    store.set_traffic({one: 0.5, two: 0.5})
    shutil.rmtree(store.path / two)
    served, wrong = store.served()
    assert served == Traffic({one: 1.0}) and wrong is not None and f"no version '{two}'" in wrong


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
    stored = StoredUsers(IdMap((1,)), Histories.from_rows([[N_ITEMS + 3]], N_ITEMS + 9))
    with pytest.raises(RecsysError, match=f"{N_ITEMS + 9}.*{N_ITEMS}"):
        store.publish(artifact_of(), "popularity", stored, {})
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
