"""Several ranks that train one model: what each draws is its part of what one would draw, and what comes of it is the same."""

import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Generator

from recsys_ae import MODELS, rank_top_k
from recsys_ae.cluster import fit_by_ranks
from recsys_ae.cluster.job import Job
from recsys_ae.errors import CheckpointError, ModelError
from recsys_ae.histories import Histories, Holdout
from recsys_ae.ids import IdMap
from recsys_ae.models import Recommender, autoencoder
from recsys_ae.training.batches import DeviceHistories, OwnItems, Part
from recsys_ae.training.ranks import Ranks
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


def test_what_a_rank_has_of_its_items_is_its_part_of_a_batch() -> None:
    """Entry by entry, where each stands in the whole batch; users without any of the rank's items included."""
    train, batch = tastes(), torch.tensor([4, 1, 9, 2, 7])
    whole = DeviceHistories(train, torch.device("cpu")).batch(batch)
    places = []
    for rank in range(5):
        ranks = Ranks(rank, 5, "items")
        bags = OwnItems.of(train, torch.device("cpu"), ranks).batch(batch)
        assert bags.part is not None and (bags.part.n_rows, bags.part.n_entries) == (5, len(whole.columns))
        assert torch.equal(bags.columns * 5 + rank, whole.columns[bags.part.entries])
        assert torch.equal(bags.rows, whole.rows[bags.part.entries])
        assert torch.equal(
            bags.kept(0.5, Generator().manual_seed(0)), whole.kept(0.5, Generator().manual_seed(0))[bags.part.entries]
        )
        places.append(bags.part.entries)
    assert torch.equal(torch.cat(places).sort().values, torch.arange(len(whole.columns)))


@pytest.mark.parametrize("items", [5, 63, 64, 65, 127, 128, 129, 200, 1_000])
def test_a_rank_draws_the_rows_of_its_items_as_one_draws_all(items: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autoencoder, "ROWS_DRAWN", 64)
    model = MODELS["mult_dae"](small_config("mult_dae", tied=False, hidden=(3,), latent=2), items)
    whole = model.initial(Generator().manual_seed(0))
    for rank in range(3):
        model._ranks = Ranks(rank, 3, "items")
        own = model.initial(Generator().manual_seed(0))
        for name, axis in model.layout().items():
            assert torch.equal(own[name], whole[name] if axis is None else whole[name][rank::3])


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
    assert job.finished() is None and not job.ended
    job.keep(initial, 0)
    job.finish(FitRecord(epochs=2, losses=[2.0, 1.0]))
    assert job.ended
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
    ("share", "name", "settings"),
    [
        ("users", "mult_vae", {}),
        ("users", "mult_dae", {"softmax": "sampled", "negatives": 12}),
        ("users", "rec_vae", {}),
        ("items", "mult_vae", {}),
        ("items", "mult_dae", {"hidden": (8,), "tied": False, "target": "all"}),
        ("items", "autorec", {}),
        ("items", "rec_vae", {}),
        ("items", "h_vamp", {}),
    ],
)
def test_a_fit_by_ranks_is_the_fit_by_one(share: Literal["users", "items"], name: str, settings: dict[str, Any]) -> None:
    """Also where a batch of ten has no user of some of the three ranks, and the last batch of an epoch one user alone."""
    train, validation, told = tastes(91), holdout(31), list[Progress]()
    alone, together = made(name, **settings), made(name, **settings)
    expected = alone.fit(train, validation=validation, run=cpu(metric="ndcg@10"))
    record = fit_by_ranks(together, train, validation, cpu(metric="ndcg@10", progress=told.append), 3, share=share)
    assert record.losses == pytest.approx(expected.losses, rel=1e-4)
    assert record.validation == pytest.approx(expected.validation, rel=1e-3)
    assert [progress.epoch for progress in told] == [1, 2, 3, 4]
    lists = [rank_top_k(model, holdout().fold_in, 10).items for model in (alone, together)]
    assert float((lists[0] == lists[1]).mean()) > 0.99


@pytest.mark.slow
def test_ranks_that_draw_of_their_own_items_learn_what_one_learns() -> None:
    """Other draws, so another fit: planted tastes are found all the same."""
    model = MODELS["mult_dae"](small_config("mult_dae", softmax="sampled", negatives=12, epochs=30), 42)
    record = fit_by_ranks(model, tastes(300), holdout(31), cpu(metric="ndcg@10"), 2, share="items")
    assert record.softmax == "sampled" and record.losses[-1] < record.losses[0]
    assert max(record.validation) > 0.8 * max(_alone(300))


def _alone(users: int) -> list[float]:
    model = MODELS["mult_dae"](small_config("mult_dae", epochs=30), 42)
    return model.fit(tastes(users), validation=holdout(31), run=cpu(metric="ndcg@10")).validation


@pytest.mark.slow
@pytest.mark.parametrize("share", ["users", "items"])
def test_a_rank_that_is_killed_costs_no_more_than_an_epoch(share: Literal["users", "items"], tmp_path: Path) -> None:
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
    record = fit_by_ranks(model, train, None, cpu(checkpoint_folder=tmp_path, progress=kill), 2, share=share)
    assert killed and record.epochs == 4
    for name, tensor in model.tensors().items():
        torch.testing.assert_close(tensor, expected.tensors()[name], rtol=1e-3, atol=1e-5)


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").split(" -m ")[1]


@pytest.mark.slow
def test_lists_of_shards_go_by_the_same_blocks_on_every_rank() -> None:
    """9,999 items and 3,400 validation users: by its own items a rank would take 3,355 of them at once, the other 3,356."""
    rng = np.random.default_rng(0)
    rows = Histories.from_rows([rng.choice(9_999, 6, replace=False).tolist() for _ in range(3_400)], 9_999)
    first = np.arange(6 * 3_400) % 6 < 4
    judged = Holdout(IdMap(tuple(range(3_400))), rows.select(first), rows.select(~first))
    alone, together = (MODELS["mult_dae"](small_config("mult_dae", epochs=1), 9_999) for _ in range(2))
    expected = alone.fit(rows, validation=judged, run=cpu(metric="recall@100"))
    record = fit_by_ranks(together, rows, judged, cpu(metric="recall@100"), 2, share="items")
    assert record.validation == pytest.approx(expected.validation, rel=0.02)


@pytest.mark.slow
def test_a_rank_whose_checkpoint_is_damaged_is_told_of_by_all(tmp_path: Path) -> None:
    run = cpu(checkpoint_folder=tmp_path)
    fit_by_ranks(made("mult_dae"), tastes(90), None, run, 2, share="items")
    path = next((tmp_path / "rank-1").glob("*/checkpoint.safetensors"))
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(CheckpointError, match=r"rank-1.*damaged.*delete it to train from the start"):
        fit_by_ranks(made("mult_dae"), tastes(90), None, run, 2, share="items")


@pytest.mark.slow
def test_more_ranks_than_users_are_refused() -> None:
    with pytest.raises(ModelError, match=r"rank 1 of 2 has no users of the 1"):
        fit_by_ranks(made("mult_dae"), tastes(1), None, cpu(), workers=2)


@pytest.mark.slow
def test_a_fit_that_fails_says_why() -> None:
    model = made("conv_vae")
    with pytest.raises(ModelError, match=r"ConvVAE cannot be trained by 2 ranks; expected one"):
        fit_by_ranks(model, tastes(), None, cpu(), workers=2)


@pytest.mark.parametrize("name", ["elsa", "vasp"])
def test_items_of_a_model_that_they_meet_in_elsewhere_are_not_shared_out(name: str) -> None:
    with pytest.raises(ModelError, match=r'cannot be shared out among ranks; expected share = "users"'):
        made(name).fit(tastes(), validation=None, run=cpu(world_size=2, shared="items"))


def test_more_ranks_than_items_are_refused() -> None:
    with pytest.raises(ModelError, match="43 ranks for 42 items; expected no more ranks than items"):
        made("mult_dae").fit(tastes(), validation=None, run=cpu(world_size=43, shared="items"))


def test_cold_items_are_not_left_unplaced_in_silence() -> None:
    """A job does not hand on what places them."""
    with pytest.raises(ModelError, match=r"cold items are not placed while 2 ranks train"):
        fit_by_ranks(made("mult_dae"), tastes(), holdout(), cpu(placed=lambda model: model), 2)
