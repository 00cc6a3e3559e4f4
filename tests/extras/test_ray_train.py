"""Training on a Ray cluster: what comes of it is what one process makes of it, also where a worker dies."""

import os
import signal
from pathlib import Path
from typing import Any, Literal

import pytest

from benchmarks import onray
from recsys_ae import MODELS
from recsys_ae.cluster import fit_on_ray
from recsys_ae.cluster.session import Room, require_room
from recsys_ae.errors import ConfigError, ModelError
from recsys_ae.models import Recommender
from recsys_ae.training.run import FitRecord, Progress
from tests.extras.conftest import NEEDS_RAY
from tests.worlds import cpu, holdout, small_config, tastes

ray = pytest.importorskip("ray")
pytestmark = NEEDS_RAY


def made(name: str = "mult_dae", **settings: Any) -> Recommender:
    return MODELS[name](small_config(name, **{"epochs": 4} | settings), 42)


def on_nodes(cluster: str, folder: Path, share: Literal["users", "items"] = "users", **settings: Any) -> dict[str, Any]:
    """Two workers, each on a node of its own, of which it takes all CPUs; `settings` of the room, but for `restarts`."""
    restarts = settings.pop("restarts", 3)
    room = Room(**{"workers": 2, "cpus": onray.CPUS} | settings)
    return {"room": room, "restarts": restarts, "share": share, "address": cluster, "folder": folder}


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


@pytest.mark.slow
def test_a_fit_goes_on_with_fewer_workers_and_takes_those_that_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One loses a node and with it a worker, and is given another."""
    monkeypatch.setattr("recsys_ae.cluster.ray_train.RESIZED", 3.0)
    train, settings, sizes = tastes(600), {"batch_size": 2, "epochs": 55}, list[int]()  # long enough alone
    expected = made(**settings).fit(train, validation=None, run=cpu())
    with onray.cluster(2) as nodes:
        extra = list(nodes.worker_nodes)

        def comes_and_goes(progress: Progress) -> None:
            sizes.append(len(_workers()))
            if progress.epoch == 2:
                nodes.remove_node(extra.pop(), allow_graceful=False)
            if progress.epoch == 6:
                extra.append(nodes.add_node(**onray.NODE))

        run = cpu(checkpoint_folder=tmp_path / "checkpoints", progress=comes_and_goes)
        record = fit_on_ray(made(**settings), train, None, run, **on_nodes(nodes.address, tmp_path, least=1))
    assert record.losses == pytest.approx(expected.losses, rel=1e-3)
    assert sizes[0] == 2 and 1 in sizes[2:] and sizes[-1] == 2


@pytest.mark.slow
def test_a_fit_that_has_too_few_nodes_left_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys_ae.cluster.ray_train.GONE", 3.0)
    with onray.cluster(2) as nodes:
        extra = list(nodes.worker_nodes)

        def goes(progress: Progress) -> None:
            if extra:
                nodes.remove_node(extra.pop(), allow_graceful=False)

        run = cpu(checkpoint_folder=tmp_path / "checkpoints", progress=goes)
        settings = {"batch_size": 2, "epochs": 60}
        with pytest.raises(ModelError, match="for 3 seconds the cluster has had room for 1 workers; expected 2"):
            fit_on_ray(made(**settings), tastes(600), None, run, **on_nodes(nodes.address, tmp_path, least=2))


class Coming:
    """A cluster whose nodes come one by one, and what places it was asked for."""

    def __init__(self, *nodes: int) -> None:
        """`nodes`: how many there are each time they are counted, at last for ever."""
        self.counts, self.asked, self.util = list(nodes), list[Any](), self

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": 3.0}}] * (self.counts.pop(0) if len(self.counts) > 1 else self.counts[0])

    def placement_group(self, bundles: list[dict[str, float]]) -> list[dict[str, float]]:
        self.asked.append(bundles)
        return bundles

    def remove_placement_group(self, bundles: list[dict[str, float]]) -> None:
        self.asked.remove(bundles)


def test_room_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys_ae.cluster.session.POLL", 0.001)
    late = Coming(0, 0, 1, 1, 2)
    require_room(late, Room(4, cpus=1.5, wait=30))
    assert late.counts == [2] and not late.asked
    enough = Coming(1, 0)  # counted once
    require_room(enough, Room(4, cpus=1.5, least=2, wait=30))
    assert enough.counts == [0]
    with pytest.raises(ConfigError, match=r"workers = 4 with 1 CPU each; the 1 nodes there after 0.05 seconds have room for 3"):
        require_room(Coming(1), Room(4, wait=0.05))
    with pytest.raises(ConfigError, match=r"min_workers = 4 with 1 CPU each; the 1 nodes there have room for 3"):
        require_room(Coming(1), Room(6, least=4))


def test_fewer_workers_cannot_take_over_items(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r'min_workers and share = "items"; expected share = "users"'):
        fit_on_ray(made(), tastes(), None, cpu(), **on_nodes("nowhere:1", tmp_path, "items", least=1))


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
