import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys_ae import Artifact, IdMap, Preprocessing
from recsys_ae.errors import ArtifactError
from recsys_ae.items import ItemMetadata
from recsys_ae.sealed import read_sealed, write_sealed
from tests.worlds import N_ITEMS, fitted, tastes

FILES = ["items.json", "manifest.json", "model.safetensors"]
IDS = IdMap(tuple(f"é {i}" for i in range(N_ITEMS)))


def artifact(name: str = "mult_vae", ids: IdMap = IDS) -> Artifact:
    n = N_ITEMS
    metadata = ItemMetadata(("Titel, ü",) + (None,) * (n - 1), (("a", "b"),) * n, tuple(range(n)), (None,) * (n - 1) + (5,))
    rule = Preprocessing(min_weight=4, half_life_days=90, reference_time=17)
    return Artifact(name, fitted(name, tastes()), ids, metadata, rule, {"seed": 3, "metrics": {"ndcg@100": 0.25}})


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifact") / "saved"
    artifact().save(folder)
    return folder


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    for file in saved.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


@pytest.mark.parametrize("ids", [IDS, IdMap(tuple(range(-(2**63), -(2**63) + N_ITEMS)))], ids=["strings", "integers"])
def test_everything_comes_back(ids: IdMap, tmp_path: Path) -> None:
    before = artifact(ids=ids)
    before.save(tmp_path / "one")
    after = Artifact.load(tmp_path / "one")
    assert (after.name, after.items, after.metadata, after.preprocessing) == (
        before.name, before.items, before.metadata, before.preprocessing,
    )  # fmt: skip
    assert after.manifest.items() >= before.manifest.items()
    assert after.model.config == before.model.config
    for name, tensor in before.model.tensors().items():
        assert torch.equal(after.model.tensors()[name], tensor)


@pytest.mark.parametrize("name", ["mult_vae", "item_knn", "ensemble"])
def test_a_large_model_is_several_files_that_are_one_model(name: str, tmp_path: Path) -> None:
    before = artifact(name)
    before.save(tmp_path / "one", shard_bytes=2**40)
    before.save(tmp_path / "several", shard_bytes=sum(t.nbytes for t in before.model.tensors().values()) // 3)
    files = sorted(path.name for path in (tmp_path / "several").glob("model*.safetensors"))
    assert len(files) >= 3 and files[-1] == "model.safetensors"
    whole, joined = Artifact.load(tmp_path / "one"), Artifact.load(tmp_path / "several")
    for key, tensor in whole.model.tensors().items():
        assert torch.equal(joined.model.tensors()[key], tensor)
    sizes = [path.stat().st_size for path in (tmp_path / "several").glob("model*.safetensors")]
    assert max(sizes) < (tmp_path / "one/model.safetensors").stat().st_size
    (tmp_path / "several/model-2.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"model-2\.safetensors: is missing"):
        Artifact.load(tmp_path / "several")


def test_the_same_model_is_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    artifact().save(tmp_path / "again")
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (saved / name).read_bytes()


def test_a_folder_holds_three_files_and_no_pickle(saved: Path) -> None:
    assert sorted(file.name for file in saved.iterdir()) == FILES
    for file in saved.iterdir():
        head = file.read_bytes()[:4]
        assert not head.startswith((b"\x80", b"PK"))  # a pickle; a zip, in which torch.save hides one


def test_an_existing_folder_is_not_overwritten(saved: Path) -> None:
    with pytest.raises(FileExistsError):
        artifact().save(saved)


def flips(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Copies of data with one bit flipped, at random places and at the ends."""
    places = np.random.default_rng(seed).integers(0, 8 * len(data), count).tolist()
    for place in [0, 7, 8 * len(data) - 1, *places]:
        wrong = bytearray(data)
        wrong[place // 8] ^= 1 << place % 8
        yield bytes(wrong)


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_is_an_error_that_names_the_file(name: str, copy: Path) -> None:
    data = (copy / name).read_bytes()
    for wrong in flips(data, 150, seed=len(name)):
        (copy / name).write_bytes(wrong)
        with pytest.raises(ArtifactError, match=f"{copy}"):
            Artifact.load(copy)
    (copy / name).write_bytes(data)
    assert Artifact.load(copy).name == "mult_vae"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", ["missing", "short", "long", "empty"])
def test_a_missing_short_long_or_empty_file(name: str, change: str, copy: Path) -> None:
    data = (copy / name).read_bytes()
    if change == "missing":
        (copy / name).unlink()
    else:
        (copy / name).write_bytes({"short": data[:-10], "long": data + b"x", "empty": b""}[change])
    with pytest.raises(ArtifactError, match=name):
        Artifact.load(copy)


def test_files_of_two_artefacts_do_not_mix(copy: Path, tmp_path: Path) -> None:
    artifact("mult_dae").save(tmp_path / "other")
    (copy / "model.safetensors").write_bytes((tmp_path / "other" / "model.safetensors").read_bytes())
    with pytest.raises(ArtifactError, match=r"model\.safetensors: is damaged"):
        Artifact.load(copy)


def test_an_unknown_format_or_model_is_named(copy: Path) -> None:
    manifest = read_sealed(copy / "manifest.json")
    write_sealed(copy / "manifest.json", manifest | {"format": 99})
    with pytest.raises(ArtifactError, match="format 99; this version reads 1"):
        Artifact.load(copy)
    write_sealed(copy / "manifest.json", manifest | {"name": "oracle"})
    with pytest.raises(ArtifactError, match="model 'oracle' is unknown; known: popularity"):
        Artifact.load(copy)
    write_sealed(copy / "manifest.json", manifest | {"config": {"no_such_key": 1}})
    with pytest.raises(ArtifactError, match="no_such_key"):
        Artifact.load(copy)


def test_wrong_item_axis_is_an_error_with_both_numbers() -> None:
    one = artifact()
    with pytest.raises(ArtifactError, match=f"model of {N_ITEMS} items with a map of 3 item ids"):
        Artifact("mult_vae", one.model, IdMap((1, 2, 3)), ItemMetadata(), Preprocessing())
    tensors = one.model.tensors()
    one.model._tensors = tensors | {"encoder.0.weight": tensors["encoder.0.weight"][:-1]}
    with pytest.raises(ArtifactError, match=rf"encoder\.0\.weight has {N_ITEMS - 1} items; expected {N_ITEMS}"):
        Artifact("mult_vae", one.model, IDS, ItemMetadata(), Preprocessing())


def test_name_and_model_belong_together() -> None:
    with pytest.raises(ArtifactError, match="'ease' is not a MultVAE"):
        Artifact("ease", artifact().model, IDS, ItemMetadata(), Preprocessing())


def test_a_sealed_file_is_plain_json_with_its_own_digest(tmp_path: Path) -> None:
    write_sealed(tmp_path / "a.json", {"x": [1, "é", None]})
    assert json.loads((tmp_path / "a.json").read_text("utf-8"))["digest"].startswith("sha256:")
    assert read_sealed(tmp_path / "a.json") == {"x": [1, "é", None]}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]
    with pytest.raises(ValueError, match="JSON"):
        write_sealed(tmp_path / "a.json", {"x": float("nan")})
    assert read_sealed(tmp_path / "a.json") == {"x": [1, "é", None]}
