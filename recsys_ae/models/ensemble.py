"""Ensemble: a weighted mixture of fitted models, of their standardised scores (CombSUM of Fox, Shaw 1994, Combination of
Multiple Searches) or of their reciprocal ranks (Cormack, Clarke, Buettcher 2009, Reciprocal Rank Fusion)."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Annotated, ClassVar, Literal, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Generator, Tensor

from recsys_ae.evaluation import parse_metric
from recsys_ae.histories import Histories, Holdout
from recsys_ae.masks import masked_
from recsys_ae.metrics import METRICS
from recsys_ae.models.base import ModelConfig, Recommender
from recsys_ae.models.search import Choice
from recsys_ae.ranking import SCORES_PER_BATCH
from recsys_ae.top_k import top_k
from recsys_ae.training.device import resolve_device
from recsys_ae.training.run import FitRecord, RunContext

T = TypeVar("T")

MEMBERS = ("sparse_ease", "mult_dae", "rp3beta")
BASE = 60  # of reciprocal ranks, 1 / (BASE + rank), as Cormack et al. have it
USERS = 5_000  # of the validation users that weights are chosen on
CANDIDATES = 500  # of each member and user among which the mixture's best are looked for
ROWS = 500  # histories scored at once
STEPS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0)  # weights that are tried
ROUNDS = 3
NEVER = -1e9  # the score of what fills up a row of candidates; finite, so that 0 times it is 0


class Member(BaseModel):
    """`name`, a model, and any key of its Config."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str

    @model_validator(mode="after")
    def _known(self) -> Self:
        self.made(1)
        return self

    def made(self, n_items: int) -> Recommender:
        """The model, unfitted. Raises ValueError for an unknown name or key."""
        from recsys_ae.models import MODELS  # which holds this model too

        known = [name for name in MODELS if MODELS[name] is not Ensemble]
        if self.name not in known:
            raise ValueError(f"member {self.name!r} is unknown; expected one of {', '.join(known)}")
        return MODELS[self.name](MODELS[self.name].Config(**(self.model_extra or {})), n_items)


class EnsembleConfig(ModelConfig):
    """Defaults chosen on validation users; see docs/experiments.md."""

    members: tuple[Member, ...] = Field(default_factory=lambda: tuple(Member(name=n) for n in MEMBERS), min_length=1)
    by: Annotated[Literal["score", "rank"], Choice("score", "rank")] = "score"
    weights: tuple[Annotated[float, Field(ge=0)], ...] | None = None  # one a member; None: chosen on the validation users

    @model_validator(mode="after")
    def _one_weight_a_member(self) -> Self:
        if self.weights is not None and (len(self.weights) != len(self.members) or not sum(self.weights)):
            raise ValueError(f"weights {list(self.weights)}; expected {len(self.members)}, one a member, not all 0")
        return self


class Ensemble(Recommender):
    """score = sum_m w_m s_m, s_m a member's scores less their mean over all items and divided by their standard deviation, or
    1 / (60 + rank). The weights w are chosen on the validation users by the metric of the run, one after another.

    Tensors: those of the members as members.0.NAME, and weights (M,).
    """

    Config: ClassVar[type[ModelConfig]] = EnsembleConfig
    config: EnsembleConfig

    def __init__(self, config: EnsembleConfig, n_items: int) -> None:
        super().__init__(config, n_items)
        self._members = [member.made(n_items) for member in config.members]

    @property
    def members(self) -> tuple[Recommender, ...]:
        """The models that are mixed."""
        return tuple(self._members)

    def fit(self, train: Histories, *, validation: Holdout | None, run: RunContext) -> FitRecord:
        self._require_width(train)
        self._tensors = {}
        records = [self._fit(number, train, validation, run) for number in range(len(self._members))]
        weights = list(self.config.weights or ())
        if not weights and run.found is not None:
            weights = run.found.weights
        if not weights and validation is not None and len(validation):
            judged = self._members if run.placed is None else [run.placed(member) for member in self._members]
            weights = chosen_weights(judged, self.config.by, validation, run.metric)
        weights = weights or [1.0] * len(self._members)
        found = as_members(member.tensors() for member in self._members)
        self.restore(found | {"weights": torch.tensor(weights, device=resolve_device(run.device))})
        seconds: dict[str, float] = {}
        for record in records:
            for part, spent in record.seconds.items():
                seconds[part] = seconds.get(part, 0.0) + spent
        return FitRecord(
            precision="bfloat16" if any(r.precision == "bfloat16" for r in records) else "float32",
            device=str(resolve_device(run.device)),
            weights=weights,
            members=records,
            seconds=seconds,
        )

    def _fit(self, number: int, train: Histories, validation: Holdout | None, run: RunContext) -> FitRecord:
        found = run.found.members[number] if run.found else None
        own = replace(
            run,
            progress=None if run.progress is None else lambda p: run.progress(replace(p, validation=None)),  # type: ignore[misc]
            checkpoint_folder=run.checkpoint_folder and run.checkpoint_folder / f"member-{number}",
            initial=run.initial and _of_member(number, run.initial),
            stop_after=run.stop_after if found is None else found.best_epoch or None,
            found=found,
        )
        return self._members[number].fit(train, validation=validation, run=own)

    def restore(self, tensors: Mapping[str, Tensor]) -> Self:
        super().restore(tensors)
        for number, member in enumerate(self._members):
            member.restore(_of_member(number, tensors))
        return self

    def initial(self, generator: Generator) -> dict[str, Tensor]:
        return as_members(member.initial(generator) for member in self._members)

    def layout(self) -> dict[str, int | None]:
        return as_members(member.layout() for member in self._members) | {"weights": None}

    def _score(self, histories: Histories, items: Tensor | None) -> Tensor:
        weights = self._tensors["weights"]
        total = torch.zeros(len(histories), self.n_items, device=weights.device)
        for weight, member in zip(weights.tolist(), self._members, strict=True):
            if weight:
                total += weight * comparable(member.score(histories), self.config.by)
        return total if items is None else total[:, items.to(total.device)]


def as_members(of_each: Iterable[Mapping[str, T]]) -> dict[str, T]:
    """What each member has by name, by the names that it has in the ensemble."""
    return {f"members.{n}.{name}": value for n, own in enumerate(of_each) for name, value in own.items()}


def _of_member(number: int, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One member's tensors by its own names."""
    prefix = f"members.{number}."
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def comparable(scores: Tensor, by: Literal["score", "rank"]) -> Tensor:
    """Scores (B, I) of one model as another's can be added to, (B, I)."""
    if by == "rank":
        return 1 / (BASE + scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1) + 1.0)
    centred = scores - scores.mean(1, keepdim=True)
    return centred / centred.square().mean(1, keepdim=True).sqrt().clamp_min(1e-12)


def chosen_weights(members: list[Recommender], by: Literal["score", "rank"], validation: Holdout, metric: str) -> list[float]:
    """The weight of each member that serves the validation users best; the best alone is where the search begins."""
    judge = _Judge(members, by, validation, metric)
    alone = [[float(n == m) for n in range(len(members))] for m in range(len(members))]
    best, weights = max((judge(w), w) for w in alone)
    for _ in range(ROUNDS):
        before = best
        for m in range(len(members)):
            tried = ([*weights[:m], step, *weights[m + 1 :]] for step in STEPS)
            for candidate in (w for w in tried if any(w)):
                if (value := judge(candidate)) > best:
                    best, weights = value, candidate
        if best == before:
            break
    return weights


class _Judge:
    """The metric of any weights on the validation users, among the items that a member ranks high."""

    def __init__(self, members: list[Recommender], by: Literal["score", "rank"], validation: Holdout, metric: str) -> None:
        base, self.k = parse_metric(metric)
        self.metric = METRICS[base]
        users = slice(0, USERS)
        fold_in, held_out = validation.fold_in.take(users), validation.held_out.take(users)
        self.counts = held_out.lengths
        rows = max(1, min(ROWS, SCORES_PER_BATCH[members[0].device.type] // fold_in.n_items))
        blocks = [slice(start, start + rows) for start in range(0, len(fold_in), rows)]
        parts = [_candidates(members, by, fold_in.take(b), held_out.take(b), validation.allow, self.k) for b in blocks]
        self.scores = torch.cat([scores for scores, _ in parts])  # (U, C, M)
        self.wanted = torch.cat([wanted for _, wanted in parts])  # (U, C)

    def __call__(self, weights: Iterable[float]) -> float:
        mixed = self.scores @ torch.tensor(list(weights), device=self.scores.device)
        best = top_k(mixed, self.k)[1]
        return float(self.metric(self.wanted.gather(1, best).cpu().numpy(), self.counts, self.k).mean())


def _candidates(
    members: list[Recommender],
    by: Literal["score", "rank"],
    fold_in: Histories,
    held_out: Histories,
    allow: NDArray[np.bool_] | None,
    k: int,
) -> tuple[Tensor, Tensor]:
    """Every member's comparable scores of the items that any member ranks high, (B, C, M), and which were held out (B, C)."""
    scored = [comparable(member.score(fold_in), by) for member in members]
    high = min(max(k, CANDIDATES), fold_in.n_items)
    banned = None if allow is None else torch.from_numpy(~allow).to(scored[0].device)
    pool = torch.zeros_like(scored[0], dtype=torch.bool)
    for scores in scored:
        values, columns = masked_(scores.clone(), [fold_in], banned).topk(high)
        pool.scatter_(1, columns, pool.gather(1, columns) | (values > -torch.inf))
    rows, columns = pool.nonzero(as_tuple=True)
    places = torch.arange(len(rows), device=rows.device) - (pool.sum(1).cumsum(0) - pool.sum(1))[rows]
    found = scored[0].new_full((len(fold_in), len(members) * high, len(members)), NEVER)
    wanted = torch.zeros(found.shape[:2], dtype=torch.bool, device=found.device)
    found[rows, places] = torch.stack([scores[rows, columns] for scores in scored], 1)
    targets = torch.from_numpy(held_out.rows * held_out.n_items + held_out.items).to(found.device)
    wanted[rows, places] = torch.isin(rows * held_out.n_items + columns, targets)
    return found, wanted
