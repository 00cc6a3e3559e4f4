"""`recsys-ae datasets`: what is told of a set, its terms, its fetching, and runs that read it."""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.__main__ import main
from pipelines.config import make_config
from pipelines.ingest import split_dataset
from recsys_ae.datasets import CATALOGUE, descriptions, store
from recsys_ae.datasets.download import Downloader
from recsys_ae.errors import ConfigError
from tests.archives import MEMBERS, entry, published, zipped
from tests.site import Site, serving

Command = Callable[..., tuple[int, str, str]]


class Terminal(io.StringIO):
    """Somebody who types."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command line: exit code, stdout, stderr."""

    def run(*arguments: str, typed: str | None = None) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["recsys-ae", *arguments])
        monkeypatch.setattr("sys.stdin", io.StringIO() if typed is None else Terminal(typed))
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Site]:
    """The made-up sets at their homes, which are this machine."""
    monkeypatch.setenv("RECSYS_AE_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(store, "Downloader", lambda: Downloader(attempts=2, pause=0, timeout=5, loopback=True))
    with serving({}) as site:
        for name in ("ml-1m", "gowalla", "msd"):
            site.files |= published(name)
            monkeypatch.setitem(CATALOGUE, name, entry(name, site.url("").rstrip("/")))
        yield site


def test_all_sets_are_listed_and_shown(command: Command) -> None:
    code, out, _ = command("datasets", "--json")
    assert (code, json.loads(out)) == (0, descriptions())
    code, out, _ = command("datasets")
    assert all(name in out for name in CATALOGUE)
    for name, public in CATALOGUE.items():
        code, out, _ = command("datasets", "show", name)
        assert code == 0
        for file in public.files:
            assert file.url in out
            assert all(digest in out for digest in file.digests)
        assert public.licence.url in out and public.citation in out and public.home in out
        told = json.loads(command("datasets", "show", name, "--json")[1])
        assert told["licence"]["text"] == public.licence.text
        assert told["counts"]["users"] == public.counts.users
    assert "no digest is published: the first file to come is recorded" in command("datasets", "show", "msd")[1]
    assert "nothing to fetch" in command("datasets", "show", "synthetic")[1]


def test_an_unknown_or_embedded_set_is_refused(command: Command) -> None:
    for arguments, said in (
        (("show", "ml-2m"), "'ml-2m' is unknown; expected one of movielens-small"),
        (("fetch", "ml-2m"), "'ml-2m' is unknown"),
        (("fetch", "synthetic"), "needs no fetching; expected one of ml-100k"),
    ):
        code, out, err = command("datasets", *arguments)
        assert (code, out) == (2, "")
        assert said in err


def test_without_a_terminal_the_terms_need_yes(command: Command, site: Site) -> None:
    code, out, err = command("datasets", "fetch", "ml-1m")
    assert (code, out, site.asked) == (2, "", [])
    assert "may not redistribute the data without separate permission" in " ".join(err.split())
    assert err.endswith("must be accepted; without a terminal to ask on, --yes accepts them\n")


def test_terms_are_asked_for_on_a_terminal(command: Command, site: Site) -> None:
    code, out, err = command("datasets", "fetch", "ml-1m", typed="n\n")
    assert (code, out, site.asked) == (2, "", [])
    assert err.endswith("the terms of ml-1m were not accepted; nothing was fetched\n")
    assert command("datasets", "fetch", "ml-1m", typed="")[0] == 2
    code, out, err = command("datasets", "fetch", "ml-1m", typed="y\n")
    assert code == 0
    assert "ml-1m: 2 users, 2 items, 3 interactions in" in out


def test_yes_fetches_and_json_is_alone_on_stdout(command: Command, site: Site, tmp_path: Path) -> None:
    code, out, err = command("datasets", "fetch", "msd", "--yes", "--json")
    told = json.loads(out)
    assert code == 0
    assert (told["users"], told["items"], told["interactions"]) == (2, 2, 3)
    assert told["folder"] == str(tmp_path / "data" / "msd")
    assert told["source"][0]["how"].startswith("nobody publishes a digest")
    assert "No terms travel with the file" in err and "train_triplets.txt.zip" in err
    code, out, err = command("datasets", "fetch", "msd")  # what is here needs no terms and no network
    assert (code, err, len(site.asked)) == (0, "", 1)


def test_a_failed_download_is_one_message_and_code_1(command: Command, site: Site) -> None:
    site.faults = ["404"]
    code, out, err = command("datasets", "fetch", "ml-1m", "--yes")
    assert (code, out) == (1, "")
    assert "answered 404 Not Found" in err.splitlines()[-1]


def test_from_a_file(command: Command, site: Site, tmp_path: Path) -> None:
    mine = tmp_path / "mine.zip"
    mine.write_bytes(zipped(MEMBERS["ml-1m"]))
    code, out, _ = command("datasets", "fetch", "ml-1m", "--from", str(mine), "--folder", str(tmp_path / "other"), "--yes")
    assert (code, site.asked) == (0, [])
    assert "checked ml-1m.zip: published digest" in out
    mine.write_bytes(b"no zip")
    code, _, err = command("datasets", "fetch", "ml-1m", "--from", str(mine), "--yes")
    assert code == 2
    assert "neither a zip nor one of the set's files" in err


def test_a_run_reads_a_fetched_set_and_never_fetches(command: Command, site: Site, tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text(f'[log]\ndataset = "ml-1m"\n[run]\nfolder = "{tmp_path / "runs"}"\n')
    code, _, err = command("ingest", str(config))
    assert (code, site.asked) == (2, [])
    assert err.endswith("fetch it first: recsys-ae datasets fetch ml-1m\n")
    command("datasets", "fetch", "ml-1m", "--yes")
    code, out, _ = command("ingest", str(config), "--json")
    assert code == 0
    assert json.loads(out)["kept"] == 3


def test_a_set_that_comes_divided_needs_no_file_names(command: Command, site: Site, tmp_path: Path) -> None:
    command("datasets", "fetch", "gowalla", "--yes", "--folder", str(tmp_path / "else"))
    log = {"dataset": "gowalla", "data_folder": str(tmp_path / "else")}
    split, counts = split_dataset(make_config({"log": log, "split": {"kind": "given"}}))
    assert split.refit.histories.n_interactions == 11
    assert split.test.held_out.n_interactions == 4
    assert counts["read"] == 15
    whole, _ = split_dataset(make_config({"log": log, "split": {"validation_users": 1, "test_users": 1}}))
    assert len(whole.refit.users) == 4
    with pytest.raises(
        ConfigError, match=r"needs train and test, two files, or a .* dataset of gowalla, yelp2018, amazon-book"
    ):
        make_config({"log": {"dataset": "ml-1m"}, "split": {"kind": "given"}})
    with pytest.raises(ConfigError, match="one of train and test is set"):
        make_config({"log": log, "split": {"kind": "given", "train": "a.parquet"}})
