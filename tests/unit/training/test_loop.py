"""The loop: what it visits, when it stops, what it keeps, and that a killed run goes on as if it had never stopped."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recsys_ae import FitRecord, Histories, Holdout
from recsys_ae.errors import CheckpointError, RecsysError
from recsys_ae.evaluation import mean_metric
from recsys_ae.models import MODELS, Recommender
from recsys_ae.models.mult_dae import MultDAE
from recsys_ae.models.mult_vae import MultVAE
from recsys_ae.training import loop
from recsys_ae.training.batches import Bags, DeviceHistories
from recsys_ae.training.loop import automatic_batch_size
from recsys_ae.training.run import Progress, RunContext
from tests.worlds import N_ITEMS, N_USERS, cpu, small_config, tastes

autoencoders = pytest.mark.parametrize("name", ["mult_dae", "mult_vae", "rec_vae"])
# A falling learning rate and momentum, rising beta, weight decay, noise: all that a resumed run can get wrong.
FULL = {"epochs": 5, "schedule": "cosine", "weight_decay": 0.01, "hidden": (8,), "activation": "tanh", "learning_rate": 0.01}


class Killed(BaseException):
    """What a test throws where a process would die."""


def fit(
    name: str, run: RunContext, validation: Holdout | None = None, train: Histories | None = None, **changes: Any
) -> tuple[Recommender, FitRecord]:
    model = MODELS[name](small_config(name, **FULL | changes), N_ITEMS)
    return model, model.fit(tastes() if train is None else train, validation=validation, run=run)


def assert_same_fit(one: tuple[Recommender, FitRecord], other: tuple[Recommender, FitRecord]) -> None:
    assert one[1].summary() == other[1].summary()
    for key, tensor in one[0].tensors().items():
        assert torch.equal(tensor, other[0].tensors()[key]), key


# --- what an epoch visits ------------------------------------------------------------------------------------------------


def visits(monkeypatch: pytest.MonkeyPatch, train: Histories, **changes: Any) -> list[list[int]]:
    """The rows of every batch of a fit."""
    seen: list[list[int]] = []
    order: list[int] = []
    real, objective = DeviceHistories.batch, MultDAE._objective

    def shuffled(self: DeviceHistories, rows: torch.Tensor) -> Bags:
        order[:] = rows.tolist()
        return real(self, rows)

    def visited(self: MultDAE, parameters: dict[str, torch.Tensor], bags: Bags, *rest: Any) -> torch.Tensor:
        seen.append([order.pop(0) for _ in range(len(bags))])
        expected = real(DeviceHistories(train, torch.device("cpu")), torch.tensor(seen[-1]))
        assert bags.part is None
        for name in ("columns", "weights", "offsets", "rows"):
            assert torch.equal(getattr(bags, name), getattr(expected, name))
        return objective(self, parameters, bags, *rest)

    monkeypatch.setattr(DeviceHistories, "batch", shuffled)
    monkeypatch.setattr(MultDAE, "_objective", visited)
    fit("mult_dae", cpu(), train=train, **changes)
    return seen


def test_training_order_is_shuffled_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = visits(monkeypatch, tastes(), epochs=3, batch_size=23)
    assert len({tuple(rows) for rows in seen}) == 3
    assert list(range(N_USERS)) not in seen


def test_last_partial_batch_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = visits(monkeypatch, tastes(), epochs=2, batch_size=10)
    assert [len(rows) for rows in seen] == [10, 10, 3] * 2
    for epoch in (seen[:3], seen[3:]):
        assert sorted(row for rows in epoch for row in rows) == list(range(N_USERS))


def test_rows_without_interactions_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = visits(monkeypatch, Histories.from_rows([[1], [], [2, 3], []], N_ITEMS), epochs=1, batch_size=10)
    assert sorted(seen[0]) == [0, 2]


def test_the_loss_of_an_epoch_is_the_mean_over_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a learning rate of nothing, batches of any size give the same mean."""
    losses = [
        fit("mult_dae", cpu(), target="all", dropout=0.0, learning_rate=1e-30, weight_decay=0.0, batch_size=b)[1].losses[0]
        for b in (1, 10, 23)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5) == pytest.approx(losses[2], rel=1e-5)


@pytest.mark.parametrize(("n_users", "expected"), [(1, 1), (49, 1), (600, 12), (25_000, 500), (10**6, 500)])
def test_automatic_batch_size_keeps_50_steps_an_epoch(n_users: int, expected: int) -> None:
    assert automatic_batch_size(n_users) == expected


def test_an_epoch_may_be_several_walks_each_with_its_own_objective() -> None:
    """What a walk detaches stays as it is, weight decay or not; each takes every row; all are made at the epoch's beginning."""
    seen: list[tuple[str, int, dict[str, float]]] = []
    begun: list[dict[str, float]] = []

    def walk(moving: str) -> loop.Objective:
        def objective(p: dict[str, torch.Tensor], bags: Bags, share: float, generator: torch.Generator) -> torch.Tensor:
            seen.append((moving, len(bags), {name: float(t.detach()) for name, t in p.items()}))
            one, two = (t if name == moving else t.detach() for name, t in p.items())
            return (one + two).sum()

        return objective

    def passes(p: dict[str, torch.Tensor]) -> list[loop.Objective]:
        begun.append({name: float(t.detach()) for name, t in p.items()})
        return [walk("one"), walk("one"), walk("two")]

    parameters = {name: torch.ones(1) for name in ("one", "two")}
    settings = MODELS["mult_dae"].Config(batch_size=10, epochs=2, weight_decay=0.1, learning_rate=0.01)
    generator = torch.Generator().manual_seed(0)
    record = loop.train(
        parameters,
        passes,
        tastes(),
        None,
        settings,
        cpu(),
        generator,
        "key",
    )
    assert [(moving, n) for moving, n, _ in seen] == [(m, n) for m in ("one", "one", "two") for n in (10, 10, 3)] * 2
    before, after = (seen[i][2] for i in (0, 6))
    assert before["one"] > after["one"]
    assert before["two"] == after["two"] > float(parameters["two"])
    assert begun[-1] == seen[9][2]
    assert len(record.losses) == 2


# --- when it stops and what it keeps -------------------------------------------------------------------------------------


def test_the_loss_falls() -> None:
    losses = fit("mult_vae", cpu(), epochs=30, beta=0.0, target="all", dropout=0.0)[1].losses
    assert losses[-1] < 0.95 * losses[0]


@autoencoders
def test_best_weights_are_kept(name: str, holdout: Holdout) -> None:
    run = cpu(metric="ndcg@5")
    model, record = fit(name, run, holdout, epochs=12, learning_rate=0.3)  # a rate at which the metric goes up and down
    assert record.validation[-1] < max(record.validation)
    assert record.validation[record.best_epoch - 1] == max(record.validation)
    assert mean_metric(model, holdout, run.metric) == max(record.validation)


def test_without_validation_the_last_weights_are_kept() -> None:
    _, record = fit("mult_dae", cpu())
    assert (record.best_epoch, record.epochs, record.validation) == (5, 5, [])


def test_early_stopping_waits_for_patience_and_for_the_least_number_of_steps(
    holdout: Holdout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recsys_ae.models.autoencoder.mean_metric", lambda *_: 0.5)  # never better than in epoch 1
    monkeypatch.setattr(loop, "LEAST_STEPS", 0)
    assert fit("mult_dae", cpu(), holdout, epochs=50, patience=4)[1].epochs == 5
    monkeypatch.setattr(loop, "LEAST_STEPS", 30)  # three steps an epoch
    assert fit("mult_dae", cpu(), holdout, epochs=50, patience=4)[1].epochs == 10
    assert fit("mult_dae", cpu(), holdout, epochs=50, patience=4)[1].best_epoch == 1


def test_a_warm_fit_waits_for_no_least_number_of_steps_and_is_annealed(
    holdout: Holdout, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []
    annealed = MultVAE._annealed

    def noted(self: MultVAE, share: float) -> float:
        shares.append(share)
        return annealed(self, share)

    before = fit("mult_vae", cpu())[0].tensors()
    monkeypatch.setattr("recsys_ae.models.autoencoder.mean_metric", lambda *_: 0.5)
    monkeypatch.setattr(MultVAE, "_annealed", noted)
    assert fit("mult_vae", cpu(initial=before), holdout, epochs=50, patience=4)[1].epochs == 5
    assert set(shares) == {1.0}
    shares.clear()
    assert fit("mult_vae", cpu(), holdout, epochs=7)[1].epochs == 7
    assert shares[0] == 0 and shares == sorted(shares) and shares[-1] < 1


def test_a_killed_warm_fit_goes_on_as_if_it_had_never_stopped(tmp_path: Path, holdout: Holdout) -> None:
    run = cpu(initial=fit("mult_vae", cpu(seed=5))[0].tensors(), metric="ndcg@5")
    with pytest.raises(Killed):
        fit("mult_vae", replace(run, checkpoint_folder=tmp_path, progress=die_at_epoch(3)), holdout)
    assert_same_fit(fit("mult_vae", replace(run, checkpoint_folder=tmp_path), holdout), fit("mult_vae", run, holdout))


@autoencoders
def test_stop_after_is_the_beginning_of_the_longer_run(name: str) -> None:
    """The schedules are those of the full run."""
    whole = fit(name, cpu())[1]
    for n in (1, 3):
        part = fit(name, cpu(stop_after=n))[1]
        assert part.epochs == n
        assert part.losses == whole.losses[:n]


def test_stop_after_gives_the_weights_that_early_stopping_found(holdout: Holdout) -> None:
    best, record = fit("mult_vae", cpu(metric="ndcg@5"), holdout)
    again, _ = fit("mult_vae", cpu(stop_after=record.best_epoch))
    for key, tensor in best.tensors().items():
        assert torch.equal(tensor, again.tensors()[key])


def test_progress_reports_every_epoch(holdout: Holdout) -> None:
    seen: list[Progress] = []
    _, record = fit("mult_dae", cpu(progress=seen.append), holdout)
    assert [p.epoch for p in seen] == [1, 2, 3, 4, 5]
    assert [p.loss for p in seen] == record.losses
    assert [p.validation for p in seen] == record.validation


def test_a_fit_can_start_from_the_tensors_of_another() -> None:
    # The whole row as target: the loss of hidden entries alone hangs on which ones two runs of other draws hide.
    first, _ = fit("mult_dae", cpu(), target="all")
    kept = {key: tensor.clone() for key, tensor in first.tensors().items()}
    warm, record = fit("mult_dae", cpu(initial=first.tensors(), seed=1), target="all")
    cold = fit("mult_dae", cpu(seed=1), target="all")[1]
    assert record.losses[0] < cold.losses[0]
    for key, tensor in first.tensors().items():
        assert torch.equal(tensor, kept[key])
        assert not torch.equal(tensor, warm.tensors()[key])


def test_bfloat16_keeps_parameters_and_scores_in_float32() -> None:
    model, record = fit("mult_vae", replace(cpu(), precision="bfloat16"))
    assert record.precision == "bfloat16"
    assert {t.dtype for t in model.tensors().values()} == {torch.float32}
    assert np.isfinite(record.losses).all()


@autoencoders
def test_a_log_without_any_interaction_leaves_no_nan(name: str) -> None:
    model, _ = fit(name, cpu(), train=Histories.from_rows([[], [], []], N_ITEMS))
    assert all(tensor.isfinite().all() for tensor in model.tensors().values())


@autoencoders
def test_a_run_that_diverges_leaves_no_model_of_nan(name: str, holdout: Holdout) -> None:
    """It either fails or keeps weights that are finite; NaN must not count as a validation metric."""
    try:
        model, _ = fit(name, cpu(), holdout, learning_rate=1e20)
    except RecsysError:
        return
    assert model.score(tastes()).isfinite().all()


# --- checkpoints ---------------------------------------------------------------------------------------------------------


def die_at_epoch(n: int) -> Any:
    def progress(done: Progress) -> None:
        if done.epoch == n:
            raise Killed

    return progress


@autoencoders
@pytest.mark.parametrize("validated", [True, False])
def test_killed_after_any_epoch_a_run_resumes_bit_equal(name: str, validated: bool, tmp_path: Path, holdout: Holdout) -> None:
    validation = holdout if validated else None
    expected = fit(name, cpu(metric="ndcg@5"), validation)
    for n in range(1, 6):
        run = cpu(metric="ndcg@5", checkpoint_folder=tmp_path / str(n))
        with pytest.raises(Killed):
            fit(name, replace(run, progress=die_at_epoch(n)), validation)
        seen: list[Progress] = []
        assert_same_fit(fit(name, replace(run, progress=seen.append), validation), expected)
        assert [p.epoch for p in seen] == list(range(n + 1, 6))  # it went on; it did not begin again


@autoencoders
def test_killed_at_any_step_a_run_resumes_bit_equal(
    name: str, tmp_path: Path, holdout: Holdout, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = fit(name, cpu(), holdout)
    real = Bags.normalised
    for step in range(20):  # five epochs of three batches and one validation
        left = [step]

        def dying(self: Bags, left: list[int] = left) -> Bags:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return real(self)

        run = cpu(checkpoint_folder=tmp_path / str(step))
        with monkeypatch.context() as patch:
            patch.setattr(Bags, "normalised", dying)
            with pytest.raises(Killed):
                fit(name, run, holdout)
        assert_same_fit(fit(name, run, holdout), expected)


def test_killed_again_and_again(tmp_path: Path, holdout: Holdout) -> None:
    run = cpu(checkpoint_folder=tmp_path)
    for n in range(1, 5):
        with pytest.raises(Killed):
            fit("mult_vae", replace(run, progress=die_at_epoch(n)), holdout)
    assert_same_fit(fit("mult_vae", run, holdout), fit("mult_vae", cpu(), holdout))


def test_killed_while_a_checkpoint_is_written_the_one_before_counts(
    tmp_path: Path, holdout: Holdout, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = cpu(checkpoint_folder=tmp_path)
    with pytest.raises(Killed):
        fit("mult_vae", replace(run, progress=die_at_epoch(2)), holdout)

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", die)
        with pytest.raises(Killed):
            fit("mult_vae", run, holdout)
    seen: list[Progress] = []
    assert_same_fit(fit("mult_vae", replace(run, progress=seen.append), holdout), fit("mult_vae", cpu(), holdout))
    assert [p.epoch for p in seen] == [3, 4, 5]


def test_a_finished_run_is_not_trained_again(tmp_path: Path, holdout: Holdout) -> None:
    run = cpu(checkpoint_folder=tmp_path)
    expected = fit("mult_vae", run, holdout)
    seen: list[Progress] = []
    assert_same_fit(fit("mult_vae", replace(run, progress=seen.append), holdout), expected)
    assert seen == []


def other_holdout(holdout: Holdout) -> Holdout:
    rows = np.arange(len(holdout) - 5)
    return holdout.take(rows)


@pytest.mark.parametrize(
    "change", ["config", "data", "weights", "seed", "metric", "stop_after", "validation", "initial", "model"]
)
def test_a_checkpoint_of_another_run_is_not_resumed(change: str, tmp_path: Path, holdout: Holdout) -> None:
    """The result is that of a run that found no checkpoint."""
    base = cpu(metric="ndcg@5")
    with pytest.raises(Killed):
        fit("mult_dae", replace(base, checkpoint_folder=tmp_path, progress=die_at_epoch(3)), holdout)
    name, run, validation, train, changes = "mult_dae", base, holdout, tastes(), {}
    match change:
        case "config":
            changes = {"learning_rate": 0.02}
        case "data":
            train = tastes(seed=9)
        case "weights":
            train = tastes(weighted=False)
        case "seed":
            run = replace(base, seed=1)
        case "metric":
            run = replace(base, metric="recall@3")
        case "stop_after":
            run = replace(base, stop_after=4)
        case "validation":
            validation = other_holdout(holdout)
        case "initial":
            run = replace(base, initial=fit("mult_dae", cpu(seed=5))[0].tensors())
        case "model":
            name = "mult_vae"
    found = fit(name, replace(run, checkpoint_folder=tmp_path), validation, train, **changes)
    assert_same_fit(found, fit(name, run, validation, train, **changes))


def damaged(data: bytes, where: str) -> bytes:
    wrong = bytearray(data)
    if where == "cut":
        return data[: len(data) // 2]
    if where == "empty":
        return b""
    wrong[{"header": 2, "tensors": -40}[where]] ^= 1 << 6
    return bytes(wrong)


@pytest.mark.parametrize("where", ["cut", "empty", "header", "tensors"])
def test_a_damaged_checkpoint_is_an_error(where: str, tmp_path: Path, holdout: Holdout) -> None:
    run = cpu(checkpoint_folder=tmp_path)
    with pytest.raises(Killed):
        fit("mult_dae", replace(run, progress=die_at_epoch(3)), holdout)
    (path,) = tmp_path.iterdir()
    path.write_bytes(damaged(path.read_bytes(), where))
    with pytest.raises(CheckpointError, match=f"{path.name}.*damaged"):
        fit("mult_dae", run, holdout)


def test_a_checkpoint_is_one_file_and_no_pickle(tmp_path: Path) -> None:
    fit("mult_dae", cpu(checkpoint_folder=tmp_path / "deep" / "folder"))
    (path,) = (tmp_path / "deep" / "folder").iterdir()
    assert path.suffix == ".safetensors"
    assert not path.read_bytes().startswith((b"\x80", b"PK"))


@autoencoders
def test_how_many_batches_are_put_in_order_at_once_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = fit(name, cpu())
    for gathered in (1, 2):
        monkeypatch.setattr(loop, "GATHERED", gathered)
        assert_same_fit(fit(name, cpu()), expected)
