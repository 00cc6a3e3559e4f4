"""Objects of a store as files: whole, of one version, and fetched again only where they changed."""

import glob
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest

from recsys_ae import objects
from recsys_ae.errors import ConfigError, InputError, LogError, WriteError
from recsys_ae.sealed import read_sealed
from recsys_ae.sources import FORMATS, file_format
from tests.stores import KEY, SECRET, Store

ROOT = Path(__file__).parents[2]
ODD = [
    "a b.csv",
    "we[1]ird?*.csv",
    "ümlaut 漢字.tsv",
    "per%20cent+plus&and=#hash.jsonl",
    "quo'te\"s;$(x)`y`.csv",
    "..csv.csv",
    "no_suffix",
    "a." * 60 + "csv.gz",
    "x" * 200 + ".parquet",
]


def contents(found: dict[str, Path]) -> dict[str, bytes]:
    return {url: path.read_bytes() for url, path in found.items()}


def files_of(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"objects.json", "lock"}


def test_a_glob_gives_its_objects_in_the_order_of_their_names(s3: Store, tmp_path: Path) -> None:
    for key in ("e/10.csv", "e/2.csv", "e/ä.csv", "e/Z.csv", "e/.hidden.csv", "e/3.txt", "e/", "e/deep/1.csv", "f/1.csv"):
        s3.put(key, key.encode())
    found = objects.fetch("s3://shop/e/*.csv", tmp_path)
    assert contents(found) == {f"s3://shop/{key}": key.encode() for key in ("e/10.csv", "e/2.csv", "e/Z.csv", "e/ä.csv")}
    assert list(found) == sorted(found)
    assert list(objects.fetch("s3://shop/?/[0-9]*.csv", tmp_path)) == [
        f"s3://shop/{k}" for k in ("e/10.csv", "e/2.csv", "f/1.csv")
    ]
    assert list(objects.fetch("s3://shop/*/deep/1.csv", tmp_path)) == ["s3://shop/e/deep/1.csv"]
    assert objects.fetched("s3://shop/e/*.csv", tmp_path) == found


def test_globs_are_those_of_files(s3: Store, tmp_path: Path) -> None:
    local = tmp_path / "shop"
    for key in ("a/1.csv", "a/b.csv", "a/.c.csv", ".d/1.csv", "a1/x1.csv", "a1/deep/x2.csv", "b/[1].csv"):
        s3.put(key, b"x")
        (local / key).parent.mkdir(parents=True, exist_ok=True)
        (local / key).write_bytes(b"x")
    for pattern in (
        "*/*.csv",
        "a*/*",
        "**/*.csv",
        "[ab]/?.csv",
        "[!a]*/*",
        ".*/*.csv",
        "*/.c*",
        "*/[[]1[]].csv",
        "*/deep/*.csv",
    ):
        expected = sorted(str(p.relative_to(local)) for p in map(Path, glob.glob(f"{local}/{pattern}")) if p.is_file())
        assert expected
        found = objects.fetch(f"s3://shop/{pattern}", tmp_path / "cache")
        assert [url.removeprefix("s3://shop/") for url in found] == expected


def test_only_what_changed_is_fetched_again(s3: Store, tmp_path: Path) -> None:
    for name in "abc":
        s3.put(f"e/{name}.csv", name.encode())
    first = objects.fetch("s3://shop/e/*.csv", tmp_path)
    assert sorted(s3.fetched) == ["e/a.csv", "e/b.csv", "e/c.csv"]
    s3.asked.clear()
    assert objects.fetch("s3://shop/e/*.csv", tmp_path) == first
    assert s3.fetched == []
    s3.put("e/b.csv", b"B")  # of the same size
    s3.put("e/c.csv", b"c")  # written again as it was
    s3.put("e/d.csv", b"d")
    second = objects.fetch("s3://shop/e/*.csv", tmp_path)
    assert sorted(s3.fetched) == ["e/b.csv", "e/d.csv"]
    assert list(contents(second).values()) == [b"a", b"B", b"c", b"d"]
    s3.asked.clear()
    second["s3://shop/e/a.csv"].write_bytes(b"")  # not as it was written
    assert contents(objects.fetch("s3://shop/e/*.csv", tmp_path)) == contents(second)
    assert s3.fetched == ["e/a.csv"]


def test_what_vanished_goes_but_not_what_another_glob_names(s3: Store, tmp_path: Path) -> None:
    for name in "abc":
        s3.put(f"e/{name}.csv", name.encode())
    every = objects.fetch("s3://shop/e/*.csv", tmp_path)
    objects.fetch("s3://shop/e/b.csv", tmp_path)
    s3.remove("e/a.csv")
    assert list(objects.fetch("s3://shop/e/*.csv", tmp_path)) == ["s3://shop/e/b.csv", "s3://shop/e/c.csv"]
    assert files_of(tmp_path) == {every[f"s3://shop/e/{name}.csv"].name for name in "bc"}
    s3.put("f/x.csv", b"x")
    objects.fetch("s3://shop/f/*.csv", tmp_path)
    s3.remove("e/b.csv")
    s3.put("e/c.csv", b"C")
    with pytest.raises(LogError, match=r"s3://shop/e/b\.csv: matches no object"):
        objects.fetch("s3://shop/e/b.csv", tmp_path)
    objects.fetch("s3://shop/e/*.csv", tmp_path)
    names = {path.read_bytes() for path in tmp_path.iterdir() if path.name in files_of(tmp_path)}
    assert names == {b"b", b"C", b"x"}  # the name b is still that of another URL, as it last was


@pytest.mark.parametrize("protocol", ["s3", "memory"])
def test_a_key_of_any_characters_has_a_safe_file_of_its_own(s3: Store, tmp_path: Path, protocol: str) -> None:
    keys = [f"{folder}/{name}" for folder in ("odd", "odd [2]") for name in ODD]
    if protocol == "s3":
        for key in keys:
            s3.put(key, key.encode())
        long = "deep/" + "y" * 1000 + ".csv"
        s3.put(long, b"long")
        assert contents(objects.fetch(f"s3://shop/{long}", tmp_path)) == {f"s3://shop/{long}": b"long"}
    else:
        memory = fsspec.filesystem("memory")
        for key in keys:
            memory.pipe_file(f"/shop/{key}", key.encode())
    found: dict[str, Path] = {}
    for folder in ("odd", "odd [[]2]"):
        found |= objects.fetch(f"{protocol}://shop/{folder}/*", tmp_path)
    assert contents(found) == {f"{protocol}://shop/{key}": key.encode() for key in sorted(keys) if "/.." not in key}
    assert len({path.name for path in found.values()}) == len(found)
    for url, path in found.items():
        assert path.parent == tmp_path and path.name.isascii() and len(path.name) < 130
        assert not set(path.name) & set("*?[]/ '\"") and not path.name.startswith(".")
        if Path(url).suffix in FORMATS or url.endswith(".gz"):
            assert file_format(path) == file_format(Path(url))
    for key in keys[:3]:  # also where it is named itself
        assert contents(objects.fetch(f"{protocol}://shop/{key}", tmp_path)) == {f"{protocol}://shop/{key}": key.encode()}


def test_an_object_that_changes_while_it_is_read_is_not_mixed(
    s3: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "BLOCK", 1000)
    s3.put("e/a.csv", b"a" * 3000)
    reads = 0

    def change(method: str, path: str) -> None:
        nonlocal reads
        if method == "GET" and path.endswith("a.csv"):
            reads += 1
            if reads == 2:
                s3.put("e/a.csv", b"b" * 3000)

    s3.before = change
    found = objects.fetch("s3://shop/e/*.csv", tmp_path)
    assert contents(found) == {"s3://shop/e/a.csv": b"b" * 3000}
    s3.before = None
    assert contents(objects.fetch("s3://shop/e/*.csv", tmp_path)) == contents(found)

    def always(method: str, path: str) -> None:
        nonlocal reads
        if method == "GET" and path.endswith("a.csv"):
            reads += 1
            s3.put("e/a.csv", str(reads).encode() * 3000)

    s3.put("e/a.csv", b"c" * 3000)
    s3.before = always
    with pytest.raises(LogError, match=r"s3://shop/e/a\.csv: changed while it was read"):
        objects.fetch("s3://shop/e/*.csv", tmp_path)
    assert not any(path.suffix == ".csv" and not path.name.startswith(".partial") for path in tmp_path.iterdir())


def test_a_read_that_is_cut_leaves_nothing_half(tmp_path: Path) -> None:
    """By a driver that ends early without an error."""
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/cut/a.csv", b"a" * 100)
    stream = objects._stream

    def short(*arguments: Any) -> int:
        stream(*arguments)
        os.truncate(arguments[2], 50)
        return 50

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objects, "_stream", short)
        with pytest.raises(LogError, match=r"memory://cut/a\.csv"):
            objects.fetch("memory://cut/a.csv", tmp_path)
    assert contents(objects.fetch("memory://cut/a.csv", tmp_path)) == {"memory://cut/a.csv": b"a" * 100}
    assert len(files_of(tmp_path)) == 1


def test_killed_in_mid_download_the_rest_is_fetched_and_nothing_twice(s3: Store, tmp_path: Path) -> None:
    for place in range(9):
        s3.put(f"e/{place}.csv", str(place).encode() * 10)
    held, go_on = threading.Event(), threading.Event()

    def hold(method: str, path: str) -> None:
        if method == "GET" and path.endswith("6.csv"):
            held.set()
            go_on.wait(60)

    s3.before = hold
    script = (
        f"from pathlib import Path; from recsys_ae import objects; objects.fetch('s3://shop/e/*.csv', Path({str(tmp_path)!r}))"
    )
    child = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        assert held.wait(60)
        child.send_signal(signal.SIGKILL)
        child.wait()
    finally:
        go_on.set()
        child.kill()
    s3.before = None
    whole = {path.read_bytes().decode()[0] for path in tmp_path.glob("[!.]*.csv")}
    assert all(path.stat().st_size == 10 for path in tmp_path.glob("[!.]*.csv")) and "6" not in whole and whole
    s3.asked.clear()
    found = objects.fetch("s3://shop/e/*.csv", tmp_path)
    assert sorted(s3.fetched) == [f"e/{place}.csv" for place in range(9) if str(place) not in whole]
    assert list(contents(found).values()) == [str(place).encode() * 10 for place in range(9)]
    assert files_of(tmp_path) == {path.name for path in found.values()}


def test_downloads_are_bounded_in_number_and_memory(s3: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "BLOCK", 1000)
    lock, now, most = threading.Lock(), set[int](), [0]
    stream = objects._stream

    def counted(*arguments: Any) -> int:
        with lock:
            now.add(threading.get_ident())
            most[0] = max(most[0], len(now))
        try:
            return stream(*arguments)
        finally:
            with lock:
                now.discard(threading.get_ident())

    monkeypatch.setattr(objects, "_stream", counted)
    for place in range(12):
        s3.put(f"e/{place}.csv", os.urandom(2500))
    found = objects.fetch("s3://shop/e/*.csv", tmp_path)
    assert 1 < most[0] <= objects.WORKERS
    assert len(found) == 12 and all(path.stat().st_size == 2500 for path in found.values())
    assert len(s3.fetched) == 12 * 3  # each in blocks


def test_an_empty_object_is_an_empty_file(s3: Store, tmp_path: Path) -> None:
    s3.put("e/a.csv", b"")
    assert contents(objects.fetch("s3://shop/e/a.csv", tmp_path)) == {"s3://shop/e/a.csv": b""}


def test_several_processes_at_once_agree(s3: Store, tmp_path: Path) -> None:
    for name in "abcdef":
        s3.put(f"e/{name}.csv", name.encode())
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: contents(objects.fetch("s3://shop/e/*.csv", tmp_path)), range(3)))
    assert found[0] == found[1] == found[2] and len(found[0]) == 6
    assert len(s3.fetched) == 6  # the one that came first fetched them for all


def test_a_damaged_record_is_no_record(s3: Store, tmp_path: Path) -> None:
    s3.put("e/a.csv", b"a")
    found = objects.fetch("s3://shop/e/*.csv", tmp_path)
    (tmp_path / "objects.json").write_text((tmp_path / "objects.json").read_text().replace("shop", "ship"))
    (tmp_path / "stray.csv").write_text("of nobody")
    assert objects.fetch("s3://shop/e/*.csv", tmp_path) == found
    assert len(s3.fetched) == 2 and files_of(tmp_path) == {path.name for path in found.values()}
    assert read_sealed(tmp_path / "objects.json")["patterns"] == {"s3://shop/e/*.csv": [p.name for p in found.values()]}


def test_settings_tell_stores_apart(tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe_file("/apart/a.csv", b"a")
    one = objects.fetch("memory://apart/a.csv", tmp_path)
    other = objects.fetch("memory://apart/a.csv", tmp_path, {"host": "other"})
    assert one.keys() == other.keys() and list(one.values()) != list(other.values())


def test_memory_is_asked_again_only_where_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an ETag the time of change counts; without both, everything is fetched every time."""
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/times/a.csv", b"a")
    copied: list[str] = []
    stream = objects._stream
    monkeypatch.setattr(objects, "_stream", lambda *a: copied.append(a[1]) or stream(*a))
    for content, times in ((b"a", 1), (b"a", 1), (b"b", 2)):
        if content != b"a":
            memory.pipe_file("/times/a.csv", content)
        assert contents(objects.fetch("memory://times/*.csv", tmp_path)) == {"memory://times/a.csv": content}
        assert len(copied) == times
    monkeypatch.setattr(objects, "MODIFIED", ())
    for _ in range(2):
        objects.fetch("memory://times/*.csv", tmp_path)
    assert len(copied) == 4


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://shop/none/*.csv", ["s3://shop/none/*.csv", "matches no object", "expected"]),
        ("s3://shop/none.csv", ["s3://shop/none.csv", "matches no object"]),
        ("s3://shop/e/", ["s3://shop/e/", "matches no object"]),
        ("s3://absent/e/*.csv", ["'absent'", "bucket"]),
        ("s3://absent/e.csv", ["'absent'", "bucket"]),
        ("gs://shop/e.csv", ["no driver for gs://", "gcsfs"]),
        ("s4://shop/e.csv", ["s4://shop/e.csv", "not known: s4", "expected"]),
    ],
)
def test_what_is_not_there_is_one_clear_error(s3: Store, tmp_path: Path, url: str, said: list[str]) -> None:
    s3.put("e/a.csv", b"a")
    with pytest.raises(InputError) as caught:
        objects.fetch(url, tmp_path)
    for part in said:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_extra_is_named_where_its_driver_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(ConfigError, match=r"pip install 'recsys-ae\[s3\]'"):
        objects.fetch("s3://shop/a.csv", tmp_path)


def test_a_store_that_denies(s3: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from moto.core import set_initial_no_auth_action_count

    s3.put("e/a.csv", b"a")

    @set_initial_no_auth_action_count(0)
    def refused() -> str:
        with pytest.raises(LogError) as caught:
            objects.fetch("s3://shop/e/*.csv", tmp_path)
        return str(caught.value)

    message = refused()
    assert "s3://shop/e/*.csv: access denied" in message and KEY not in message and SECRET not in message
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(LogError, match=r"access denied.*redentials"):
        objects.fetch("s3://shop/e/*.csv", tmp_path)


def test_a_store_that_does_not_answer(s3: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("http://127.0.0.1:9", f"http://me:{SECRET}@127.0.0.1:9", "http://127.0.0.1:9/path?of=nothing", "nowhere"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        with pytest.raises(LogError) as caught:
            objects.fetch("s3://shop/e/*.csv", tmp_path)
        message = str(caught.value)
        assert "s3://shop/e/*.csv: cannot be read" in message and SECRET not in message
        assert "127.0.0.1:9" in message or address != "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("url", "right"),
    [
        (f"s3://{KEY}:{SECRET}@shop/e.csv", False),
        ("s3://key:a/secret+with@shop/e.csv", False),
        ("sftp://me:secret@host:22/e.csv", False),
        ("https://host/e.csv?X-Amz-Signature=secret", False),
        ("s3://shop/e@10:00.csv", True),
        ("sftp://me@host:22/e@x.csv", True),
        ("abfs://container@account.dfs.core.windows.net/e:1@2.csv", True),
        ("s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/mine/e@x.csv", True),
        ("http://host:8080/a@b.csv", True),
        ("plain/a:b@c.csv", True),
    ],
)
def test_a_url_with_a_secret_is_refused_and_not_told(url: str, right: bool) -> None:
    if right:
        objects.check_url(url)
        return
    with pytest.raises(ConfigError) as caught:
        objects.check_url(url)
    assert "secret" not in str(caught.value).replace("holds no secret", "").replace("SECRET", "")


@pytest.mark.parametrize("name", ["key", "secret", "token", "password", "account_key", "sas_token", "aws_access_key_id"])
def test_secrets_are_no_settings(name: str) -> None:
    objects.check_options("s3", {"endpoint_url": "http://127.0.0.1:9000", "anon": False, "client_kwargs": {"region_name": "x"}})
    for options in ({name: "hidden"}, {"client_kwargs": {name: "hidden"}}):
        with pytest.raises(ConfigError, match="environment") as caught:
            objects.check_options("s3", options)
        assert name in str(caught.value) and "hidden" not in str(caught.value)


def test_settings_are_those_of_a_store() -> None:
    with pytest.raises(ConfigError, match="s4"):
        objects.check_options("s4", {})
    with pytest.raises(ConfigError) as caught:
        objects.check_options("s3", {"endpoint_url": "http://me:hidden@host"})
    assert "hidden" not in str(caught.value)


def test_the_host_of_a_url_stays_in_the_names() -> None:
    assert objects._told_apart("abfs://c@account.net/e/*.csv", "c/e/*.csv") == ("abfs://c@account.net", "c")
    assert objects._told_apart("sftp://host:22/e/*.csv", "/e/*.csv") == ("sftp://host:22", "")
    assert objects._told_apart("s3://shop/e", "shop/e") == ("s3://", "")
    assert objects._told_apart("https://host/e", "https://host/e") == ("", "")


def test_a_file_url_is_a_file() -> None:
    assert not objects.is_url("file:///a/b.csv") and objects.plain("file:///a/b.csv") == "/a/b.csv"
    assert not objects.is_url("a/b.csv") and not objects.is_url("C:/a.csv") and objects.is_url("s3://a/b.csv")


def test_a_full_disk_is_no_fault_of_the_store(s3: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.put("e/a.csv", b"user_id,item_id\n1,2\n")
    monkeypatch.setattr(Path, "open", lambda *_, **__: open("/dev/full", "wb", buffering=0))  # noqa: SIM115
    (wanted,) = objects.listed("s3://shop/e/a.csv")
    with pytest.raises(WriteError, match=r"a-[0-9a-f]+\.csv: cannot be written \(No space left on device, errno 28\)"):
        objects.download(wanted, tmp_path)
