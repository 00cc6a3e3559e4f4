"""The contract of `Recommender`, over every entry of MODELS: a new model enrols itself."""

import random
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from recsys_ae import (
    MODELS,
    Artifact,
    FitRecord,
    Histories,
    Holdout,
    IdMap,
    Preprocessing,
    diversify,
    explain,
    rank_top_k,
    similar_items,
)
from recsys_ae.errors import NotFittedError, WidthError
from recsys_ae.items import ItemMetadata
from recsys_ae.models import LatentRecommender, Recommender
from tests.worlds import N_ITEMS, N_USERS, checkerboard, cpu, fitted, ragged, small_config, tastes
from tests.worlds import holdout as more_users

# Models that cannot find the one right item of a checkerboard, and why.
NOT_PERSONAL = {"popularity": "it gives everyone the same scores, and on a checkerboard all items are equally popular"}
# Models that keep the training histories, and why. docs/models.md says what that means for an erased user.
KEEPS_USERS = {"user_knn": "it is memory-based: the users most alike vote, so their rows are the model"}
# Models that read a history as a sequence, and why.
ORDERED = {"conv_vae": "its convolutions run over the events in order of time"}
# The checkerboard is learnt long before the default number of epochs is over.
ENOUGH_EPOCHS = 8

every_model = pytest.mark.parametrize("name", MODELS)


@cache
def small(name: str) -> Recommender:
    """A model fitted on the tastes; not to be fitted again."""
    return fitted(name, tastes())


def few() -> Histories:
    """Nine histories to score; the first is empty, one holds a repeat."""
    return ragged(5, 9, N_ITEMS)


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal to 1e-5 of the scores' scale."""
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max().clamp_min(1e-30)))


@every_model
def test_config_round_trips_json(name: str) -> None:
    config = small_config(name)
    assert type(config).model_validate_json(config.model_dump_json()) == config


@every_model
def test_config_refuses_unknown_keys(name: str) -> None:
    with pytest.raises(ValidationError, match="no_such_key"):
        MODELS[name].Config(no_such_key=1)


@every_model
def test_config_is_frozen(name: str) -> None:
    config = MODELS[name].Config()
    for key in type(config).model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(config, key, getattr(config, key))


@every_model
def test_default_config_fits_and_scores(name: str) -> None:
    model = MODELS[name](MODELS[name].Config(), N_ITEMS)
    model.fit(tastes(), validation=None, run=cpu(stop_after=1))
    assert model.score(few()).isfinite().all()


@every_model
def test_constructor_does_no_work(name: str) -> None:
    model = MODELS[name](MODELS[name].Config(), 10**9)
    assert model.n_items == 10**9


@every_model
def test_fit_leaves_its_input_untouched(name: str, holdout: Holdout) -> None:
    train = tastes()
    before = [a.copy() for h in (train, holdout.fold_in, holdout.held_out) for a in _arrays(h)]
    MODELS[name](small_config(name), N_ITEMS).fit(train, validation=holdout, run=cpu())
    after = [a for h in (train, holdout.fold_in, holdout.held_out) for a in _arrays(h)]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)


def _arrays(histories: Histories) -> list[np.ndarray]:
    matrix = histories.matrix
    assert histories.times is not None
    arrays = [histories.indptr, histories.items, histories.weights, histories.times]
    return [*arrays, matrix.indptr, matrix.indices, matrix.data]


@every_model
def test_fit_and_score_leave_the_global_rng_untouched(name: str) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    fitted(name, tastes()).score(few())
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert random.getstate() == before[2]


@every_model
def test_fit_does_not_read_the_global_rng(name: str) -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    one = fitted(name, tastes()).tensors()
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    _assert_same(fitted(name, tastes()).tensors(), one)


@every_model
def test_fit_forgets_an_earlier_fit(name: str) -> None:
    model = fitted(name, ragged(3, 30, N_ITEMS))
    model.fit(tastes(), validation=None, run=cpu())
    _assert_same(model.tensors(), small(name).tensors())


@every_model
def test_same_seed_same_result(name: str, holdout: Holdout) -> None:
    records, tensors = [], []
    for _ in range(2):
        model = MODELS[name](small_config(name), N_ITEMS)
        records.append(model.fit(tastes(), validation=holdout, run=cpu(seed=7)).summary())
        tensors.append(model.tensors())
    assert records[0] == records[1]
    _assert_same(*tensors)


def _assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


@pytest.mark.parametrize("name", [name for name in MODELS if name not in NOT_PERSONAL])
def test_checkerboards_withheld_item_ranks_first(name: str) -> None:
    train = checkerboard()
    model = MODELS[name](MODELS[name].Config(), train.n_items)
    model.fit(train, validation=None, run=cpu(stop_after=ENOUGH_EPOCHS))
    assert rank_top_k(model, train, 1).items[:, 0].tolist() == list(range(len(train)))


def test_popularity_ranks_by_weight_over_all_histories() -> None:
    train = Histories.from_rows([[0, 1], [1, 2], [2]], 4, [[1, 1], [1, 5], [1]])
    ranking = rank_top_k(fitted("popularity", train), Histories.from_rows([[], [2]], 4), 4)
    assert ranking.items.tolist() == [[2, 1, 0, 3], [1, 0, 3, -1]]


@every_model
def test_scores_are_float32_and_finite_for_an_empty_history_too(name: str) -> None:
    scores = small(name).score(few())
    assert scores.dtype == torch.float32
    assert scores.shape == (9, N_ITEMS)
    assert scores.isfinite().all()
    nobody = small(name).score(Histories.from_rows([], N_ITEMS))
    assert nobody.shape == (0, N_ITEMS)


@every_model
def test_a_row_of_zeros_in_training_gives_no_nan(name: str) -> None:
    rows = [[0, 1], [], [1, 2], []]
    model = fitted(name, Histories.from_rows(rows, N_ITEMS))
    assert model.score(Histories.from_rows(rows, N_ITEMS)).isfinite().all()


@every_model
def test_scores_of_some_items_are_the_columns_of_all_scores(name: str) -> None:
    items = torch.tensor([7, 0, 41, 7])
    assert_close(small(name).score(few(), items), small(name).score(few())[:, items])
    assert small(name).score(few(), torch.tensor([], dtype=torch.int64)).shape == (9, 0)


@every_model
def test_batch_equals_single_rows(name: str) -> None:
    histories = few()
    together = small(name).score(histories)
    alone = torch.cat([small(name).score(histories.take(slice(i, i + 1))) for i in range(len(histories))])
    assert_close(alone, together)
    whole = rank_top_k(small(name), histories, N_ITEMS)
    for i in range(len(histories)):
        assert rank_top_k(small(name), histories.take(slice(i, i + 1)), N_ITEMS).row(0)[0] == whole.row(i)[0]


@every_model
def test_score_is_pure(name: str) -> None:
    before = {key: tensor.clone() for key, tensor in small(name).tensors().items()}
    first = small(name).score(few())
    expected = first.clone()
    first.fill_(-1)  # a caller that masks in place, as rank_top_k does
    assert torch.equal(small(name).score(few()), expected)
    _assert_same(small(name).tensors(), before)


@every_model
def test_scores_carry_no_gradient(name: str) -> None:
    assert not small(name).score(few()).requires_grad
    assert not any(tensor.requires_grad for tensor in small(name).tensors().values())


@every_model
def test_order_of_a_history_matters_to_sequence_models_alone(name: str) -> None:
    there, back = (Histories.from_rows([row], N_ITEMS) for row in ([3, 9, 12], [12, 3, 9]))
    found = [small(name).score(each) for each in (there, back)]
    if name in ORDERED:
        assert (found[0] - found[1]).abs().max() > 1e-4 * found[0].abs().max()
    else:
        assert_close(*found)


@every_model
def test_unfitted_is_a_clear_error(name: str) -> None:
    model = MODELS[name](small_config(name), N_ITEMS)
    for use in (lambda: model.score(few()), model.tensors, lambda: model.n_parameters):
        with pytest.raises(NotFittedError, match=rf"{type(model).__name__}.*fit or restore"):
            use()


@every_model
def test_wrong_width_is_an_error_that_names_both_numbers(name: str) -> None:
    other = Histories.from_rows([[1, 2]], 17)
    with pytest.raises(WidthError, match=rf"17.*{N_ITEMS}"):
        small(name).score(other)
    with pytest.raises(WidthError, match=rf"17.*{N_ITEMS}"):
        MODELS[name](small_config(name), N_ITEMS).fit(other, validation=None, run=cpu())


@every_model
def test_restore_refuses_tensors_of_another_catalogue(name: str) -> None:
    model = MODELS[name](small_config(name), N_ITEMS + 1)
    with pytest.raises(WidthError, match=rf"{N_ITEMS} .*{N_ITEMS + 1}"):
        model.restore(small(name).tensors())
    with pytest.raises(WidthError, match="stranger"):
        MODELS[name](small_config(name), N_ITEMS).restore({"stranger": torch.zeros(1)})


@every_model
def test_restore_gives_the_same_scores(name: str) -> None:
    again = MODELS[name](small_config(name), N_ITEMS).restore(small(name).tensors())
    assert torch.equal(again.score(few()), small(name).score(few()))


@every_model
def test_layout_names_every_tensor_and_its_item_axis(name: str) -> None:
    model = small(name)
    assert model.layout().keys() == model.tensors().keys()
    assert model.n_parameters == sum(t.numel() for t in model.tensors().values())
    for key, axis in model.layout().items():
        if axis is not None:
            assert model.tensors()[key].shape[axis] == N_ITEMS


@every_model
def test_item_width_follows_the_catalogue_not_the_data_seen(name: str) -> None:
    model = fitted(name, Histories.from_rows([[0, 1], [1, 2], [0, 2]], N_ITEMS))  # items 3 to 41 were never met
    assert model.score(few()).shape == (9, N_ITEMS)


@pytest.mark.parametrize("name", [name for name in MODELS if name not in KEEPS_USERS])
def test_nothing_saved_has_a_user_axis(name: str, tmp_path: Path) -> None:
    model = small(name)
    assert not [key for key, tensor in model.tensors().items() if N_USERS in tensor.shape]
    few_users, many_users = (_saved_size(name, n, tmp_path / str(n)) for n in (12, 900))
    assert few_users == many_users


@pytest.mark.parametrize("name", KEEPS_USERS)
def test_only_a_model_that_keeps_users_is_excepted_and_says_so(name: str, tmp_path: Path) -> None:
    few_users, many_users = (_saved_size(name, n, tmp_path / str(n)) for n in (12, 900))
    assert few_users < many_users
    assert "keeps a row for each training user" in " ".join((MODELS[name].__doc__ or "").split())


def _saved_size(name: str, n_users: int, folder: Path) -> int:
    _artifact(name, fitted(name, tastes(n_users), **_one_step(name))).save(folder)
    return (folder / "model.safetensors").stat().st_size


def _one_step(name: str) -> dict[str, int]:
    return {"epochs": 1, "batch_size": 900} if "batch_size" in MODELS[name].Config.model_fields else {}


@every_model
def test_a_seen_or_excluded_item_is_never_returned(name: str) -> None:
    histories = few()
    exclude = ragged(6, 9, N_ITEMS)
    allow = np.arange(N_ITEMS) % 5 != 0
    for k in (1, 10, N_ITEMS + 9):
        ranking = rank_top_k(small(name), histories, k, exclude=exclude, allow=allow)
        assert ranking.items.shape == ranking.scores.shape == (9, k)
        for row in range(9):
            left = set(np.flatnonzero(allow)) - set(histories.row(row)) - set(exclude.row(row))
            items, scores = ranking.row(row)
            assert len(items) == min(k, len(left))
            assert set(items) <= left
            assert ranking.items[row, len(items) :].tolist() == [-1] * (k - len(items))
            assert np.isneginf(ranking.scores[row, len(items) :]).all()
            assert scores == sorted(scores, reverse=True)


@every_model
def test_similar_items_leave_the_item_itself_out(name: str) -> None:
    ranking = similar_items(small(name), 4, N_ITEMS, N_ITEMS)
    assert sorted(ranking.row(0)[0]) == [i for i in range(N_ITEMS) if i != 4]


@every_model
def test_an_explanation_is_what_the_score_loses_without_the_item(name: str) -> None:
    columns, weights, items = [3, 9, 12, 40], [2.0, 1.0, 0.5, 3.0], torch.tensor([7, 3, 41])
    model = small(name)
    found = explain(model, Histories.from_rows([columns], N_ITEMS, [weights]), items.numpy())
    whole = model.score(Histories.from_rows([columns], N_ITEMS, [weights]), items)
    scale = 1e-5 * float(whole.abs().max())
    assert found.history.tolist() == columns and found.values.dtype == np.float32
    for place in range(4):
        rest = [[*part[:place], *part[place + 1 :]] for part in (columns, weights)]
        lost = whole - model.score(Histories.from_rows([rest[0]], N_ITEMS, [rest[1]]), items)  # type: ignore[list-item]
        np.testing.assert_allclose(found.values[place], lost[0], rtol=0, atol=scale)
    if model.linear:
        nothing = model.score(Histories.from_rows([[]], N_ITEMS), items)
        np.testing.assert_allclose(found.values.sum(0), (whole - nothing)[0], rtol=0, atol=scale)


@every_model
def test_a_list_of_no_diversity_is_the_plain_list_and_no_list_has_an_item_twice(name: str) -> None:
    ranking = rank_top_k(small(name), few().take(slice(3, 4)), 40)
    plain = ranking.row(0)[0]
    assert diversify(small(name), ranking, 10, 0.0).row(0)[0] == plain[:10]
    for diversity in (0.5, 1.0):
        rearranged = diversify(small(name), ranking, len(plain), diversity).row(0)
        assert sorted(rearranged[0]) == sorted(plain) and rearranged[0][0] == plain[0]
        assert dict(zip(*rearranged, strict=True)) == dict(zip(*ranking.row(0), strict=True))


# --- the autoencoders ----------------------------------------------------------------------------------------------------

every_autoencoder = pytest.mark.parametrize("name", [n for n, kind in MODELS.items() if issubclass(kind, LatentRecommender)])


def _latent(name: str) -> LatentRecommender:
    model = small(name)
    assert isinstance(model, LatentRecommender)
    return model


@every_autoencoder
def test_scores_are_query_times_head(name: str) -> None:
    model = _latent(name)
    weight, bias = model.head()
    z = model.encode(few()).mean
    assert weight.shape == (N_ITEMS, model.query(z).shape[1])
    assert_close(model.query(z) @ weight.T + bias, model.score(few()))


@every_autoencoder
def test_sample_draws_from_its_own_generator_alone(name: str) -> None:
    model = _latent(name)
    one, same, other = (model.sample(few(), torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert torch.equal(one, other) == (model.encode(few()).log_variance is None)


# --- warm starts ---------------------------------------------------------------------------------------------------------


def _begins(name: str) -> dict[str, torch.Tensor]:
    return MODELS[name](small_config(name), N_ITEMS).initial(torch.Generator().manual_seed(0))


STEP_BY_STEP = [name for name in MODELS if _begins(name)]
step_by_step = pytest.mark.parametrize("name", STEP_BY_STEP)


def _validation(name: str, record: FitRecord) -> list[float]:
    """By epoch; of an ensemble, that of its one member that has epochs."""
    return next(one.validation for one in (record.members or [record]) if one.validation)


def test_every_model_that_stops_early_starts_warm() -> None:
    assert set(STEP_BY_STEP) == {name for name in MODELS if "patience" in MODELS[name].Config.model_fields} | {"ensemble"}


@step_by_step
def test_what_training_begins_with_is_what_it_ends_with(name: str) -> None:
    shapes = {key: tensor.shape for key, tensor in small(name).tensors().items()}
    assert all(shapes[key] == tensor.shape for key, tensor in _begins(name).items())


@step_by_step
def test_a_warm_fit_is_better_at_its_first_epoch_than_a_cold_one(name: str) -> None:
    # Twenty quick epochs, then a slow one, which does not bring a cold fit far.
    quick, slow = {"epochs": 20, "learning_rate": 0.01}, {"learning_rate": 1e-4}
    if name == "ensemble":
        quick, slow = ({"members": [{"name": "mult_dae", "latent": 8, "batch_size": 10} | pace]} for pace in (quick, slow))
    train, validation, run = tastes(200), more_users(300), cpu(metric="ndcg@10")
    before = fitted(name, train, **quick).tensors()
    kept = {key: tensor.clone() for key, tensor in before.items()}
    model = MODELS[name](small_config(name, **slow), N_ITEMS)
    cold = model.fit(train, validation=validation, run=replace(run, stop_after=1))
    warm = model.fit(train, validation=validation, run=replace(run, stop_after=1, initial=before))
    assert _validation(name, warm)[0] > _validation(name, cold)[0]
    _assert_same(before, kept)
    again = MODELS[name](small_config(name, **slow), N_ITEMS)
    assert again.fit(train, validation=validation, run=replace(run, stop_after=1, initial=kept)).summary() == warm.summary()
    _assert_same(again.tensors(), model.tensors())


@step_by_step
def test_tensors_of_another_catalogue_or_width_to_start_from_are_refused(name: str) -> None:
    model = MODELS[name](small_config(name), N_ITEMS)
    begins = {key: tensor for key, tensor in small(name).tensors().items() if key in _begins(name)}
    key = next(key for key, axis in model.layout().items() if axis == 0 and key in begins and begins[key].ndim == 2)
    for wrong, said in (
        (begins[key][:-1], rf"{N_ITEMS - 1} .*{N_ITEMS}"),
        (begins[key][:, :-1], f"{begins[key].shape[1] - 1}"),
    ):
        with pytest.raises(WidthError, match=said):
            model.fit(tastes(), validation=None, run=cpu(initial=begins | {key: wrong}))


@pytest.mark.parametrize("name", [name for name in MODELS if name not in STEP_BY_STEP])
def test_a_model_that_is_learnt_in_one_go_takes_no_notice_of_what_to_start_from(name: str) -> None:
    model = MODELS[name](small_config(name), N_ITEMS)
    model.fit(tastes(), validation=None, run=cpu(initial={"stranger": torch.zeros(1)}))
    _assert_same(model.tensors(), small(name).tensors())


# --- save and load -------------------------------------------------------------------------------------------------------

READ_BACK = """
import sys
for absent in ("pandas", "pyarrow", "duckdb", "implicit", "recsys_ae.log", "recsys_ae.dataset", "recsys_ae.split"):
    sys.modules[absent] = None
import numpy as np, torch
from pathlib import Path
torch.set_num_threads(1)
from recsys_ae import Artifact, Histories, rank_top_k
folder = Path(sys.argv[1])
for path in sorted((folder / "artifacts").iterdir()):
    artifact = Artifact.load(path)
    found = np.load(folder / "histories.npz")
    histories = Histories(found["indptr"], found["items"], found["weights"], len(artifact.items))
    ranking = rank_top_k(artifact.model, histories, 10)
    np.savez(folder / f"{path.name}.npz", items=ranking.items, scores=ranking.scores, ids=artifact.items.ids)
"""


def _artifact(name: str, model: Recommender) -> Artifact:
    ids = IdMap(tuple(f"item-{i}" for i in range(N_ITEMS)))
    return Artifact(name, model, ids, ItemMetadata(), Preprocessing(), {"seed": 0})


@pytest.fixture(scope="module")
def read_back(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All models saved here, then loaded and ranked in one fresh process that has no training data code."""
    folder = tmp_path_factory.mktemp("fresh")
    histories = few()
    np.savez(folder / "histories.npz", indptr=histories.indptr, items=histories.items, weights=histories.weights)
    for name in MODELS:
        _artifact(name, small(name)).save(folder / "artifacts" / name)
    subprocess.run([sys.executable, "-W", "error", "-c", READ_BACK, str(folder)], check=True)
    return folder


@every_model
def test_saved_model_ranks_identically_in_a_fresh_process_without_the_training_set(name: str, read_back: Path) -> None:
    found = np.load(read_back / f"{name}.npz")
    expected = rank_top_k(small(name), few(), 10)
    np.testing.assert_array_equal(found["items"], expected.items)
    np.testing.assert_array_equal(found["scores"], expected.scores)


@every_model
def test_item_ids_are_saved_with_the_model(name: str, read_back: Path) -> None:
    assert np.load(read_back / f"{name}.npz")["ids"].tolist() == [f"item-{i}" for i in range(N_ITEMS)]
