"""Downloads against a server that breaks off, lies, changes its file and leads astray."""

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from recsys_ae.datasets.catalogue import CATALOGUE, File
from recsys_ae.datasets.download import Downloader
from recsys_ae.errors import FetchError
from tests.site import Site, serving

BODY = hashlib.shake_256(b"a file").digest(300_000)
OTHER = hashlib.shake_256(b"another version").digest(300_000)
LARGEST = 400_000
PATIENT = Downloader(attempts=4, pause=0, timeout=5, loopback=True)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving({"set.zip": BODY}) as site:
        yield site


def file(site: Site, size: int | None = len(BODY)) -> File:
    return File("set.zip", site.url("set.zip"), size=size)


def download(site: Site, folder: Path, size: int | None = len(BODY), downloader: Downloader = PATIENT) -> bytes:
    return downloader.download(file(site, size), folder, LARGEST).read_bytes()


def refused(site: Site, folder: Path, size: int | None = len(BODY)) -> str:
    """What is said; nothing stays, and no second attempt is made in vain."""
    before = len(site.asked)
    with pytest.raises(FetchError) as caught:
        download(site, folder, size)
    assert not list(folder.iterdir())
    assert len(site.asked) == before + 1
    return str(caught.value)


def test_a_whole_file_comes_in_one_request_and_progress_is_told(site: Site, tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    path = PATIENT.download(file(site), tmp_path, LARGEST, lambda *state: told.append(state))
    assert path.read_bytes() == BODY
    assert site.asked == [("/set.zip", None)]
    assert told[0] == ("set.zip", 0, len(BODY))
    assert told[-1] == ("set.zip", len(BODY), len(BODY))
    assert [p.name for p in tmp_path.iterdir()] == ["set.zip.partial"]


@pytest.mark.parametrize(
    ("fault", "size"), [("breaks", len(BODY)), ("breaks", None), ("breaks without a length", len(BODY)), ("says more", None)]
)
def test_a_broken_connection_is_gone_on_from(site: Site, tmp_path: Path, fault: str, size: int | None) -> None:
    site.faults = [fault]
    assert download(site, tmp_path, size) == BODY
    assert site.asked[1][1] == f"bytes={len(BODY) if fault == 'says more' else len(BODY) // 2}-"


def test_it_goes_on_from_break_to_break(site: Site, tmp_path: Path) -> None:
    site.faults = ["breaks", "breaks", "breaks"]
    assert download(site, tmp_path) == BODY
    starts = [int(asked.removeprefix("bytes=").removesuffix("-")) for _, asked in site.asked if asked]
    assert starts == [150_000, 225_000, 262_500]


def test_the_next_call_goes_on_where_attempts_ran_out(site: Site, tmp_path: Path) -> None:
    site.faults = ["breaks"] * 4
    with pytest.raises(FetchError, match=r"gave up after 4 attempts\. 281,250 bytes are kept.*--from"):
        download(site, tmp_path)
    assert download(site, tmp_path) == BODY
    assert site.asked[-1][1] == "bytes=281250-"


def test_a_server_without_ranges_starts_over(site: Site, tmp_path: Path) -> None:
    site.faults = ["breaks", "no ranges"]
    assert download(site, tmp_path) == BODY
    assert [asked for _, asked in site.asked] == [None, "bytes=150000-"]


def test_a_server_that_names_no_version_is_not_asked_to_go_on(site: Site, tmp_path: Path) -> None:
    site.etag = None
    site.faults = ["breaks"]
    assert download(site, tmp_path) == BODY
    assert [asked for _, asked in site.asked] == [None, None]


def test_a_weak_etag_is_no_ground_to_go_on(site: Site, tmp_path: Path) -> None:
    site.etag = 'W/"one"'
    site.faults = ["breaks"]
    assert download(site, tmp_path) == BODY
    assert [asked for _, asked in site.asked] == [None, None]


@pytest.mark.parametrize("fault", ["", "forgets If-Range"])
def test_a_file_that_changed_between_attempts_is_never_mixed(site: Site, tmp_path: Path, fault: str) -> None:
    site.faults = ["breaks"] * 4
    with pytest.raises(FetchError):
        download(site, tmp_path)
    site.files["set.zip"], site.etag, site.faults = OTHER, '"two"', [fault]
    assert download(site, tmp_path) == OTHER


def test_another_part_than_asked_for_starts_over(site: Site, tmp_path: Path) -> None:
    site.faults = ["breaks", "other part"]
    assert download(site, tmp_path) == BODY
    site.faults = ["breaks", "416"]
    assert download(site, tmp_path) == BODY


@pytest.mark.parametrize("fault", ["500", "503", "429"])
def test_a_passing_fault_of_the_server_is_tried_again(site: Site, tmp_path: Path, fault: str) -> None:
    site.faults = [fault]
    assert download(site, tmp_path) == BODY
    site.faults = [fault] * 9
    with pytest.raises(FetchError, match=f"answered {fault} .*gave up after 4 attempts"):
        download(site, tmp_path)
    assert len(site.faults) == 5


def test_what_cannot_be_the_file_is_refused_at_once(site: Site, tmp_path: Path) -> None:
    for fault, said in {
        "404": "answered 404 Not Found; expected the file",
        "page": r"a web page (text/html); expected the file",
        "encoded": "encoded (gzip)",
        "to plain HTTP": "leads to http://files.example.org/set.zip, which is not HTTPS",
        "says less": "has 299,993 bytes; expected 300,000",
        "says more": "has 300,007 bytes; expected 300,000",
        "sends more": "sent more than 300,000 bytes",
    }.items():
        site.faults = [fault]
        assert said in refused(site, tmp_path), fault


def test_a_web_page_in_between_does_not_cost_what_came(site: Site, tmp_path: Path) -> None:
    site.faults = ["breaks", "page"]
    with pytest.raises(FetchError, match="a web page"):
        download(site, tmp_path)
    assert download(site, tmp_path) == BODY
    assert site.asked[-1][1] == "bytes=150000-"


def test_a_download_of_unknown_size_is_bounded(site: Site, tmp_path: Path) -> None:
    site.faults = ["sends more"]
    assert "sent more than 400,000 bytes" in refused(site, tmp_path, size=None)


def test_redirects_are_followed_and_bounded(site: Site, tmp_path: Path) -> None:
    site.files["set.zip?again"] = BODY
    site.faults = ["moved"]
    assert download(site, tmp_path) == BODY
    site.faults = ["to itself"] * 100
    before = len(site.asked)
    with pytest.raises(FetchError, match="redirected more than 5 times"):
        download(site, tmp_path)
    assert len(site.asked) == before + 6


def test_plain_http_is_refused_before_anything_is_sent(site: Site, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="is not HTTPS; expected https://"):
        Downloader(attempts=2, pause=0).download(file(site), tmp_path, LARGEST)
    with pytest.raises(FetchError, match=r"example\.org.* is not HTTPS"):
        PATIENT.download(File("a.zip", "http://files.example.org/a.zip"), tmp_path, LARGEST)
    assert not site.asked


def test_nobody_there_is_said_after_the_attempts(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/a.zip"
        with pytest.raises(FetchError, match="gave up after 2 attempts"):
            Downloader(attempts=2, pause=0, loopback=True).download(File("a.zip", url), tmp_path, LARGEST)


def test_pauses_double(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    site.faults = ["500"] * 4
    with pytest.raises(FetchError):
        Downloader(attempts=4, pause=0.5, loopback=True).download(file(site), tmp_path, LARGEST)
    assert slept == [0.5, 1.0, 2.0]


def test_every_known_set_is_fetched_over_https() -> None:
    assert all(each.url.startswith("https://") for public in CATALOGUE.values() for each in public.files)
