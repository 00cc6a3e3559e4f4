"""Warm starts: what is known of an item goes where the item stands now, and nothing else is touched."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_ae import MODELS, Artifact, Histories, IdMap, Preprocessing
from recsys_ae.errors import WidthError
from recsys_ae.items import ItemMetadata
from recsys_ae.models import Recommender
from recsys_ae.warm_start import mapped, warm_start
from tests.worlds import N_ITEMS, fitted, ragged, small_config, tastes

MAPPED = {name: fitted(name, tastes()) for name in ("mult_dae", "mult_vae", "elsa", "vasp", "h_vamp", "cdae")}
OLD = IdMap(tuple(range(N_ITEMS)))


def artifact(name: str, model: Recommender, items: IdMap = OLD) -> Artifact:
    return Artifact(name, model, items, ItemMetadata(), Preprocessing())


def unfitted(name: str, n_items: int, **changes: object) -> Recommender:
    return MODELS[name](small_config(name, **changes), n_items)


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(sorted(MAPPED)),
    ids=st.lists(st.integers(0, N_ITEMS + 20), min_size=1, max_size=N_ITEMS + 20, unique=True),
    seed=st.integers(0, 9),
)
def test_mapping_alone_changes_no_score_of_an_item_that_stayed(name: str, ids: list[int], seed: int) -> None:
    """However items come, go and change places; histories are of items that stayed."""
    old, new = MAPPED[name], IdMap(tuple(ids))
    model = unfitted(name, len(new))
    fresh = model.initial(torch.Generator().manual_seed(seed))
    found = mapped(old.tensors(), model.layout(), OLD, new, fresh)
    positions = new.positions(OLD.ids)  # of old items, -1 where gone
    stayed = np.flatnonzero(positions >= 0)
    known = ragged(seed, 7, len(stayed), timed=False) if len(stayed) else Histories.from_rows([[]], 0)
    before = old.score(known.remap(stayed, N_ITEMS))[:, torch.from_numpy(stayed)]
    after = model.restore(found).score(known.remap(positions[stayed], len(new)))[:, torch.from_numpy(positions[stayed])]
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
    came = torch.tensor([place for place, id_ in enumerate(ids) if id_ >= N_ITEMS], dtype=torch.int64)
    for key, axis in model.layout().items():
        if axis is not None:
            assert torch.equal(found[key].index_select(axis, came), fresh[key].index_select(axis, came))


def test_the_start_is_between_what_was_learnt_and_a_fresh_one() -> None:
    new = IdMap((*range(5, N_ITEMS), 1000, 1001))
    old, model = MAPPED["mult_vae"], unfitted("mult_vae", len(new))
    start = warm_start(model, new, artifact("mult_vae", old), seed=3)
    assert (start.items_kept, start.items_new, start.items_gone) == (N_ITEMS - 5, 2, 5)
    fresh = model.initial(torch.Generator().manual_seed(3))
    rows = old.tensors()["encoder.0.weight"][5:]
    torch.testing.assert_close(start.tensors["encoder.0.weight"][:-2], 0.7 * rows + 0.3 * fresh["encoder.0.weight"][:-2])
    assert torch.equal(start.tensors["encoder.0.weight"][-2:], fresh["encoder.0.weight"][-2:])
    bias = old.tensors()["encoder.0.bias"]
    torch.testing.assert_close(start.tensors["encoder.0.bias"], 0.7 * bias + 0.3 * fresh["encoder.0.bias"])


def test_an_ensemble_takes_what_its_members_can_begin_with() -> None:
    members = {"members": [{"name": "ease"}, {"name": "mult_dae", "latent": 8, "epochs": 2}]}
    old = fitted("ensemble", tastes(), **members)
    new = IdMap((*range(1, N_ITEMS), 99))
    start = warm_start(unfitted("ensemble", N_ITEMS, **members), new, artifact("ensemble", old), seed=0)
    assert {key.rsplit(".", 3)[0] for key in start.tensors} == {"members.1"}


@pytest.mark.parametrize(
    ("name", "changes", "items", "said"),
    [
        ("mult_vae", {}, OLD, "MultVAE cannot start from mult_dae"),
        ("mult_dae", {"latent": 9}, OLD, r"encoder.0.bias.*\(8,\).*\(9,\)|encoder.0.weight.*8\).*9\)"),
        ("mult_dae", {"hidden": (7,)}, OLD, "to start from"),
        ("mult_dae", {}, IdMap(tuple(f"item-{i}" for i in range(3))), "none of 3 items is among the 42"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, changes: dict[str, object], items: IdMap, said: str) -> None:
    with pytest.raises(WidthError, match=said):
        warm_start(unfitted(name, len(items), **changes), items, artifact("mult_dae", MAPPED["mult_dae"]), seed=0)


def test_another_type_and_a_model_that_begins_with_nothing_are_refused() -> None:
    with pytest.raises(WidthError, match="EASE is not trained step by step"):
        warm_start(unfitted("ease", N_ITEMS), OLD, artifact("ease", fitted("ease", tastes())), seed=0)
    fresh = {"a": torch.zeros(N_ITEMS, 2)}
    with pytest.raises(WidthError, match=r"tensor a .* torch.float64 \(42, 2\).*torch.float32"):
        mapped({"a": fresh["a"].double()}, {"a": 0}, OLD, OLD, fresh)
    with pytest.raises(WidthError, match="tensor a to start from is missing"):
        mapped({}, {"a": 0}, OLD, OLD, fresh)
