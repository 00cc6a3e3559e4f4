"""Items that nobody has met: recall under `item_hold_out`, by features, beside random, popularity and category baselines.

    OMP_NUM_THREADS=1 python -m benchmarks.content films|images [--seeds SEED ...] [--models NAME ...] [--picture FILE.svg]

films: movielens-small, ratings of 4 and more; titles' words, genres, both. images: a generated world whose items are pictured
(benchmarks/pictured_items.py); codes of the image autoencoder, principal components of the pixels as many, the department that
a shop would have (two tastes each), and the planted tastes themselves, the most that anything seen could tell. A tenth of the
items is withheld for the test and alone ranked; another tenth was for trying things out. Baselines: random; popularity of the
items' category among the warm, the same for all; the history's mean features against the item's (cosine).
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.pictured_items import pictures
from benchmarks.record import paired, write
from recsys_ae import datasets
from recsys_ae.dataset import Dataset
from recsys_ae.datasets.generator import GeneratorConfig, generate
from recsys_ae.evaluation import Evaluation, evaluate, judge
from recsys_ae.histories import Holdout
from recsys_ae.latent.content import Placement
from recsys_ae.latent.features import ItemFeatures, bag_of_words, beside, words_of
from recsys_ae.latent.images import ImageConfig, Pixels, fit_images
from recsys_ae.log import Cleaning, InteractionLog
from recsys_ae.models import MODELS
from recsys_ae.preprocessing import Preprocessing
from recsys_ae.ranking import rank_scores
from recsys_ae.split import Split, item_hold_out
from recsys_ae.training import RunContext

KS = (20,)
METRICS = ("recall@20", "ndcg@20")
WORLD = GeneratorConfig(n_users=800, n_items=600, mean_length=25, second_taste=0.3, taste_strength=0.8, noise=0.05)
CODES = 32
EPOCHS = 10
SETTINGS: dict[str, dict[str, Any]] = {"mult_vae": {"latent": 64}, "als": {"factors": 64}}
"""Narrow models: what is measured is the map, and a narrow row is trained in a minute."""


@dataclass(frozen=True, eq=False)
class Content:
    """A data set with several kinds of features of its items; `category` is what the category baselines go by."""

    data: Dataset
    features: dict[str, ItemFeatures]
    category: str
    facts: dict[str, Any]


def films(_: int) -> Content:
    """movielens-small, users of 5 films and more."""
    raw, rules = datasets.load("movielens-small"), Preprocessing(min_weight=4.0)
    log = InteractionLog.from_table(raw.events, cleaning=Cleaning(rules, 5))
    data = Dataset.from_log(log, rules, raw.titles, raw.categories)
    known = data.metadata
    genres = bag_of_words(dict(zip(data.items.ids, known.categories, strict=True)))
    titles = bag_of_words({i: words_of(t or "") for i, t in zip(data.items.ids, known.titles, strict=True)})
    return Content(data, {"genres": genres, "titles": titles, "genres and titles": beside([genres, titles])}, "genres", {})


def pictured(seed: int) -> Content:
    """A generated world; items as in the log are numbered from 1 by their place among the tastes."""
    world = generate(WORLD.model_copy(update={"seed": seed}))
    data = Dataset.from_log(InteractionLog.from_table(world.raw.events), Preprocessing())
    tastes = world.truth.latent.item_tastes[np.array(data.items.ids, np.int64) - 1]
    pixels = pictures(tastes, WORLD.n_tastes, seed)
    begin = time.process_time()
    model = fit_images(pixels, ImageConfig(steps=300), seed)
    facts = {"image_autoencoder": {"cpu_seconds": round(time.process_time() - begin, 1), "mse": round(model.losses[-1], 5)}}
    flat = pixels.reshape(len(pixels), -1) / 255.0
    flat -= flat.mean(0)
    components = flat @ np.linalg.svd(flat, full_matrices=False)[2][:CODES].T
    planted = np.eye(WORLD.n_tastes)[tastes[:, 0]] + np.where(tastes[:, 1:] >= 0, np.eye(WORLD.n_tastes)[tastes[:, 1]], 0)
    named = {
        "image codes": model.encode(pixels),
        "principal components of the pixels": components,
        "department": np.eye(WORLD.n_tastes // 2)[tastes[:, 0] // 2],
        "planted tastes": planted,
    }
    features = {name: ItemFeatures(data.items, values.astype(np.float32)) for name, values in named.items()}
    return Content(data, features, "department", facts)


SETS: dict[str, Callable[[int], Content]] = {"films": films, "images": pictured}


def baselines(content: Content, split: Split, seed: int) -> dict[str, Evaluation]:
    """Lists that need no map."""
    test, train = split.test, split.train.histories
    popularity = np.bincount(train.items, minlength=len(content.data.items)).astype(np.float64)
    values, known = content.features[content.category].over(content.data.items)
    met = known & (popularity > 0)
    alike = values @ values[met].T
    by_category = (alike @ popularity[met]) / np.maximum(alike.sum(1), 1e-12)
    everyone = np.ones((len(test), 1))
    scores = {
        "random": np.random.default_rng(seed).random((len(test), len(popularity))),
        "popularity": everyone * popularity,
        "popularity of the category": everyone * by_category,
    }
    for name, features in content.features.items():
        rows, _ = features.over(content.data.items)
        rows = rows - rows[popularity > 0].mean(0)
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        scores[f"cosine of {name}"] = (test.fold_in.matrix @ rows) @ rows.T
    return {name: ranked(values, test) for name, values in scores.items()}


def ranked(scores: np.ndarray, test: Holdout) -> Evaluation:
    """Judge scores (U, I)."""
    return judge(rank_scores(torch.from_numpy(scores).float(), test.fold_in, KS[0], allow=test.allow), test, KS)


def placed(content: Content, split: Split, name: str, seed: int) -> tuple[dict[str, Evaluation], dict[str, Any]]:
    """A model whose cold items are placed by each kind of features."""
    train = split.train.histories
    model = MODELS[name](MODELS[name].Config(**SETTINGS.get(name, {})), len(content.data.items))
    begin = time.process_time()
    # No early stopping: its users' targets would be cold items, of which training learns nothing.
    model.fit(train, validation=None, run=RunContext(seed=seed, device="cpu", precision="float32", stop_after=EPOCHS))
    facts: dict[str, Any] = {"fit_cpu_seconds": round(time.process_time() - begin, 1)}
    popularity = np.bincount(train.items, minlength=len(content.data.items))
    found = {f"{name}, not placed": evaluate(model, split.test, KS)}
    for kind, features in content.features.items():
        values, known = features.over(content.data.items)
        begin = time.process_time()
        made = Placement(values, np.flatnonzero(known & (popularity == 0)), np.where(known, np.sqrt(popularity), 0))(model)
        found[f"{name} by {kind}"] = evaluate(made.model, split.test, KS)
        facts[kind] = {
            "map_cpu_seconds": round(time.process_time() - begin, 1),
            "fits": {part: [fit.regularisation, round(fit.explained, 3)] for part, fit in made.fits.items()},
        }
    return found, facts


def measured(name: str, seed: int, models: list[str]) -> dict[str, Any]:
    """All lists on one split."""
    content = SETS[name](seed)
    split = item_hold_out(content.data, seed=seed)
    found, facts = baselines(content, split, seed), dict(content.facts)
    for model in models:
        lists, facts[model] = placed(content, split, model, seed)
        found |= lists
    best = max((n for n in found if " by " not in n), key=lambda n: found[n].scores[METRICS[0]].mean)
    entry: dict[str, Any] = {
        "seed": seed,
        "users": len(split.test),
        "cold_items": split.test.n_candidates,
        "best_baseline": best,
        "facts": facts,
        "lists": {},
    }
    for each, evaluation in found.items():
        scores = {m: round(evaluation.scores[m].mean, 4) for m in METRICS}
        entry["lists"][each] = scores | {"less best baseline": paired(evaluation, found[best], METRICS[0])}
        print(f"{scores[METRICS[0]]:.4f} {scores[METRICS[1]]:.4f} {each}", flush=True)
    return entry


def gallery(path: Path) -> None:
    """Images and what their codes hold of them."""
    import matplotlib.pyplot as plt

    world = generate(WORLD)
    tastes = world.truth.latent.item_tastes
    pixels: Pixels = pictures(tastes, WORLD.n_tastes, 0)
    shown = np.array([np.flatnonzero(tastes[:, 0] == taste)[place] for place in range(2) for taste in range(WORLD.n_tastes)])
    figure, axes = plt.subplots(2, len(shown), figsize=(len(shown) * 0.62, 1.5))
    for row, images in zip(
        axes, (pixels[shown], fit_images(pixels, ImageConfig(steps=300)).reconstruct(pixels[shown])), strict=True
    ):
        for box, image in zip(row, images, strict=True):
            box.imshow(image)
            box.axis("off")
    figure.subplots_adjust(0, 0, 1, 1, 0.05, 0.05)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run it, print it, write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--models", nargs="+", default=["als", "mult_vae"])
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.picture:
        gallery(given.picture)
    runs: list[dict[str, Any]] = []
    for seed in given.seeds:
        runs.append(measured(given.set, seed, given.models))
        write("content", {"set": given.set, "settings": SETTINGS, "epochs": EPOCHS, "runs": runs}, f"-{given.set}")


if __name__ == "__main__":
    main()
