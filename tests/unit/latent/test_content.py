"""Cold items of planted tastes: placed by their features they come up for whoever has that taste."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recsys_ae.artifact import Artifact
from recsys_ae.errors import DataError, ModelError
from recsys_ae.histories import Histories, Holdout
from recsys_ae.ids import IdMap
from recsys_ae.items import ItemMetadata
from recsys_ae.latent.content import STRENGTHS, Placement, Ridge, extend, placeable, widened
from recsys_ae.latent.features import ItemFeatures
from recsys_ae.models import MODELS, Recommender
from recsys_ae.models.neighbours import ItemNeighbours
from recsys_ae.preprocessing import Preprocessing
from recsys_ae.ranking import rank_top_k
from tests.worlds import N_ITEMS, N_TASTES, cpu, fitted, tastes

pytestmark = pytest.mark.slow

COLD = np.arange(N_ITEMS - 6, N_ITEMS)  # two of each taste
WARM = np.arange(N_ITEMS - 6)
TRAIN = tastes(150, weighted=False)
KNOWN = TRAIN.select(TRAIN.items < len(WARM))
SHORT = KNOWN.remap(np.where(np.arange(N_ITEMS) < len(WARM), np.arange(N_ITEMS), -1), len(WARM))
# conv_vae learns what follows what; of this world, whose histories have no order, it has not learnt the tastes in 60 epochs.
NAMES = [name for name in MODELS if name not in ("popularity", "user_knn", "conv_vae")]


def features(noise: float = 0.1) -> np.ndarray:
    """What taste an item is of, blurred, among numbers that say nothing, (I, 5)."""
    taste = np.eye(N_TASTES)[np.arange(N_ITEMS) % N_TASTES]
    rng = np.random.default_rng(0)
    return np.concatenate([taste + noise * rng.normal(size=taste.shape), rng.normal(size=(N_ITEMS, 2))], 1)


def known_weights() -> np.ndarray:
    return np.sqrt(np.bincount(KNOWN.items, minlength=N_ITEMS))


def of_taste(taste: int) -> list[int]:
    return [item for item in WARM.tolist() if item % N_TASTES == taste][:4]


QUICK = {"learning_rate": 1e-2, "batch_size": 25}
CHANGES: dict[str, dict[str, Any]] = {
    "als": {"regularisation": 1.0},
    "bpr": {"iterations": 200, "learning_rate": 0.05},
    "ease": {"regularisation": 5.0},
    "ensemble": {"members": ({"name": "mult_dae", "latent": 8, "epochs": 12, **QUICK}, {"name": "rp3beta"})},
    "rec_vae": {"hidden": (16,), "epochs": 6},
    "h_vamp": {"hidden": (16,), "epochs": 40},
    "vasp": {"hidden": (16,)},
}
"""What lets a small model know the tastes soon."""


@cache
def model_of(name: str, histories: Histories) -> Recommender:
    """Fitted once for all tests; none changes it."""
    changes = {"epochs": 12, **QUICK} | CHANGES.get(name, {})
    return fitted(name, histories, **{key: value for key, value in changes.items() if key in MODELS[name].Config.model_fields})


@pytest.mark.parametrize("name", NAMES)
def test_a_cold_item_is_found_by_its_taste(name: str) -> None:
    model = model_of(name, KNOWN)
    placed = Placement(features(), COLD, known_weights())(model).model
    allow = np.isin(np.arange(N_ITEMS), COLD)
    found = rank_top_k(placed, Histories.from_rows([of_taste(t) for t in range(N_TASTES)], N_ITEMS), 2, allow=allow)
    assert [sorted(int(i) % N_TASTES for i in row) for row in found.items] == [[t, t] for t in range(N_TASTES)]


@pytest.mark.parametrize("name", ["mult_dae", "mult_vae", "cdae", "als", "ease", "edlae"])
def test_a_history_of_a_cold_item_alone_says_what_its_taste_is(name: str) -> None:
    placed = Placement(features(), COLD, known_weights())(model_of(name, KNOWN)).model
    found = rank_top_k(placed, Histories.from_rows([[int(c)] for c in COLD], N_ITEMS), 3)
    same = [int(i) % N_TASTES == c % N_TASTES for c, row in zip(COLD, found.items, strict=True) for i in row]
    assert np.mean(same) > 0.8


def test_what_warm_items_score_is_left_as_it_was() -> None:
    model = model_of("mult_vae", KNOWN)
    placed = Placement(features(), COLD, known_weights())(model).model
    asked = tastes(9, seed=3).select(tastes(9, seed=3).items < len(WARM))
    assert torch.equal(placed.score(asked)[:, WARM], model.score(asked)[:, WARM])


def test_a_neighbour_models_cold_item_has_neighbours_but_is_none() -> None:
    model = model_of("item_knn", KNOWN)
    placed = Placement(features(), COLD, known_weights())(model).model
    assert isinstance(placed, ItemNeighbours)
    cold = Histories.from_rows([COLD.tolist(), []], N_ITEMS)
    alone, nothing = placed.score(cold)
    assert torch.equal(alone, nothing)


def test_features_that_say_nothing_are_not_believed() -> None:
    model = model_of("mult_dae", KNOWN)
    noise = np.random.default_rng(1).normal(size=(N_ITEMS, 5))
    said, unsaid = (Placement(values, COLD, known_weights())(model).fits["encoder.0.weight"] for values in (features(), noise))
    assert said.explained > 0.5 > 0.1 > unsaid.explained and unsaid.regularisation >= 1 > said.regularisation


def test_the_error_that_a_regularisation_is_chosen_by_is_that_of_items_left_out_one_by_one() -> None:
    rng = np.random.default_rng(0)
    values, rows, weights = rng.normal(size=(12, 4)), rng.normal(size=(12, 3)), rng.uniform(0.5, 2, 12)
    rows += values @ rng.normal(size=(4, 3))
    found = Ridge(values, weights).map(rows).fit
    shares = weights / weights.sum()
    centred = values - shares @ values
    unit = np.trace((centred * shares[:, None]).T @ centred) / 4

    def left_out(item: int, regularisation: float) -> float:
        """The textbook's way: solve again without the item, an unpenalised column of ones beside the features."""
        rest = np.arange(12) != item
        x = np.c_[np.ones(11), values[rest]]
        penalty = regularisation * unit * np.diag([0.0, 1, 1, 1, 1])
        solved = np.linalg.solve((x * shares[rest, None]).T @ x + penalty, (x * shares[rest, None]).T @ rows[rest])
        return float(((rows[item] - np.r_[1, values[item]] @ solved) ** 2).sum())

    errors = [sum(shares[i] * left_out(i, s) for i in range(12)) for s in STRENGTHS]
    mean = sum(
        shares[i] * ((rows[i] - np.delete(shares, i) @ np.delete(rows, i, 0) / np.delete(shares, i).sum()) ** 2).sum()
        for i in range(12)
    )
    assert found.regularisation == STRENGTHS[int(np.argmin(errors))]
    assert found.explained == pytest.approx(1 - min(errors) / mean)


def artifact(name: str = "mult_dae") -> Artifact:
    """A model of the warm items alone, ids 100, 101, ..."""
    items = IdMap(tuple(range(100, 100 + len(WARM))))
    metadata = ItemMetadata.of(items, SHORT, {100: "the first"}, {})
    return Artifact(name, model_of(name, SHORT), items, metadata, Preprocessing(), {"seed": 0})


def all_features() -> ItemFeatures:
    return ItemFeatures(IdMap(tuple(range(100, 100 + N_ITEMS))), features().astype(np.float32))


@pytest.mark.parametrize("name", ["mult_dae", "mult_vae", "ease", "item_knn", "ensemble"])
def test_an_extended_artefact_is_saved_read_back_and_knows_the_cold(name: str, tmp_path: Path) -> None:
    found = extend(artifact(name), all_features(), {138: "new"}, {138: ("kind",)})
    assert found.cold == tuple(range(136, 142))
    found.artifact.save(tmp_path / "saved")
    read = Artifact.load(tmp_path / "saved")
    assert read.items.ids == tuple(range(100, 142)) and read.manifest["content"]["cold_items"] == 6
    assert read.metadata.popularity[36:] == (0,) * 6 and read.metadata.titles[38] == "new"
    assert read.metadata.categories[38] == ("kind",) and read.metadata.titles[0] == "the first"
    allow = np.isin(np.arange(N_ITEMS), COLD)
    rows = rank_top_k(read.model, Histories.from_rows([of_taste(1)], N_ITEMS), 2, allow=allow).items[0]
    assert [int(i) % N_TASTES for i in rows] == [1, 1]


def test_a_member_without_rows_of_items_is_no_hindrance() -> None:
    """user_knn knows nothing of cold items, and the ensemble finds them by its other member."""
    dae = {"name": "mult_dae", "latent": 8, "epochs": 12, **QUICK}
    mixed, blind, ignored = (
        fitted("ensemble", KNOWN, members=members, weights=weights)
        for members, weights in (
            (({"name": "user_knn"}, dae), (1.0, 1.0)),
            (({"name": "user_knn"},), (1.0,)),
            (({"name": "user_knn"}, dae), (1.0, 0.0)),
        )
    )
    placement, allow = Placement(features(), COLD, known_weights()), np.isin(np.arange(N_ITEMS), COLD)
    placed = placement(mixed)
    assert placed.fits and all(name.startswith("members.1.") for name in placed.fits)
    for taste in range(N_TASTES):
        rows = rank_top_k(placed.model, Histories.from_rows([of_taste(taste)], N_ITEMS), 2, allow=allow).items[0]
        assert [int(i) % N_TASTES for i in rows] == [taste, taste]
    for model in (blind, ignored):
        with pytest.raises(ModelError, match="no member of the ensemble that counts keeps a row of numbers"):
            placement(model)


@pytest.mark.parametrize("name", MODELS)
def test_who_is_placeable_is_known_before_the_fit(name: str) -> None:
    model = fitted(name, KNOWN, **({"epochs": 1} if "epochs" in MODELS[name].Config.model_fields else {}))
    try:
        Placement(features(), COLD, known_weights())(model)
    except ModelError:
        assert not placeable(model)
    else:
        assert placeable(model)


def test_cold_items_of_before_are_placed_anew_and_not_learnt_from() -> None:
    first = extend(artifact(), ItemFeatures(IdMap(tuple(range(100, 140))), features()[:40].astype(np.float32)))
    wrong = features()
    wrong[36:40] = wrong[37:41]  # what was thought of them at first
    assert first.cold == (136, 137, 138, 139)
    again = extend(first.artifact, all_features())
    assert again.cold == tuple(range(136, 142))
    once = extend(artifact(), all_features())
    for name, tensor in once.artifact.model.tensors().items():
        assert torch.allclose(again.artifact.model.tensors()[name], tensor, atol=1e-6), name


def test_without_a_cold_item_nothing_changes() -> None:
    known = artifact()
    short = ItemFeatures(known.items, features()[: len(WARM)].astype(np.float32))
    found = extend(known, short)
    assert found.artifact is known and found.cold == ()


def test_what_cannot_be_extended_says_why() -> None:
    with pytest.raises(ModelError, match="UserKNN keeps no row of numbers"):
        extend(artifact("user_knn"), all_features())
    with pytest.raises(DataError, match="string ids; the catalogue has integer ids"):
        extend(artifact(), ItemFeatures(IdMap(("a",)), np.ones((1, 2), np.float32)))
    with pytest.raises(DataError, match="1 items with features and users"):
        extend(artifact(), ItemFeatures(IdMap((100, 999)), np.ones((2, 2), np.float32)))


def test_a_widened_model_scores_its_old_items_as_before() -> None:
    for name in ("mult_vae", "ease", "rp3beta"):
        known = artifact(name).model
        wide = widened(known, N_ITEMS)
        rows = [of_taste(t) for t in range(N_TASTES)]
        before, after = known.score(Histories.from_rows(rows, len(WARM))), wide.score(Histories.from_rows(rows, N_ITEMS))
        assert torch.allclose(before, after[:, WARM], atol=1e-6), name


def test_early_stopping_and_weights_see_a_model_as_it_is_judged() -> None:
    """Of cold items alone a model knows nothing until they are placed."""
    allow = np.flatnonzero(np.isin(np.arange(N_ITEMS), COLD))
    whole = tastes(150, seed=2, weighted=False)
    cold = np.isin(whole.items, COLD)
    users = np.flatnonzero(np.bincount(whole.rows[cold], minlength=len(whole)))
    asked = Holdout(
        IdMap(tuple(range(len(users)))), whole.select(~cold).take(users), whole.select(cold).take(users), candidates=allow
    )
    placement = Placement(features(), COLD, known_weights())
    run = cpu(metric="ndcg@2", placed=lambda model: placement(model).model)
    for name in ("mult_dae", "ensemble"):
        changes = {"epochs": 12, **QUICK} | CHANGES.get(name, {})
        config = MODELS[name].Config(**{k: v for k, v in changes.items() if k in MODELS[name].Config.model_fields})
        bare, placed = (
            MODELS[name](config, N_ITEMS).fit(KNOWN, validation=asked, run=each) for each in (replace(run, placed=None), run)
        )
        blind, seeing = ((r.members[0] if r.members else r).validation for r in (bare, placed))
        assert max(seeing) > 0.75 > 0.55 > max(blind)
        if placed.weights:  # the walk, whose lists of cold items say nothing without placing, counts or not by what it finds
            assert placed.weights != bare.weights
    with pytest.raises(ModelError, match="2 ranks"):
        MODELS["mult_dae"](MODELS["mult_dae"].Config(), N_ITEMS).fit(KNOWN, validation=asked, run=replace(run, world_size=2))
