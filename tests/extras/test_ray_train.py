"""Training on a Ray cluster: what comes of it is what one process makes of it, also where a worker dies."""

import os
import signal
from pathlib import Path
from typing import Any, Literal

import pytest

from recsys_ae import MODELS
from recsys_ae.cluster import fit_on_ray
from recsys_ae.errors import ConfigError, ModelError
from recsys_ae.models import Recommender
from recsys_ae.training.run import FitRecord, Progress
from tests.extras.conftest import CPUS, NEEDS_RAY
from tests.worlds import cpu, holdout, small_config, tastes

ray = pytest.importorskip("ray")
pytestmark = NEEDS_RAY


def made(name: str = "mult_dae", **settings: Any) -> Recommender:
    return MODELS[name](small_config(name, **{"epochs": 4} | settings), 42)


def on_nodes(cluster: str, folder: Path, share: Literal["users", "items"] = "users", **settings: Any) -> dict[str, Any]:
    """Two workers, each on a node of its own, of which it takes all CPUs."""
    return {"workers": 2, "restarts": 3, "share": share, "address": cluster, "cpus": CPUS, "folder": folder} | settings


@pytest.mark.parametrize("share", ["users", "items"])
def test_a_fit_on_a_cluster_is_the_fit_by_one(share: Literal["users", "items"], cluster: str, tmp_path: Path) -> None:
    train, validation, told = tastes(200), holdout(31), list[Progress]()
    alone, together = made(), made()
    expected = alone.fit(train, validation=validation, run=cpu(metric="ndcg@10"))
    run = cpu(metric="ndcg@10", progress=told.append)
    record = fit_on_ray(together, train, validation, run, **on_nodes(cluster, tmp_path / "runs", share))
    assert record.losses == pytest.approx(expected.losses, rel=1e-4)
    assert record.validation == pytest.approx(expected.validation, rel=1e-3)
    assert [progress.epoch for progress in told] == [1, 2, 3, 4]
    assert together.score(validation.fold_in) == pytest.approx(alone.score(validation.fold_in), rel=1e-2, abs=1e-3)
    assert list((tmp_path / "runs").iterdir()) == [] and not ray.is_initialized()


def test_a_worker_that_is_killed_costs_no_more_than_an_epoch(cluster: str, tmp_path: Path) -> None:
    train, settings = tastes(200), {"batch_size": 2, "epochs": 6}  # slow enough to be met alive
    expected = made(**settings).fit(train, validation=None, run=cpu())
    killed, told = list[int](), list[int]()

    def kill(progress: Progress) -> None:
        told.append(progress.epoch)
        if not killed:
            killed.append(_workers()[-1])  # IndexError where all are gone
            os.kill(killed[0], signal.SIGKILL)

    run = cpu(checkpoint_folder=tmp_path / "checkpoints", progress=kill)
    record = fit_on_ray(made(**settings), train, None, run, **on_nodes(cluster, tmp_path))
    assert killed and record.losses == pytest.approx(expected.losses, rel=1e-3)
    assert told == [1, 2, 3, 4, 5, 6]  # what is told of is in a checkpoint, so nothing is done again


def _workers() -> list[int]:
    """Process ids of the workers of the fit that runs."""
    found = ray._private.state.actors(
        actor_state_name="ALIVE", job_id=ray.JobID.from_hex(ray.get_runtime_context().get_job_id())
    )
    return [each["Pid"] for each in found.values() if "TrainWorker" in each["ActorClassName"]]


def test_a_fit_that_fails_says_why(cluster: str, tmp_path: Path) -> None:
    """Of one user, whom the first worker has, while the other raises."""
    with pytest.raises(ModelError, match=r"rank 1 of 2 has no users of the 1"):
        fit_on_ray(made(), tastes(1), None, cpu(), **on_nodes(cluster, tmp_path))


def test_a_fit_of_which_nothing_comes_repeats_what_ray_says(
    cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers cannot read what the job has become."""
    monkeypatch.setattr("recsys_ae.cluster.job.PASSED", ())
    with pytest.raises(ModelError, match=r"the fit of several ranks failed; its last words:[\s\S]*KeyError"):
        fit_on_ray(made(), tastes(), None, cpu(), **on_nodes(cluster, tmp_path, restarts=0))


def test_a_cluster_without_room_is_refused(cluster: str, tmp_path: Path) -> None:
    for settings, met in (
        ({"workers": 4}, r"workers = 4 with 2 CPU each; the 3 nodes there have room for 3"),
        ({"cpus": 2.5}, r"workers = 2 with 2\.5 CPU each; the 3 nodes there have room for 0"),
        ({"gpus": 1.0}, r"workers = 2 with 2 CPU and 1 GPU each; the 3 nodes there have room for 0"),
    ):
        with pytest.raises(ConfigError, match=met):
            fit_on_ray(made(), tastes(), None, cpu(device="auto"), **on_nodes(cluster, tmp_path, **settings))


def test_a_model_that_ranks_cannot_train_is_refused_before_any_is_started(cluster: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r'the items of VASP cannot be shared out among ranks; expected share = "users"'):
        fit_on_ray(made("vasp"), tastes(), None, cpu(), **on_nodes(cluster, tmp_path, "items"))


def test_what_has_no_gradient_steps_is_fitted_here(tmp_path: Path) -> None:
    model = MODELS["ease"](MODELS["ease"].Config(), 42)
    assert isinstance(fit_on_ray(model, tastes(), None, cpu(), **on_nodes("nowhere:1", tmp_path)), FitRecord)


def test_a_device_that_workers_have_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r'device = "cpu" and \[cluster\] gpus = 1; expected gpus = 1 for cuda, gpus = 0 for cpu'
    ):
        fit_on_ray(made(), tastes(), None, cpu(), **on_nodes("nowhere:1", tmp_path, gpus=1.0))
