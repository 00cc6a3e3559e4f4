"""A small catalogue with titles as people and others write them."""

from dataclasses import replace
from pathlib import Path

from recsys_ae.ids import IdMap
from recsys_ae.preprocessing import Preprocessing
from recsys_ae.registry import Registry
from tests.service.conftest import N_ITEMS, N_USERS, World, build

HOSTILE = "<script>alert(1)</script>"
NAMES = [
    "Star Wars: Episode IV - A New Hope (1977)", "Star Wars: Episode V - The Empire Strikes Back (1980)", "Amélie (2001)",
    "Matrix, The (1999)", HOSTILE, "x" * 150, "Ein sehr langer Titel, der auf einem Telefon nicht in eine Zeile passt (2011)",
]  # fmt: skip
TITLES = {f"f{n}": title for n, title in enumerate(NAMES, 1)} | {f"f{n}": f"Film {n} (20{n})" for n in range(8, N_ITEMS)}


def film_world(path: Path) -> World:
    """The planted histories over films; `f0` has no title."""
    items = IdMap(tuple(f"f{n}" for n in range(N_ITEMS)))
    plain = build(path / "plain", IdMap(tuple(f"user {n}" for n in range(N_USERS))), items, Preprocessing())
    metadata = replace(plain.artifact.metadata, titles=tuple(TITLES.get(str(id_)) for id_ in items.ids))
    artifact = replace(plain.artifact, metadata=metadata)
    registry = Registry(path / "films")
    version = registry.publish(artifact, "ease", plain.stored, {"ndcg@10": {"mean": 0.5}})
    registry.promote(version)
    return World(path / "films", version, artifact, plain.stored)
