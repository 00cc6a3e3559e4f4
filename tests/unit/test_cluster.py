"""Several ranks that train one model: what each draws is its part of what one would draw, and what comes of it is the same."""

import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator

from recsys_ae import MODELS, rank_top_k
from recsys_ae.cluster import fit_by_ranks
from recsys_ae.cluster.job import Job
from recsys_ae.errors import CheckpointError, ModelError
from recsys_ae.models import Recommender
from recsys_ae.training.batches import DeviceHistories, Part
from recsys_ae.training.run import FitRecord, Progress
from tests.worlds import cpu, holdout, small_config, tastes


def test_what_ranks_draw_is_what_one_draws() -> None:
    data, batch = DeviceHistories(tastes(), torch.device("cpu")), torch.tensor([4, 1, 9, 2, 7])
    whole = data.batch(batch)
    kept, noise = whole.kept(0.5, Generator().manual_seed(0)), whole.noise(3, Generator().manual_seed(1))
    lengths = data.indptr.diff()[batch]
    for rank in (0, 1):
        rows = (batch % 2 == rank).nonzero().flatten()
        entries = (batch % 2 == rank).repeat_interleave(lengths).nonzero().flatten()
        mine = replace(data.batch(batch[rows]), part=Part(rows, entries, 5, int(lengths.sum()), len(rows) / 5))
        assert torch.equal(mine.columns, whole.columns[entries])
        assert torch.equal(mine.kept(0.5, Generator().manual_seed(0)), kept[entries])
        assert torch.equal(mine.normalised().noise(3, Generator().manual_seed(1)), noise[rows])


def test_a_job_is_read_as_it_was_written(tmp_path: Path) -> None:
    model = MODELS["mult_vae"](small_config("mult_vae"), 42)
    job, initial = Job(tmp_path), model.initial(Generator().manual_seed(0))
    run = cpu(seed=3, stop_after=2, checkpoint_folder=tmp_path / "c", initial=initial, metric="recall@10")
    job.write("mult_vae", model, tastes(), holdout(), run, "gloo")
    read, validation = job.model(), job.validation()
    assert type(read) is type(model) and read.config == model.config and read.n_items == 42
    assert validation is not None
    for mine, theirs in ((tastes(), job.train()), (holdout().held_out, validation.held_out)):
        assert (mine.items == theirs.items).all() and (mine.indptr == theirs.indptr).all()
        assert mine.times is not None and theirs.times is not None and (mine.times == theirs.times).all()
    told = job.run()
    assert all(torch.equal(told["initial"][name], tensor) for name, tensor in initial.items())
    assert (told["seed"], told["stop_after"], told["metric"], told["checkpoint_folder"]) == (3, 2, "recall@10", tmp_path / "c")
    assert job.finished() is None
    job.finish(initial, FitRecord(epochs=2, losses=[2.0, 1.0]))
    tensors, record = job.finished() or pytest.fail("nothing came of it")
    assert record.losses == [2.0, 1.0] and tensors.keys() == initial.keys()
    job.fail(CheckpointError("it is damaged"))
    with pytest.raises(CheckpointError, match="it is damaged"):
        job.finished()


def test_what_has_no_gradient_steps_is_fitted_here() -> None:
    model = MODELS["ease"](MODELS["ease"].Config(), 42)
    fit_by_ranks(model, tastes(), None, cpu(), workers=4)
    assert model.score(tastes()).isfinite().all()


def made(name: str, **settings: Any) -> Recommender:
    return MODELS[name](small_config(name, epochs=4, **settings), 42)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings"),
    [("mult_vae", {}), ("mult_dae", {"softmax": "sampled", "negatives": 12}), ("rec_vae", {})],
)
def test_a_fit_by_ranks_is_the_fit_by_one(name: str, settings: dict[str, Any]) -> None:
    """Also where a batch of ten has no user of some of the three ranks, and the last batch of an epoch one user alone."""
    train, validation, told = tastes(91), holdout(31), list[Progress]()
    alone, together = made(name, **settings), made(name, **settings)
    expected = alone.fit(train, validation=validation, run=cpu(metric="ndcg@10"))
    record = fit_by_ranks(together, train, validation, cpu(metric="ndcg@10", progress=told.append), workers=3)
    assert record.losses == pytest.approx(expected.losses, rel=1e-4)
    assert record.validation == pytest.approx(expected.validation, rel=1e-3)
    assert [progress.epoch for progress in told] == [1, 2, 3, 4]
    lists = [rank_top_k(model, holdout().fold_in, 10).items for model in (alone, together)]
    assert float((lists[0] == lists[1]).mean()) > 0.99


@pytest.mark.slow
def test_a_rank_that_is_killed_costs_no_more_than_an_epoch(tmp_path: Path) -> None:
    train, expected = tastes(90), made("mult_dae")
    expected.fit(train, validation=None, run=cpu())
    killed = list[int]()

    def kill(progress: Progress) -> None:
        if progress.epoch == 2 and not killed:  # of which the checkpoint is written
            found = subprocess.run(["pgrep", "-f", "recsys_ae.cluster.worker"], capture_output=True, text=True, check=True)
            ranks = [int(pid) for pid in found.stdout.split() if "run" not in _command(int(pid))]
            killed.append(ranks[-1])
            os.kill(ranks[-1], signal.SIGKILL)

    model = made("mult_dae")
    record = fit_by_ranks(model, train, None, cpu(checkpoint_folder=tmp_path, progress=kill), workers=2)
    assert killed and record.epochs == 4
    for name, tensor in model.tensors().items():
        torch.testing.assert_close(tensor, expected.tensors()[name], rtol=1e-3, atol=1e-5)


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").split(" -m ")[1]


@pytest.mark.slow
def test_more_ranks_than_users_are_refused() -> None:
    with pytest.raises(ModelError, match=r"rank 1 of 2 has no users of the 1"):
        fit_by_ranks(made("mult_dae"), tastes(1), None, cpu(), workers=2)


@pytest.mark.slow
def test_a_fit_that_fails_says_why() -> None:
    model = made("conv_vae")
    with pytest.raises(ModelError, match=r"ConvVAE cannot be trained by 2 ranks; expected one"):
        fit_by_ranks(model, tastes(), None, cpu(), workers=2)
