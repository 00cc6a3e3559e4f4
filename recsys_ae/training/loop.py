"""The loop: shuffled epochs, early stopping on validation, best weights kept, a checkpoint after every epoch."""

import hashlib
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Literal, Protocol

import torch
from torch import Generator, Tensor

from recsys_ae.errors import ModelError
from recsys_ae.histories import Histories
from recsys_ae.training.batches import Bags, DeviceHistories, OwnItems, Part, Rows, SparseRows
from recsys_ae.training.checkpoint import Checkpoint, Checkpoints
from recsys_ae.training.device import resolve_precision
from recsys_ae.training.ranks import ALONE, Ranks
from recsys_ae.training.run import FitRecord, Progress, RunContext
from recsys_ae.training.sampling import Sampling
from recsys_ae.training.steps import SampledSteps, Steps, WholeSteps

STEPS_PER_EPOCH = 50  # at least, with batch_size = "auto"
LARGEST_BATCH = 500
GATHERED = 16  # batches whose entries are put in order at once; all of an epoch would be the data a second time
LEAST_STEPS = 500  # early stopping of a cold fit waits for so many


class TrainingSettings(Protocol):
    """The hyperparameters that the loop itself reads."""

    @property
    def batch_size(self) -> int | Literal["auto"]: ...
    @property
    def epochs(self) -> int: ...
    @property
    def patience(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def schedule(self) -> Literal["constant", "cosine"]: ...
    @property
    def weight_decay(self) -> float: ...


Objective = Callable[[dict[str, Tensor], Bags, float, Generator], Tensor]
"""(parameters, batch, share of all steps done, 1 in a warm fit, generator) -> scalar loss."""

Passes = Callable[[dict[str, Tensor]], Sequence[Objective]]
"""parameters at the beginning of an epoch -> the objectives of its walks over all rows, in order, as many in every epoch.

What an objective detaches has no gradient in its walk: the optimiser leaves it and its moments alone.
"""


def automatic_batch_size(n_users: int) -> int:
    """As many users as leave at least 50 steps an epoch, at most 500: serves six hundred users as well as a million."""
    return max(1, min(LARGEST_BATCH, n_users // STEPS_PER_EPOCH))


@dataclass
class _State:
    """Where a run stands between two epochs."""

    epoch: int = 0
    step: int = 0
    best_epoch: int = 0
    best: float = -math.inf
    precision: str = ""
    losses: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - begin


def train(
    parameters: dict[str, Tensor],
    passes: Passes,
    histories: Histories,
    validate: Callable[[dict[str, Tensor]], float] | None,
    settings: TrainingSettings,
    run: RunContext,
    generator: Generator,
    key: str,
    rows: Rows = DeviceHistories,
    by_item: frozenset[str] = frozenset(),
    negatives: int | None = None,
) -> FitRecord:
    """Train `parameters` in place; they end as the best epoch's where there is validation, else as the last one's.

    Args:
        parameters: leaf tensors by name, on the device.
        passes: the objectives of an epoch; each draws from the generator it is given and from no other.
        histories: training rows (B, I); rows without interactions are left out.
        validate: mean validation metric of parameters, higher is better.
        generator: on the same device; shuffles rows and feeds the objective.
        key: names model and configuration; a checkpoint is resumed from only by the same key, data and seed.
        rows: as what the batches are given: folded rows, or the events in order.
        by_item: the tensors whose first axis is items.
        negatives: draws of a step beside its batch's items, of a catalogue so large that a step cannot train all of it.
    """
    state = _State()
    device = generator.device
    ranks = Ranks.of(run)
    by_users = ALONE if ranks.by_items else ranks  # who has the other users
    data: SparseRows
    if ranks.by_items:
        data = OwnItems.of(histories, device, ranks)
    else:
        data = rows(histories if ranks.alone else histories.take(ranks.mine(len(histories))), device)
    users = torch.from_numpy(histories.lengths.nonzero()[0]).to(device)
    lengths = None if by_users.alone else _stored_lengths(data, len(histories), ranks)
    batch_size = automatic_batch_size(len(users)) if settings.batch_size == "auto" else settings.batch_size
    n_passes = len(passes(parameters))
    total_steps = max(1, settings.epochs * n_passes * math.ceil(len(users) / batch_size))
    cold = run.initial is None  # what an earlier fit has left is annealed, and past the slow beginning
    least_steps = LEAST_STEPS if cold else 0
    last_epoch = settings.epochs if run.stop_after is None else min(settings.epochs, run.stop_after)

    in_common = [tensor for name, tensor in parameters.items() if not (ranks.by_items and name in by_item)]
    ranks.agree(in_common)
    for tensor in parameters.values():
        tensor.requires_grad_(True)
    steps: Steps
    if negatives is None:
        steps = WholeSteps(parameters, settings.weight_decay, by_users)
    else:
        n_items = histories.n_items
        if ranks.by_items:  # each draws of its own
            n_items, negatives = len(range(n_items)[ranks.mine(n_items)]), math.ceil(negatives / ranks.size)
        sampling = Sampling(data, len(users), n_items, batch_size, negatives, by_users)
        steps = SampledSteps(parameters, by_item, sampling, settings.weight_decay, by_users)
    best = {name: t.detach().clone() for name, t in parameters.items()} if validate else {}
    run_key = f"{key} {digest_of_histories(histories)} {run.seed} {run.precision} {run.metric} {run.stop_after} {device.type}"
    checkpoints = Checkpoints(run.checkpoint_folder, run_key, ranks) if run.checkpoint_folder else None
    if checkpoints is not None and (checkpoint := checkpoints.latest()):
        _resume(checkpoint, parameters, best, steps, generator, state)
    with state.timed("probing"):  # a resumed run stays with the precision that it found before
        dtype = torch.bfloat16 if state.precision == "bfloat16" else torch.float32
        if not state.precision:
            narrow = resolve_precision(run.precision, device) == torch.bfloat16
            dtype = torch.bfloat16 if ranks.total(narrow) == ranks.size else torch.float32
            state.precision = str(dtype).removeprefix("torch.")

    try:
        while state.epoch < last_epoch and not (validate and _exhausted(state, settings.patience, least_steps)):
            with state.timed("training"):
                loss_sum = torch.zeros((), device=device)
                batches = _Batches(data, users, batch_size, by_users, lengths)
                for objective, bags in batches.of_epoch(passes(parameters), steps, generator):
                    share = state.step / total_steps
                    rate = settings.learning_rate * _learning_rate_factor(settings.schedule, share)
                    loss = partial(_loss, objective, share if cold else 1.0, generator, dtype)
                    loss_sum += steps.step(parameters, bags, loss, rate, generator) * len(bags)
                    state.step += 1
                by_users.add([loss_sum])
                state.losses.append(float(loss_sum) / max(n_passes * len(users), 1))
                if not math.isfinite(state.losses[-1]):
                    raise ModelError(
                        f"training diverged: the loss of epoch {state.epoch + 1} is {state.losses[-1]} at learning_rate "
                        f"{settings.learning_rate}; expected a finite loss, so try a lower rate"
                    )
            state.epoch += 1
            if ranks.by_items:
                ranks.agree(in_common)  # which all have trained alike, up to how each of them rounds
            if validate:
                with state.timed("validation"):
                    state.validation.append(validate(parameters))
                if state.validation[-1] > state.best:
                    state.best, state.best_epoch = state.validation[-1], state.epoch
                    for name, tensor in parameters.items():
                        best[name].copy_(tensor.detach())
            if checkpoints is not None and (ranks.rank == 0 or ranks.by_items):
                with state.timed("checkpoints"):
                    checkpoints.save(_checkpoint_tensors(parameters, best, steps, generator), _as_json(state))
            if run.progress and ranks.rank == 0:
                latest = state.validation[-1] if state.validation else None
                run.progress(Progress(state.epoch, last_epoch, state.losses[-1], latest))
    finally:  # also where a fit is interrupted: no tensor is left that records gradients
        for tensor in parameters.values():
            tensor.requires_grad_(False).grad = None
    for name, tensor in best.items():
        parameters[name].copy_(tensor)
    return FitRecord(
        best_epoch=state.best_epoch if validate else state.epoch,
        epochs=state.epoch,
        losses=state.losses,
        validation=state.validation,
        batch_size=batch_size,
        device=str(device),
        precision=state.precision,
        softmax="exact" if negatives is None else "sampled",
        seconds=dict(state.seconds),
    )


@dataclass(frozen=True)
class _Batches:
    """The batches of all users. `lengths` (U,), of several ranks: the stored entries of each user, whoever has them."""

    data: SparseRows
    users: Tensor
    size: int
    ranks: Ranks
    lengths: Tensor | None

    def of_epoch(self, walks: Sequence[Objective], steps: Steps, generator: Generator) -> Iterator[tuple[Objective, Bags]]:
        """Every batch of an epoch with its objective: each walk takes all users in an order of its own."""
        for objective in walks:
            steps.begin_walk()
            order = self.users[torch.randperm(len(self.users), generator=generator, device=self.users.device)]
            for rows in torch.split(order, GATHERED * self.size) if len(order) else ():
                for bags in self._gathered(rows):
                    yield objective, bags

    def _gathered(self, rows: Tensor) -> Iterator[Bags]:
        if self.lengths is None:
            return self.data.batches(rows, self.size)
        return (self._mine(batch) for batch in torch.split(rows, self.size))

    def _mine(self, batch: Tensor) -> Bags:
        """This rank's part of a batch of users."""
        assert self.lengths is not None
        lengths = self.lengths[batch]
        mine = batch % self.ranks.size == self.ranks.rank
        n_rows, n_entries = len(batch), int(lengths.sum())
        if mine.any():
            rows, entries = mine.nonzero().squeeze(1), mine.repeat_interleave(lengths).nonzero().squeeze(1)
            bags = self.data.batch(batch[rows] // self.ranks.size)
            return replace(bags, part=Part(rows, entries, n_rows, n_entries, len(rows) / n_rows))
        bags = self.data.batch(self.stand_in)
        nowhere = torch.zeros_like(bags.columns, dtype=torch.int64)
        return replace(bags, part=Part(nowhere[:1], nowhere, n_rows, n_entries, 0.0))

    @cached_property
    def stand_in(self) -> Tensor:
        """A row of this rank's that has entries, (1,)."""
        return self.data.indptr.diff().nonzero().flatten()[:1]


def _stored_lengths(data: SparseRows, n_users: int, ranks: Ranks) -> Tensor:
    """The stored entries of every user, (U,), of which each rank knows its own."""
    lengths = torch.zeros(n_users, dtype=torch.int64, device=data.indptr.device)
    lengths[ranks.mine(n_users)] = data.indptr.diff()
    ranks.add([lengths])
    for rank in range(ranks.size):
        if not lengths[rank :: ranks.size].any():
            raise ModelError(f"rank {rank} of {ranks.size} has no users of the {n_users}; expected fewer ranks, or more users")
    return lengths


def _loss(
    objective: Objective, share: float, generator: Generator, dtype: torch.dtype, parameters: dict[str, Tensor], bags: Bags
) -> Tensor:
    """The loss of a batch, with products in the precision of the run."""
    with torch.autocast(generator.device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        return objective(parameters, bags, share, generator)


def _exhausted(state: _State, patience: int, least_steps: int) -> bool:
    return state.epoch - state.best_epoch >= patience and state.step >= least_steps


def _learning_rate_factor(schedule: Literal["constant", "cosine"], share: float) -> float:
    return 1.0 if schedule == "constant" else 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


def digest_of_histories(histories: Histories) -> str:
    """Content of histories, as part of a checkpoint's key."""
    digest = hashlib.sha256(str(histories.n_items).encode())
    for array in (histories.indptr, histories.items, histories.weights):
        digest.update(array.tobytes())
    return digest.hexdigest()


def _as_json(state: _State) -> dict[str, Any]:
    return {**vars(state), "seconds": dict(state.seconds), "best": state.best if state.best_epoch else None}


def _checkpoint_tensors(
    parameters: dict[str, Tensor], best: dict[str, Tensor], steps: Steps, generator: Generator
) -> dict[str, Tensor]:
    return {
        **{f"parameter.{name}": t for name, t in parameters.items()},
        **{f"best.{name}": t for name, t in best.items()},
        **steps.tensors(),
        "generator": generator.get_state(),
    }


def _resume(
    checkpoint: Checkpoint,
    parameters: dict[str, Tensor],
    best: dict[str, Tensor],
    steps: Steps,
    generator: Generator,
    state: _State,
) -> None:
    with torch.no_grad():
        for name, tensor in parameters.items():
            tensor.copy_(checkpoint.tensors[f"parameter.{name}"])
        for name, tensor in best.items():
            tensor.copy_(checkpoint.tensors[f"best.{name}"])
    steps.restore(checkpoint.tensors)
    generator.set_state(checkpoint.tensors["generator"])
    saved = checkpoint.state
    state.seconds.update(saved.pop("seconds"))
    state.best = -math.inf if saved["best"] is None else saved["best"]
    for name in ("epoch", "step", "best_epoch", "losses", "validation", "precision"):
        setattr(state, name, saved[name])
