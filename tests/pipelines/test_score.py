"""score: the lists of all stored users as Parquet, the same as rank_top_k gives, whole or not at all."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipelines import score as scoring
from pipelines.config import load_config
from recsys_ae import Registry, datasets, rank_top_k
from recsys_ae.scratch import held
from recsys_ae.sealed import read_sealed
from tests.pipelines.conftest import Run

CONFIG = """
[log]
path = "events.parquet"
[[models]]
name = "ease"
[score]
k = 12
users_per_file = 60
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """200 users, 70 items, one trained version."""
    pq.write_table(datasets.synthetic(n_users=200, n_items=70, seed=2).events, tmp_path / "events.parquet")
    (tmp_path / "run.toml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(home: Path, command: Run) -> Run:
    """A command in the home folder, where a version is trained."""
    code, _, err = command("train", "run.toml")
    assert code == 0, err
    return command


def test_every_user_has_the_list_of_rank_top_k(run: Run, home: Path) -> None:
    code, said, err = run("score", "run.toml", "--json")
    assert code == 0, err
    done = json.loads(said)
    assert (done["users"], done["parts"], done["resumed"]) == (200, 4, 0)
    pointer = read_sealed(home / "scores" / "scores.json")
    assert home / "scores" / pointer["folder"] == home / done["folder"]
    table = pq.read_table(home / done["folder"]).to_pandas()
    assert len(table) == done["rows"] == pointer["rows"]
    artifact, stored = Registry(home / "registry").load()
    ranking = rank_top_k(artifact.model, stored.histories, 12)
    for row, (user, own) in enumerate(table.groupby("user_id", sort=False)):
        items, scores = ranking.row(row)
        assert user == stored.users.ids[row]
        assert own["rank"].tolist() == list(range(1, len(items) + 1))
        assert own["item_id"].tolist() == artifact.items.at(np.array(items))
        np.testing.assert_allclose(own["score"], scores, rtol=1e-5)


def test_excluded_items_are_shown_to_nobody(run: Run, home: Path) -> None:
    popular = pq.read_table("events.parquet")["item_id"].to_pandas().value_counts().index[:3].tolist()
    (home / "gone.csv").write_text("item_id\n" + "\n".join(map(str, [*popular, 10**9])) + "\n")
    (home / "less.toml").write_text(CONFIG + 'exclude = "gone.csv"\n')
    whole = json.loads(run("score", "run.toml", "--json")[1])
    less = json.loads(run("score", "less.toml", "--json")[1])
    assert less["folder"] != whole["folder"] and less["resumed"] == 0
    assert set(popular) <= set(pq.read_table(whole["folder"])["item_id"].to_pylist())
    assert not set(popular) & set(pq.read_table(less["folder"])["item_id"].to_pylist())


def test_what_broke_off_goes_on_and_ends_with_the_same_bytes(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scoring.score(load_config(home / "run.toml"))
    bytes_of = {path.name: path.read_bytes() for path in whole.folder.iterdir()}
    for path in (*whole.folder.iterdir(), home / "scores" / "scores.json"):
        path.unlink()
    real = scoring.rank_top_k
    calls: list[int] = []

    def fails(*arguments: object, **named: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            (whole.folder / ".part-00002.parquet.0123abcd.partial").write_bytes(b"half")
            raise KeyboardInterrupt
        return real(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(scoring, "rank_top_k", fails)
    with pytest.raises(KeyboardInterrupt):
        scoring.score(load_config(home / "run.toml"))
    assert not (home / "scores" / "scores.json").exists()
    (whole.folder / "part-00001.parquet").write_bytes(b"damaged")
    again = scoring.score(load_config(home / "run.toml"))
    assert (again.resumed, again.rows) == (1, whole.rows)
    assert {path.name: path.read_bytes() for path in again.folder.iterdir()} == bytes_of


def test_the_folder_before_stays_and_older_ones_go(run: Run, home: Path) -> None:
    folders = []
    for k in (3, 4, 5):
        (home / "k.toml").write_text(CONFIG.replace("k = 12", f"k = {k}"))
        folders.append(Path(json.loads(run("score", "k.toml", "--json")[1])["folder"]).name)
    (home / "scores" / "mine").mkdir()
    assert sorted(path.name for path in (home / "scores").iterdir()) == sorted(["mine", "scores.json", *folders[1:]])


def test_lists_never_finished_go_unless_somebody_is_at_work_on_them(run: Run, home: Path) -> None:
    begun = [home / "scores" / f"20250101T000000.00000{i}-ease-0123abc{i}-89abcde{i}" for i in range(2)]
    for folder in begun:
        folder.mkdir(parents=True)
        (folder / "part-00000.parquet").write_bytes(b"of a night that was killed")
    with held(begun[1]):
        assert run("score", "run.toml")[0] == 0
    assert [folder.exists() for folder in begun] == [False, True]


@pytest.mark.parametrize("finished", [True, False])
def test_a_flipped_bit_in_a_part_is_noticed_and_the_part_written_again(run: Run, home: Path, finished: bool) -> None:
    done = scoring.score(load_config(home / "run.toml"))
    part = done.folder / "part-00002.parquet"
    content = part.read_bytes()
    at = pq.ParquetFile(part).metadata.row_group(0).column(3).data_page_offset + 60  # in a page of scores
    part.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    if not finished:
        (done.folder / "_scores.json").unlink()
    assert not scoring.is_whole(done.folder)
    again = scoring.score(load_config(home / "run.toml"))
    assert again.resumed == done.parts - 1 and part.read_bytes() == content
    assert scoring.is_whole(done.folder)


def test_no_version_and_an_unknown_one_are_one_message(run: Run, home: Path) -> None:
    code, _, err = run("score", "run.toml", "--version", "x")
    assert code == 2 and "no version 'x'" in err
    (home / "empty.toml").write_text(CONFIG + '[registry]\npath = "none"\n')
    code, _, err = run("score", "empty.toml")
    assert code == 2 and "no current version" in err
    assert not (home / "scores").exists()
