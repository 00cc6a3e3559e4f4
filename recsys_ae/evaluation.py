"""evaluate(): a model against held-out users. Everything a report needs is in the Evaluation that comes back."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recsys_ae.errors import ConfigError, DataError
from recsys_ae.histories import Holdout
from recsys_ae.metrics import METRICS, coverage
from recsys_ae.ranking import Ranking, hits, rank_top_k

if TYPE_CHECKING:
    from recsys_ae.models.base import Recommender

Z95 = 1.959963984540054  # the 97.5 % point of the standard normal


class Score(NamedTuple):
    """A mean over users with its standard error and normal 95 % interval; of coverage, one number of all lists, neither."""

    mean: float
    se: float | None
    ci95: tuple[float, float] | None
    users: int

    def as_json(self) -> dict[str, Any]:
        """As evaluation.json has it."""
        return {"mean": self.mean, "se": self.se, "ci95": list(self.ci95) if self.ci95 else None, "users": self.users}


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One model on one holdout: per-user arrays (U,) by metric name, coverage by name, and seconds spent scoring."""

    per_user: dict[str, NDArray[np.float64]]
    coverage: dict[str, float]
    score_seconds: float

    @property
    def users(self) -> int:
        """Number of users judged."""
        return len(next(iter(self.per_user.values())))

    @cached_property
    def scores(self) -> dict[str, Score]:
        """Each metric's mean, standard error, interval and number of users."""
        found = {name: summarise(values) for name, values in self.per_user.items()}
        return found | {name: Score(value, None, None, self.users) for name, value in self.coverage.items()}


def summarise(values: NDArray[np.float64]) -> Score:
    """Mean of per-user values (U,), standard error (0 for a single user) and normal 95 % interval."""
    mean = float(values.mean())
    se = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
    return Score(mean, se, (mean - Z95 * se, mean + Z95 * se), len(values))


def evaluate(
    model: "Recommender", holdout: Holdout, ks: tuple[int, ...] = (10, 20, 50, 100), batch_size: int | None = None
) -> Evaluation:
    """Rank all items for each held-out user from the fold-in alone, and judge the lists by every metric at every k.

    Where the holdout has candidates, they alone are ranked.

    Raises DataError without users. The result does not depend on `batch_size`.
    """
    begin = time.perf_counter()
    ranking = rank_top_k(model, holdout.fold_in, max(ks), allow=holdout.allow, batch_size=batch_size)
    seconds = time.perf_counter() - begin
    return judge(ranking, holdout, ks, seconds)


def judge(ranking: Ranking, holdout: Holdout, ks: tuple[int, ...], score_seconds: float = 0.0) -> Evaluation:
    """Judge lists (U, K), K at least max(ks) or the catalogue, however they were made."""
    if not len(holdout):
        raise DataError("no held-out user to judge; expected at least one with a history and a target")
    found, n_held_out = hits(ranking, holdout.held_out), holdout.held_out.lengths
    per_user = {f"{name}@{k}": metric(found, n_held_out, k) for name, metric in METRICS.items() for k in sorted(ks)}
    covered = {f"coverage@{k}": coverage(ranking.items, holdout.n_candidates, k) for k in sorted(ks)}
    return Evaluation(per_user, covered, score_seconds)


def pooled(parts: Sequence[Evaluation]) -> Evaluation:
    """One model's evaluations on several holdouts as one: every user of each counts once, coverage is the mean of theirs."""
    if len(parts) == 1:
        return parts[0]
    per_user = {name: np.concatenate([part.per_user[name] for part in parts]) for name in parts[0].per_user}
    covered = {name: float(np.mean([part.coverage[name] for part in parts])) for name in parts[0].coverage}
    return Evaluation(per_user, covered, sum(part.score_seconds for part in parts))


def parse_metric(name: str) -> tuple[str, int]:
    """`ndcg@100` -> ("ndcg", 100). Raises ConfigError."""
    base, _, k = name.partition("@")
    if base not in METRICS or not (k.isascii() and k.isdigit()) or int(k) < 1:
        raise ConfigError(f"metric {name!r} is unknown; expected one of {', '.join(METRICS)} with @k, like ndcg@100")
    return base, int(k)


def mean_metric(model: "Recommender", holdout: Holdout, name: str) -> float:
    """The mean of one metric: what early stopping watches."""
    base, k = parse_metric(name)
    ranking = rank_top_k(model, holdout.fold_in, k, allow=holdout.allow)
    return float(METRICS[base](hits(ranking, holdout.held_out), holdout.held_out.lengths, k).mean())
