"""`latent map` and `latent denoise` on a published version: files, types of ids, unknown items, refusals."""

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.commands.latent import latent_app
from pipelines.latent.map import favourites
from pipelines.latent.picture import map_picture
from recsys_ae import Artifact, Histories, IdMap, Preprocessing, Registry
from recsys_ae.ids import Id
from recsys_ae.items import ItemMetadata
from recsys_ae.latent.codes import neighbours, user_codes
from recsys_ae.latent.denoise import support
from recsys_ae.registry import StoredUsers
from tests.pipelines.conftest import Run
from tests.worlds import N_ITEMS, N_TASTES, fitted, tastes

ROOT = Path(__file__).parents[2]
HOSTILE = "<script>alert(1)</script>&\"'"
USERS = tuple(f"u{row}" for row in range(150))
ITEMS = tuple(range(100, 100 + N_ITEMS))


def published(folder: Path, name: str, items: tuple[Id, ...] = ITEMS, **changes: Any) -> Artifact:
    """A version in folder/registry, whose users are strings and whose items are integers with their taste as category."""
    train = tastes(len(USERS), weighted=False)
    model = fitted(name, train, **changes)
    categories = tuple((HOSTILE if column % N_TASTES == 0 else f"taste {column % N_TASTES}",) for column in range(N_ITEMS))
    popularity = tuple(np.bincount(train.items, minlength=N_ITEMS).tolist())
    metadata = ItemMetadata((None,) * N_ITEMS, categories, popularity, (None,) * N_ITEMS)
    artifact = Artifact(name, model, IdMap(items), metadata, Preprocessing(min_weight=4.0))
    registry = Registry(folder / "registry")
    registry.promote(registry.publish(artifact, name, StoredUsers(IdMap(USERS), train), {}))
    return artifact


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a version of mult_dae."""
    folder = tmp_path_factory.mktemp("latent")
    published(folder, "mult_dae", epochs=15, learning_rate=0.02)
    return folder


@pytest.fixture
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(home)
    return home


def log_of(path: Path, rows: list[tuple[Id, Id, float]]) -> None:
    users, items, weights = zip(*rows, strict=True)
    pq.write_table(pa.table({"user_id": users, "item_id": items, "weight": weights}), path)


def test_a_map_has_every_item_and_says_how_far_to_trust_it(at_home: Path, command: Run) -> None:
    files = ("--out", "map.parquet", "--picture", "map.svg", "--codes", "codes.parquet", "--neighbours", "near.parquet")
    status, out, _ = command("latent", "map", "--registry", "registry", *files, "-k", "3", "--json")
    facts = json.loads(out)["items"]
    assert status == 0 and facts["drawn"] == facts["codes"] == N_ITEMS and facts["width"] == 8
    assert facts["method"] == "pca"  # too few points for t-SNE
    assert 0.5 < facts["trustworthiness@10"] <= 1
    assert facts["categories"]["purity@10"] > 2 * facts["categories"]["chance"]
    table = pq.read_table("map.parquet")
    assert table.schema.names == ["kind", "id", "x", "y"] and table.schema.field("id").type == pa.int64()
    assert sorted(table["id"].to_pylist()) == list(ITEMS) and set(table["kind"].to_pylist()) == {"item"}
    codes = pq.read_table("codes.parquet")
    assert codes.schema.field("code").type == pa.list_(pa.float32())
    model = Registry(at_home / "registry").load()[0].model
    expected = model.head()[0].numpy()  # type: ignore[attr-defined]
    np.testing.assert_array_equal(np.array(codes["code"].to_pylist(), np.float32), expected)
    near = pq.read_table("near.parquet").to_pandas()
    assert near.columns.tolist() == ["kind", "id", "rank", "neighbour", "cosine"] and len(near) == 3 * N_ITEMS
    first = near[near["rank"] == 1].set_index("id")["neighbour"]
    assert first[100] == 100 + neighbours(expected, 1)[0][0, 0]
    same = (near["id"] - near["neighbour"]) % N_TASTES == 0
    assert same.mean() > 0.8


def test_the_picture_is_svg_without_script(at_home: Path, command: Run) -> None:
    for kind, points in (("items", N_ITEMS), ("both", N_ITEMS + len(USERS))):
        command("latent", "map", "--registry", "registry", "--kind", kind, "--out", "map.parquet", "--picture", f"{kind}.svg")
        text = (at_home / f"{kind}.svg").read_text("utf-8")
        root = ElementTree.fromstring(text)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert not [each for each in root.iter() if each.tag.endswith(("script", "foreignObject", "image"))]
        assert not re.search(r"\son\w+=|javascript:", text)
        paths = [
            path for path in root.iter("{http://www.w3.org/2000/svg}path") if "stroke-linecap: round" in path.get("style", "")
        ]
        assert sum(path.get("d", "").count("M") for path in paths) == points
        assert "taste 1" in "".join(root.itertext())


def test_users_of_a_log_are_drawn_beside_items(at_home: Path, command: Run) -> None:
    rows = [(user, 100 + user % 2 + 3 * j, 5.0) for user in range(20) for j in range(4)]
    log_of(at_home / "log.parquet", [*rows, (20, 1, 5.0)])  # the last has nothing that the model knows
    options = ("--log", "log.parquet", "--kind", "both", "--method", "pca", "--most", "15", "--json")
    status, out, _ = command("latent", "map", "--registry", "registry", "--out", "map.parquet", *options)
    assert status == 0 and json.loads(out)["users"]["codes"] == 20 and json.loads(out)["users"]["drawn"] == 15
    table = pq.read_table("map.parquet")
    assert table.schema.field("id").type == pa.int64()
    assert table["kind"].to_pylist() == ["user"] * 15 + ["item"] * 15
    popularity = Registry(at_home / "registry").load()[0].metadata.popularity
    least = min(popularity[id_ - 100] for id_ in table["id"].to_pylist()[15:])
    assert least >= sorted(popularity)[-15]
    command("latent", "map", "--registry", "registry", "--kind", "both", "--out", "mixed.parquet")
    mixed = pq.read_table("mixed.parquet")["id"].to_pylist()  # stored users are strings, items are not: one column holds text
    assert mixed[:2] == ["u0", "u1"] and mixed[-1] == str(ITEMS[-1])


def test_what_has_no_codes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Run) -> None:
    published(tmp_path, "popularity")
    monkeypatch.chdir(tmp_path)
    status, out, err = command("latent", "map", "--registry", "registry", "--out", "map.parquet")
    assert status == 2 and "is a popularity, which has no codes; expected an autoencoder" in err and not out
    log_of(tmp_path / "log.parquet", [("a", 7, 5.0)])
    published(tmp_path, "als")
    status, _, err = command(
        "latent", "map", "--registry", "registry", "--kind", "users", "--log", "log.parquet", "--out", "m.parquet"
    )
    assert status == 2 and "log.parquet has no user with items of the model" in err


def test_favourites_are_what_a_user_has_beyond_what_is_usual() -> None:
    metadata = ItemMetadata((None,) * 4, (("common",), ("common",), ("rare", "common"), ()), (1,) * 4, (None,) * 4)
    histories = Histories.from_rows([[0, 1], [0, 1], [1, 2], [3], []], 4)
    assert favourites(histories, metadata) == ["common", "common", "rare", "", ""]
    assert favourites(histories, ItemMetadata()) == [""] * 5


def test_points_without_categories_have_one_colour() -> None:
    text = map_picture([("items", np.random.default_rng(0).normal(size=(9, 2)), [""] * 9)])
    assert "Map of 9 items" in text and "all" in "".join(ElementTree.fromstring(text).itertext())


# --- denoise --------------------------------------------------------------------------------------------------------------

DENOISE = ("latent", "denoise", "--registry", "registry", "--log", "log.parquet", "--out", "support.parquet")


def foreign_log(folder: Path) -> None:
    """User 7 has eight items of one taste and one of another; low ratings, an unknown item and a repeat beside."""
    own = [100 + 3 * j for j in range(8)]
    rows: list[tuple[Id, Id, float]] = [(7, item, 5.0) for item in own] + [
        (7, 101, 5.0),
        (7, 999, 5.0),
        (7, 104, 1.0),
        (7, 100, 4.0),
    ]
    log_of(folder / "log.parquet", rows)


def test_a_foreign_click_is_found_and_removed(at_home: Path, command: Run) -> None:
    foreign_log(at_home)
    status, out, _ = command(*DENOISE, "--cleaned", "clean.parquet", "--remove", "0.11", "--json")
    facts = json.loads(out)
    assert status == 0 and facts["interactions"] == 9 and facts["unknown_items"] == 1 and facts["users"] == 1
    table = pq.read_table("support.parquet")
    assert table.schema.names == ["user_id", "item_id", "support"]
    assert [field.type for field in table.schema] == [pa.int64(), pa.int64(), pa.float32()]
    found = table.to_pandas()
    of_seven = found[found["user_id"] == 7].set_index("item_id")["support"]
    assert of_seven.idxmin() == 101 and len(of_seven) == 9
    before, after = pq.read_table("log.parquet"), pq.read_table("clean.parquet")
    assert after.schema.names == before.schema.names and facts["rows_kept"] == before.num_rows - 1
    rest = [row for row in before.to_pylist() if row["item_id"] != 101]
    assert after.to_pylist() == rest  # also what the model does not know, what was rated low, and repeats, in their order
    assert facts["removed"] == facts["rows_removed"] == 1


def test_a_threshold_removes_what_has_less_support(at_home: Path, command: Run) -> None:
    foreign_log(at_home)
    command(*DENOISE)
    supports = pq.read_table("support.parquet").to_pandas().set_index(["user_id", "item_id"])["support"]
    limit = float(supports.nsmallest(3).iloc[-1])
    status, out, _ = command(*DENOISE, "--cleaned", "clean.parquet", "--threshold", str(limit))
    assert status == 0 and "rows written to clean.parquet, 2 removed" in out
    left = {(row["user_id"], row["item_id"]) for row in pq.read_table("clean.parquet").to_pylist()}
    assert not left & set(supports[supports < limit].index)


def test_a_model_without_codes_denoises_and_string_ids_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Run
) -> None:
    artifact = published(tmp_path, "ease", tuple(f"i{column:02}" for column in range(N_ITEMS)), regularisation=10.0)
    monkeypatch.chdir(tmp_path)
    log_of(tmp_path / "log.parquet", [("a", f"i{3 * j:02}", 5.0) for j in range(6)] + [("a", "i01", 5.0)])
    assert command(*DENOISE)[0] == 0
    table = pq.read_table("support.parquet")
    assert table.schema.field("user_id").type == table.schema.field("item_id").type == pa.string()
    found = table.to_pandas().set_index("item_id")["support"]
    history = Histories.from_rows([artifact.items.positions(found.index).tolist()], N_ITEMS)
    assert found.idxmin() == "i01"
    np.testing.assert_allclose(found.to_numpy(), support(artifact.model, history), atol=1e-6)
    assert user_codes(artifact.model, history) is None


def test_wrong_options_and_logs_are_one_line(at_home: Path, command: Run) -> None:
    foreign_log(at_home)
    for options, said in (
        (("--remove", "0.1"), "expected --cleaned FILE together with --remove SHARE or --threshold SUPPORT"),
        (("--cleaned", "c.parquet"), "expected --cleaned FILE together with"),
        (("--cleaned", "c.parquet", "--remove", "0.1", "--threshold", "0.1"), "expected one of them"),
        (("--cleaned", "c.parquet", "--remove", "1.5"), "--remove 1.5; expected 0 to 1"),
    ):
        status, out, err = command(*DENOISE, *options)
        assert status == 2 and said in err and not out, options
    pq.write_table(pa.table({"user_id": pa.array([], pa.int64()), "item_id": pa.array([], pa.int64())}), "log.parquet")
    status, _, err = command(*DENOISE)
    assert status == 2 and "log.parquet" in err and "Traceback" not in err
    log_of(at_home / "log.parquet", [(1, 7, 5.0)])  # nothing that the model knows
    status, out, _ = command(*DENOISE, "--json")
    assert status == 0 and json.loads(out)["interactions"] == 0
    assert pq.read_table("support.parquet").num_rows == 0


def test_every_latent_command_has_a_page() -> None:
    text = "".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))
    for command in latent_app.registered_commands:
        assert command.callback is not None and command.callback.__doc__
        name = command.name or command.callback.__name__
        assert f"latent {name}" in text, name
