"""Public sets on disk: fetched, checked, prepared once; nothing wrong is ever used."""

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from recsys_ae import datasets
from recsys_ae.datasets import CATALOGUE, store
from recsys_ae.datasets.catalogue import Counts, File, PublicSet
from recsys_ae.datasets.download import Downloader
from recsys_ae.errors import ConfigError, DataError, FetchError, StorageError
from recsys_ae.log import Cleaning
from tests.archives import COUNTS, MEMBERS, entry, extracted, published, zipped
from tests.site import PAGE, Site, serving

LOOPBACK = Downloader(attempts=3, pause=0, timeout=5, loopback=True)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving({}) as site:
        yield site


def at(site: Site, name: str, vouched: bool = True) -> PublicSet:
    """A made-up set at its home."""
    site.files = published(name)
    return entry(name, site.url("").rstrip("/"), vouched)


def fetch(which: PublicSet, folder: Path, given: Path | None = None) -> dict[str, object]:
    return store.fetch(which, folder, given=given, downloader=LOOPBACK)


@pytest.mark.parametrize("name", MEMBERS)
def test_every_family_is_fetched_prepared_and_read(name: str, site: Site, tmp_path: Path) -> None:
    which = at(site, name)
    seal = fetch(which, tmp_path)
    assert seal["counts"] == vars(COUNTS[name])
    raw = store.load(which, tmp_path)
    assert isinstance(raw.events, tuple)
    assert sum(pq.read_metadata(path).num_rows for path in raw.events) == COUNTS[name].interactions
    log = raw.clean(Cleaning())
    assert log.kept == COUNTS[name].interactions
    known = pq.read_schema(raw.events[0])
    assert set(log.table().schema.names) == set(known.names)
    asked = len(site.asked)
    assert fetch(which, tmp_path) == seal
    assert len(site.asked) == asked  # what is here is not fetched again


def test_titles_and_categories_are_those_of_the_set(site: Site, tmp_path: Path) -> None:
    which = at(site, "ml-1m")
    fetch(which, tmp_path)
    raw = store.load(which, tmp_path)
    assert raw.titles == {661: "Misérables, Les (1995)", 1193: "One Flew: Over (1975)"}
    assert raw.categories == {661: ("Drama", "Musical"), 1193: ("Drama",)}
    assert raw.given is None


def test_a_set_that_comes_divided_has_train_and_test(site: Site, tmp_path: Path) -> None:
    which = at(site, "gowalla")
    fetch(which, tmp_path)
    raw = store.load(which, tmp_path)
    assert raw.given is not None
    train, test = raw.given
    assert (pq.read_metadata(train).num_rows, pq.read_metadata(test).num_rows) == (11, 4)
    assert pq.read_table(tmp_path / "gowalla" / "users.parquet").num_rows == 4
    assert pq.read_table(tmp_path / "gowalla" / "items.parquet")["original_id"].to_pylist()[0] == "9410"


def test_a_wrong_digest_is_refused_and_the_file_kept_aside(site: Site, tmp_path: Path) -> None:
    which = at(site, "ml-1m")
    right = site.files["ml-1m.zip"]
    wrong = bytearray(right)
    wrong[60] ^= 1
    site.files["ml-1m.zip"] = bytes(wrong)
    with pytest.raises(
        FetchError, match=r"md5 [0-9a-f]{32}; expected [0-9a-f]{32} \(made up\); what came is kept as .*refused"
    ):
        fetch(which, tmp_path)
    source = tmp_path / "ml-1m" / "source"
    assert [p.name for p in source.iterdir()] == ["ml-1m.zip.refused"]
    with pytest.raises(ConfigError, match="fetch it first"):
        store.load(which, tmp_path)
    site.files["ml-1m.zip"] = right
    fetch(which, tmp_path)
    assert store.prepared(which, tmp_path)


def test_every_digest_must_hold(site: Site, tmp_path: Path) -> None:
    which = at(site, "ml-1m")
    md5, sha256 = which.files[0].digests
    for digests in ((md5, f"sha256:{'0' * 64}"), (f"md5:{'0' * 32}", sha256)):
        file = dataclasses.replace(which.files[0], digests=digests)
        with pytest.raises(FetchError, match="expected 0000"):
            fetch(dataclasses.replace(which, files=(file,)), tmp_path)


def test_a_web_page_that_calls_itself_a_file_is_refused(site: Site, tmp_path: Path) -> None:
    which = at(site, "msd")
    site.files = {"train_triplets.txt.zip": PAGE}
    with pytest.raises(FetchError, match=r"begins with b'<!DOCTYPE html>.*; expected a zip"):
        fetch(which, tmp_path)


def test_without_a_published_digest_the_first_file_binds_all_later_ones(site: Site, tmp_path: Path) -> None:
    which = at(site, "msd")
    assert not which.files[0].digests
    seal = fetch(which, tmp_path)
    assert seal["source"][0]["how"].startswith("nobody publishes a digest")  # type: ignore[index]
    home = tmp_path / "msd"
    assert (home / "source" / "train_triplets.txt.zip.sha256").read_text().endswith("  train_triplets.txt.zip\n")
    (home / "set.json").unlink()
    again = fetch(which, tmp_path)
    assert again["source"][0]["how"] == "equal to the first to come"  # type: ignore[index]

    (home / "set.json").unlink()
    (home / "source" / "train_triplets.txt.zip").unlink()
    text = MEMBERS["msd"]["train_triplets.txt"].replace(b"\t15\n", b"\t16\n")
    site.files = {"train_triplets.txt.zip": zipped({"train_triplets.txt": text})}
    with pytest.raises(FetchError, match=r"expected [0-9a-f]{64}, that of the first one that came.*delete .*\.sha256"):
        fetch(which, tmp_path)


def test_a_first_file_of_other_counts_binds_nothing(site: Site, tmp_path: Path) -> None:
    which = at(site, "msd")
    right = site.files["train_triplets.txt.zip"]
    site.files["train_triplets.txt.zip"] = zipped({"train_triplets.txt": b"a\tb\t1\n"})
    with pytest.raises(FetchError, match="1 users, 1 items, 1 interactions; expected 2 users, 2 items, 3 interactions"):
        fetch(which, tmp_path)
    assert not store.prepared(which, tmp_path)
    site.files["train_triplets.txt.zip"] = right
    fetch(which, tmp_path)


def test_a_set_that_changes_at_home_has_no_counts_to_keep(site: Site, tmp_path: Path) -> None:
    which = dataclasses.replace(at(site, "ml-latest-small"), counts=Counts(610, 9_724, 100_836))
    assert which.changing and not which.files[0].digests
    assert fetch(which, tmp_path)["counts"] == {"users": 2, "items": 2, "interactions": 3}


def test_a_broken_download_is_gone_on_from_by_the_next_fetch(site: Site, tmp_path: Path) -> None:
    which = at(site, "ml-20m")
    site.faults = ["breaks"] * 3
    with pytest.raises(FetchError, match="gave up after 3 attempts"):
        fetch(which, tmp_path)
    fetch(which, tmp_path)
    assert site.asked[-1][1] is not None
    assert sorted(p.name for p in (tmp_path / "ml-20m" / "source").iterdir()) == ["ml-20m.zip"]


def test_a_damaged_set_says_so_and_is_made_again_without_a_download(site: Site, tmp_path: Path) -> None:
    which = at(site, "ml-1m")
    seal = fetch(which, tmp_path)
    events = tmp_path / "ml-1m" / "events.parquet"
    events.write_bytes(events.read_bytes()[:-1] + b"x")
    with pytest.raises(StorageError, match=r"events\.parquet: is damaged.*`recsys-ae datasets fetch ml-1m --folder .*` makes"):
        store.load(which, tmp_path)
    asked = len(site.asked)
    assert fetch(which, tmp_path) == seal
    assert len(site.asked) == asked
    store.load(which, tmp_path)


def test_a_damaged_source_is_fetched_again(site: Site, tmp_path: Path) -> None:
    which = at(site, "ml-1m")
    seal = fetch(which, tmp_path)
    (tmp_path / "ml-1m" / "set.json").unlink()
    (tmp_path / "ml-1m" / "source" / "ml-1m.zip").write_bytes(b"PK\x03\x04 cut")
    assert fetch(which, tmp_path) == seal
    assert len(site.asked) == 2


def test_a_set_of_another_preparation_is_made_again(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    which = at(site, "ml-1m")
    fetch(which, tmp_path)
    monkeypatch.setattr(store, "PREPARATION", 2)
    with pytest.raises(StorageError, match="of preparation 1; expected 2"):
        store.load(which, tmp_path)
    assert fetch(which, tmp_path)["preparation"] == 2


def test_taken_from_the_zip_its_folder_or_the_data_file(site: Site, tmp_path: Path) -> None:
    which = at(site, "ml-20m")
    archive = tmp_path / "mine.zip"
    archive.write_bytes(site.files["ml-20m.zip"])
    folder = extracted(MEMBERS["ml-20m"], tmp_path / "extracted")
    places = {"zip": archive, "folder": folder, "inner": folder / "ml-20m", "file": folder / "ml-20m" / "ratings.csv"}
    events = {}
    for kind, place in places.items():
        seal = fetch(which, tmp_path / kind, place)
        how = seal["source"][0]["how"]  # type: ignore[index]
        assert how == ("published digest" if kind == "zip" else "counts alone")
        raw = store.load(which, tmp_path / kind)
        assert isinstance(raw.events, tuple)
        events[kind] = pq.read_table(raw.events[0])
        assert len(raw.titles) == (0 if kind == "file" else 2)
    assert all(table.equals(events["zip"]) for table in events.values())
    assert not site.asked


def test_a_given_file_that_is_not_the_published_one_is_refused(site: Site, tmp_path: Path) -> None:
    which = at(site, "ml-20m")
    other = tmp_path / "other.zip"
    other.write_bytes(zipped({**MEMBERS["ml-20m"], "x": b"y"}))
    with pytest.raises(DataError, match=r"other\.zip: has .* bytes; expected"):
        fetch(which, tmp_path, other)
    folder = extracted(MEMBERS["ml-20m"], tmp_path / "extracted")
    (folder / "ml-20m" / "ratings.csv").write_bytes(b"userId,movieId,rating,timestamp\n1,2,3.5,1112486027\n")
    with pytest.raises(DataError, match=r"1 users, 1 items, 1 interactions; expected 2 users, 2 items, 3 interactions"):
        fetch(which, tmp_path, folder)
    assert other.exists() and not store.prepared(which, tmp_path)


def test_a_given_folder_of_a_divided_set_is_checked_by_its_digests(site: Site, tmp_path: Path) -> None:
    which = at(site, "gowalla")
    folder = extracted(MEMBERS["gowalla"], tmp_path / "mine")
    (folder / "item_list.txt").unlink()
    seal = fetch(which, tmp_path / "here", folder)
    assert {each["how"] for each in seal["source"]} == {"published digest"}  # type: ignore[attr-defined]
    (folder / "test.txt").write_bytes(b"0 1\n")
    with pytest.raises(DataError, match=r"test\.txt: md5 .*; expected"):
        fetch(which, tmp_path / "there", folder)
    (folder / "test.txt").unlink()
    with pytest.raises(DataError, match=r"no test\.txt; found"):
        fetch(which, tmp_path / "there", folder)


def test_a_zip_that_leads_outside_or_unpacks_to_too_much_is_refused(site: Site, tmp_path: Path) -> None:
    for members, said in (
        ({**MEMBERS["msd"], "../evil": b"x"}, "leads outside"),
        ({"train_triplets.txt": b"0" * 10**6}, "unpacks to 1,000,000 bytes; expected at most 100,000"),
    ):
        which = dataclasses.replace(at(site, "msd"), largest=100_000)
        site.files["train_triplets.txt.zip"] = zipped(members)
        with pytest.raises(FetchError, match=said):
            fetch(which, tmp_path / said[:5])
    assert not (tmp_path / "evil").exists()


def test_two_fetches_at_once_do_not_meet(site: Site, tmp_path: Path) -> None:
    which = at(site, "ml-1m")
    lock = tmp_path / "ml-1m" / ".lock"
    lock.parent.mkdir()
    code = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); input()"
    command = [sys.executable, "-c", code, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(StorageError, match="another process is fetching this set"):
            fetch(which, tmp_path)
        holder.communicate("\n")
    fetch(which, tmp_path)


def test_a_folder_that_cannot_be_written_is_said(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        fetch(at(site, "ml-1m"), tmp_path / "file")


def test_an_interrupted_preparation_leaves_no_set(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    which = at(site, "ml-1m")
    monkeypatch.setattr(store, "write_sealed", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        fetch(which, tmp_path)
    assert not store.prepared(which, tmp_path)
    monkeypatch.undo()
    fetch(which, tmp_path)
    assert json.loads((tmp_path / "ml-1m" / "set.json").read_text())["name"] == "ml-1m"


def test_the_data_folder_is_given_or_of_the_environment_or_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RECSYS_AE_DATA", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store.data_folder() == tmp_path / ".cache" / "recsys-ae"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the specification: a relative path is ignored
    assert store.data_folder() == tmp_path / ".cache" / "recsys-ae"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert store.data_folder() == tmp_path / "xdg" / "recsys-ae"
    monkeypatch.setenv("RECSYS_AE_DATA", "~/data")
    assert store.data_folder() == tmp_path / "data"
    assert store.data_folder(Path("/elsewhere")) == Path("/elsewhere")


def test_a_set_that_was_not_fetched_names_the_command_and_downloads_nothing(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=rf"data set ml-20m is not in {tmp_path}; .*: recsys-ae datasets fetch ml-20m --folder"
    ):
        datasets.load("ml-20m", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_with_glob_characters_is_read(site: Site, tmp_path: Path) -> None:
    which = at(site, "ml-1m")
    folder = tmp_path / "a[1]*?"
    fetch(which, folder)
    shutil.copytree(folder / "ml-1m", tmp_path / "a1xx" / "ml-1m")
    assert store.load(which, folder).clean(Cleaning()).read == 3


def test_catalogue_entries_are_whole() -> None:
    for name, public in CATALOGUE.items():
        assert public.name == name
        assert public.licence.text and public.licence.url and public.citation and public.home
        assert public.counts.users < public.counts.interactions
        for file in public.files:
            assert_digests(file)
            assert bool(file.digests) == bool(file.vouched)
            assert file.size is None or file.size <= public.largest
        assert name == "msd" or bool(public.changing) != bool(public.files[0].digests)


def assert_digests(file: File) -> None:
    for digest in file.digests:
        kind, _, value = digest.partition(":")
        assert len(value) == {"md5": 32, "sha256": 64}[kind]
        assert set(value) <= set("0123456789abcdef")
