"""content fit and [content]: files in, a version with cold items out; hostile images are left out with their reasons."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.commands.content import content_app
from pipelines.config import ContentSection, make_config
from pipelines.latent.pictures import LARGEST_PIXELS, read_images
from pipelines.train import train
from recsys_ae.artifact import Artifact
from recsys_ae.errors import ConfigError
from recsys_ae.histories import Histories
from recsys_ae.ids import IdMap
from recsys_ae.items import ItemMetadata
from recsys_ae.latent.images import SIDE
from recsys_ae.preprocessing import Preprocessing
from recsys_ae.ranking import rank_top_k
from recsys_ae.registry import Registry, StoredUsers
from tests.pipelines.test_commands import run
from tests.worlds import N_ITEMS, N_TASTES, fitted, tastes

pytestmark = pytest.mark.slow

COLORS = ((220, 30, 30), (30, 200, 30), (30, 30, 220))
COLD = tuple(range(1000 + N_ITEMS, 1003 + N_ITEMS))  # one of each taste


def of_taste(id_: int) -> int:
    return (id_ - 1000) % N_TASTES


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    """One version of 1000, 1001, ..., current."""
    histories = tastes(150, weighted=False)
    model = fitted("mult_dae", histories, epochs=12, learning_rate=1e-2, batch_size=25)
    items = IdMap(tuple(range(1000, 1000 + N_ITEMS)))
    metadata = ItemMetadata.of(items, histories, {i: f"Film {i} of kind{of_taste(i)}" for i in items.ids}, {})
    store = Registry(tmp_path / "registry")
    stored = StoredUsers(IdMap(tuple(range(len(histories)))), histories)
    store.promote(store.publish(Artifact("mult_dae", model, items, metadata, Preprocessing()), "dae", stored, {"x": 1}))
    return store.path


def knows_tastes(path: Path, version: str) -> None:
    """A history of one taste is offered the cold item of that taste before the others."""
    artifact, stored = Registry(path).load(version)
    assert artifact.items.ids[-3:] == COLD and artifact.metadata.popularity[-3:] == (0, 0, 0)
    assert stored.histories.n_items == len(artifact.items)
    width = len(artifact.items)
    allow = np.arange(width) >= N_ITEMS
    for taste in range(N_TASTES):
        own = [c for c in range(N_ITEMS) if c % N_TASTES == taste][:5]
        found = rank_top_k(artifact.model, Histories.from_rows([own], width), 1, allow=allow).items[0, 0]
        assert of_taste(int(artifact.items.ids[found])) == taste


def table(folder: Path, ids: Any = COLD) -> Path:
    path = folder / "items.csv"
    path.write_text("item_id,title,category\n" + "".join(f"{i},New {i} of kind{of_taste(i)},\n" for i in ids))
    return path


def images(folder: Path, ids: Any = (*range(1000, 1000 + N_ITEMS), *COLD)) -> Path:
    place = folder / "images"
    place.mkdir()
    rng = np.random.default_rng(0)
    for id_ in ids:
        grain = rng.normal(0, 10, (40, 30, 3))
        Image.fromarray((np.array(COLORS[of_taste(id_)]) + grain).clip(0, 255).astype(np.uint8)).save(place / f"{id_}.png")
    return place


def test_a_table_of_new_items_makes_a_version_that_knows_them(registry: Path, tmp_path: Path) -> None:
    before = Registry(registry).current()
    done = run(
        tmp_path, "content", "fit", "--registry", "registry", "--items", str(table(tmp_path)), "--json", "--out", "f.parquet"
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["of"] == before == Registry(registry).current() and told["cold"] == list(COLD) and told["skipped"] == {}
    knows_tastes(registry, told["version"])
    about = Registry(registry).show(told["version"])
    assert (about["model"], about["metrics"]) == ("dae", {"x": 1})
    assert Registry(registry).manifest(told["version"])["content"]["of"] == before
    written = pq.read_table(tmp_path / "f.parquet")
    assert written.column_names == ["item_id", "cold", "features"]
    assert written.filter(written["cold"])["item_id"].to_pylist() == list(COLD)
    assert len(written["features"][0].as_py()) == told["features"]


def test_a_folder_of_images_does_too_and_promotes_when_asked(registry: Path, tmp_path: Path) -> None:
    place = images(tmp_path)
    (place / "1000.jpg").write_bytes(b"twice")
    (place / "broken.png").write_bytes(b"no image")
    done = run(tmp_path, "content", "fit", "--registry", "registry", "--images", str(place), "--promote")
    assert done.returncode == 0, done.stderr
    assert "3 cold items added" in done.stdout and "now current" in done.stdout
    assert "2 files are left out" in done.stderr and "broken.png: its name is no integer id" in done.stderr
    knows_tastes(registry, str(Registry(registry).current()))


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ((), "expected --images FOLDER, --items FILE, or both"),
        (("--images", "nowhere"), "nowhere is no folder"),
        (("--items", "warm.csv"), "have users in version"),
        (("--items", "bare.csv"), "has no column title or category"),
        (("--items", "warm.csv", "--title", "name"), "name"),
        (("--images", "empty"), "empty has no image that can be read"),
    ],
)
def test_what_cannot_be_done_is_one_message(registry: Path, tmp_path: Path, arguments: tuple[str, ...], what: str) -> None:
    table(tmp_path, range(1000, 1009)).rename(tmp_path / "warm.csv")
    (tmp_path / "bare.csv").write_text("item_id\n1\n")
    (tmp_path / "empty").mkdir()
    done = run(tmp_path, "content", "fit", "--registry", str(registry), *arguments)
    assert done.returncode == 2 and what in done.stderr and len(Registry(registry).versions()) == 1, done.stderr


def test_hostile_images_are_left_out_with_their_reason(tmp_path: Path) -> None:
    place = images(tmp_path, (1000, 1001))
    whole = (place / "1000.png").read_bytes()
    (place / "1.png").write_bytes(whole[: len(whole) // 2])
    (place / "2.jpg").write_bytes(b"<html>not found</html>")
    (place / "3.png").write_bytes(b"")
    Image.new("1", (LARGEST_PIXELS // 5_000 + 1, 5_000)).save(place / "4.png")  # a bomb: some KB, 50 million pixels
    (place / "1001.bmp").write_bytes(whole)
    (place / "notes.txt").write_text("no image")
    found = read_images(place, "integer")
    assert found.items.ids == (1000, 1001) and found.pixels.shape == (2, SIDE, SIDE, 3)
    assert set(found.skipped) == {"1.png", "2.jpg", "3.png", "4.png", "1001.png"}
    assert found.skipped["1001.png"] == "another file is of item 1001"
    assert "cannot be read as an image" in found.skipped["2.jpg"] and "50,000,000" in found.skipped["4.png"]


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "I;16", "1"])
def test_images_of_any_mode_are_coloured_squares(tmp_path: Path, mode: str) -> None:
    place = tmp_path / "images"
    place.mkdir()
    Image.new(mode, (64, 16)).save(place / ("x.tif" if mode == "CMYK" else "x.png"))
    pixels = read_images(place, "string").pixels[0]
    assert pixels.shape == (SIDE, SIDE, 3)
    assert (pixels[0] == 255).all()  # the margin of a flat image is white
    assert (pixels[SIDE // 2] == (255 if mode in ("LA", "RGBA") else pixels[SIDE // 2, 0])).all()


def test_a_turned_photograph_is_set_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 20), "white")
    image.paste((255, 0, 0), (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    image.save(tmp_path / "1.png", exif=exif)
    pixels = read_images(tmp_path, "integer").pixels[0].astype(int)
    assert pixels[SIDE // 2, -4, 1] < 50 < 200 < pixels[SIDE // 2, 4, 1]  # red is on the right now


def configuration(folder: Path, **content: Any) -> dict[str, Any]:
    """A run on the tastes' log, its items' titles and three that nobody has met."""
    histories = tastes(150, weighted=False)
    rows = zip(histories.rows.tolist(), (1000 + histories.items).tolist(), strict=True)
    (folder / "log.csv").write_text("user_id,item_id\n" + "".join(f"{u},{i}\n" for u, i in rows))
    path = table(folder, (*range(1000, 1000 + N_ITEMS), *COLD))
    return {
        "log": {"path": str(folder / "log.csv")},
        "items": {"path": str(path), "id": "item_id", "title": "title"},
        "run": {"folder": str(folder / "runs")},
        "registry": {"path": str(folder / "trained")},
        "models": [{"name": "ease", "regularisation": 5.0}],
        "content": content,
    }


def test_train_appends_the_items_that_nobody_has_met(tmp_path: Path) -> None:
    published, _ = train(make_config(configuration(tmp_path)), False)
    knows_tastes(tmp_path / "trained", published[0].version)
    artifact, _ = Registry(tmp_path / "trained").load()
    assert artifact.metadata.titles[-1] == f"New {COLD[-1]} of kind{of_taste(COLD[-1])}"
    assert artifact.manifest["content"]["cold_items"] == 3


def test_without_the_section_nothing_is_appended(tmp_path: Path) -> None:
    given = configuration(tmp_path)
    del given["content"]
    train(make_config(given), False)
    artifact, _ = Registry(tmp_path / "trained").load()
    assert len(artifact.items) == N_ITEMS and "content" not in artifact.manifest


def test_a_section_that_has_nothing_to_go_by_is_refused(tmp_path: Path) -> None:
    given = configuration(tmp_path, titles=False)
    with pytest.raises(ConfigError, match=r"\[content\] has nothing to go by"):
        make_config(given)
    with pytest.raises(ConfigError, match="unknown key"):
        make_config(configuration(tmp_path, pictures="x"))


def test_every_key_and_command_is_on_the_page() -> None:
    text = (Path(__file__).parents[2] / "docs/content.md").read_text()
    for key in ContentSection.model_fields:
        assert f"{key} = " in text, key
    for command in content_app.registered_commands:
        assert f"recsys-ae content {command.name}" in text, command.name
