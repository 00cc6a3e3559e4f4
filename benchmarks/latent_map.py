"""How far codes of users and items, and maps of them, can be trusted: mult_vae, mult_dae, ALS and PCA of the same width.

    OMP_NUM_THREADS=1 python -m benchmarks.latent_map [--set NAME ...] [--seeds SEED ...] [--width Z] [--without-maps]
        [--picture FILE.svg]

Every history is cut at random into halves: models are fitted on the first ones, of which also the codes are; a user's genres
are those of which the second half has more than is usual. Neighbours are the nearest ten by cosine, on maps by distance.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from benchmarks.record import write
from pipelines.latent.map import NEAR, category_labels
from pipelines.latent.picture import map_picture
from recsys_ae import datasets
from recsys_ae.dataset import Dataset
from recsys_ae.histories import Histories, Holdout
from recsys_ae.latent.codes import Codes, directions, item_codes, neighbours, user_codes
from recsys_ae.latent.map import placed, purity, trustworthiness
from recsys_ae.log import Cleaning
from recsys_ae.models import MODELS
from recsys_ae.preprocessing import Preprocessing
from recsys_ae.training import RunContext

SETS = ("movielens-small", "synthetic")
MAPPED = ("pca", "als", "mult_vae")
"""Entries whose maps are judged too."""
LEAST_USER, LEAST_ITEM = 5, 8
"""Interactions."""


def data_of(name: str) -> Dataset:
    """Ratings of 4 and more, with genres."""
    raw = datasets.load(name)
    log = raw.clean(Cleaning(Preprocessing(min_weight=4.0), LEAST_USER, LEAST_ITEM))
    return Dataset.from_log(log, Preprocessing(min_weight=4.0), raw.titles, raw.categories)


def halves(histories: Histories, rng: np.random.Generator) -> tuple[Histories, Histories]:
    """Every history cut at random."""
    order = np.lexsort((rng.random(histories.n_interactions), histories.rows))
    first = np.empty(histories.n_interactions, np.bool_)
    first[order] = (np.arange(len(order)) - histories.indptr[histories.rows]) % 2 == 0
    return histories.select(first), histories.select(~first)


def genres(histories: Histories, labels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The genres of which each user has more than is usual, (U, C)."""
    counts = (histories.matrix > 0).astype(np.float64) @ labels
    return counts > counts.sum(1, keepdims=True) * (counts.sum(0) / counts.sum())


def pca(histories: Histories, width: int) -> tuple[Codes, Codes]:
    """Codes of users and items by the first principal components of the matrix."""
    x = (histories.matrix > 0).toarray().astype(np.float64)
    u, s, vt = np.linalg.svd(x - x.mean(0), full_matrices=False)
    return (u * s)[:, :width].astype(np.float32), (vt.T * s)[:, :width].astype(np.float32)


def codes_of(name: str, data: Dataset, width: int, seed: int) -> dict[str, tuple[Codes, Codes]]:
    """Codes of all users and items, by the name of the entry."""
    if name == "pca":
        return {"pca": pca(data.histories, width)}
    rng, n_items = np.random.default_rng(seed), data.histories.n_items
    rows = rng.permutation(len(data.users))
    stop = np.sort(rows[: len(rows) // 10])
    validation = Holdout(data.users.take(stop), *halves(data.histories.take(stop), rng))
    model = MODELS[name](MODELS[name].Config(**{"factors" if name == "als" else "latent": width}), n_items)
    model.fit(data.histories.take(np.sort(rows[len(stop) :])), validation=validation, run=RunContext(seed=seed))
    users, items = user_codes(model, data.histories), item_codes(model)
    assert users is not None and items is not None
    alone = user_codes(model, Histories.from_rows([[column] for column in range(n_items)], n_items))
    assert alone is not None
    found = {name: (users, items)}
    return found if name == "als" else found | {f"{name}, items as histories of one": (users, alone)}


def judged(codes: Codes, raw: Codes, labels: NDArray[np.bool_], maps: bool, seed: int) -> Iterator[tuple[str, float]]:
    """The measures of one set of codes."""
    yield "purity", purity(neighbours(codes, NEAR)[0], labels)[0]
    yield "trustworthiness to the matrix", trustworthiness(raw, directions(codes), NEAR)
    for method in ("pca", "tsne") if maps else ():
        places = placed(codes, method, seed)[0]  # type: ignore[arg-type]
        near = cKDTree(places).query(places, NEAR + 1)[1]
        others = np.array([[j for j in row if j != i][:NEAR] for i, row in enumerate(near)])
        yield f"{method} map: purity", purity(others, labels)[0]
        yield f"{method} map: trustworthiness to the codes", trustworthiness(codes, places, NEAR)


def measure(name: str, width: int, seed: int, maps: bool, picture: Path | None) -> dict[str, Any]:
    """One set and seed: kind -> entry -> measure -> value."""
    whole = data_of(name)
    first, second = halves(whole.histories, np.random.default_rng(seed))
    data = Dataset(whole.users, whole.items, first, whole.metadata)
    labels = category_labels(whole.metadata, len(whole.items))[1]
    of = {"items": labels, "users": genres(second, labels)}
    x = (first.matrix > 0).toarray().astype(np.float32)
    raw = {"users": x, "items": np.ascontiguousarray(x.T)}
    found: dict[str, Any] = {
        kind: {
            "points": len(raw[kind]),
            "chance": purity(np.empty((len(raw[kind]), 0), np.int32), of[kind])[1],
            "entries": {"matrix itself": {"purity": purity(neighbours(raw[kind], NEAR)[0], of[kind])[0]}},
        }
        for kind in raw
    }
    for model in ("pca", "als", "mult_vae", "mult_dae"):
        for entry, (users, items) in codes_of(model, data, width, seed).items():
            if picture is not None and entry == "mult_vae":
                drawn = map_picture(
                    [("items", placed(items, "tsne", seed)[0], [(own or ("",))[0] for own in whole.metadata.categories])]
                )
                picture.write_text(drawn, "utf-8")
            for kind, codes in (("users", users), ("items", items)):
                if kind == "users" and entry not in (model,):
                    continue  # the same codes
                values = dict(judged(codes, raw[kind], of[kind], maps and kind == "items" and entry in MAPPED, seed))
                found[kind]["entries"][entry] = {measure: round(value, 4) for measure, value in values.items()}
                print(name, seed, kind, entry, found[kind]["entries"][entry], flush=True)
    return found


def main() -> None:
    """Measure, print, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--without-maps", action="store_true")
    parser.add_argument("--picture", type=Path, help="SVG file for the map of mult_vae's items")
    asked = parser.parse_args()
    sets: dict[str, dict[int, Any]] = {name: {} for name in asked.set}
    for name in asked.set:
        for seed in asked.seeds:
            sets[name][seed] = measure(name, asked.width, seed, not asked.without_maps, asked.picture)
            facts = {"width": asked.width, "neighbours": NEAR, "least_item": LEAST_ITEM, "sets": sets}
            write("latent_map", facts, "-" + "-".join(asked.set))


if __name__ == "__main__":
    main()
