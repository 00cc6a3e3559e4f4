"""The gate: tonight's twin beside the current model's twin, on the same fresh rows of users that neither was trained on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from recsys_ae.evaluation import Evaluation
from recsys_ae.significance import paired_bootstrap

FEW_USERS = 100
"""Held-out users below which the gate may refuse an equal model or pass a damaged one (benchmarks/gate.py)."""


@dataclass(frozen=True)
class Verdict:
    """Whether tonight's model may be published, and why not; figures are means of the metric over users."""

    passed: bool
    reasons: tuple[str, ...]
    metric: str
    candidate: str
    mean: float
    popularity: float
    current: float | None
    ratio: float | None  # of the candidate to the current model
    difference_ci95: tuple[float, float] | None  # of the candidate less the current model, by user
    users: int = 0  # that were held out

    def as_json(self) -> dict[str, Any]:
        """As run.json has it."""
        return asdict(self)

    @property
    def warnings(self) -> list[str]:
        """What is to be thought of it."""
        few = f"the gate judged {self.users} held-out users; below {FEW_USERS} chance decides: expected a larger test_users"
        return [few] if self.users < FEW_USERS else []

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "Verdict":
        """The inverse, lists being tuples again."""
        known = {name: found[name] for name in cls.__dataclass_fields__ if name in found}
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in known.items()}
        return cls(**values)


def judge(
    candidate: str,
    evaluation: Evaluation,
    popularity: Evaluation,
    current: Evaluation | None,
    *,
    metric: str,
    min_ratio: float,
    seed: int,
    unfair: str | None = None,
) -> Verdict:
    """It passes if it beats popularity, and is not worse than `min_ratio` of the current model; all on the same users.

    unfair: why the current model may have been trained on them. Then nothing can be said, and it does not pass.
    """
    mean, base = evaluation.scores[metric].mean, popularity.scores[metric].mean
    reasons = []
    if not mean > base:
        reasons.append(f"{candidate} reaches {metric} {mean:.4f}, no more than popularity's {base:.4f}")
    now = ratio = interval = None
    if current is not None:
        now = current.scores[metric].mean
        ratio = mean / now if now else None
        low, high = paired_bootstrap(evaluation.per_user[metric] - current.per_user[metric], seed=seed)[0]
        interval = (float(low), float(high)) if np.isfinite(low) else None
        if unfair is not None:
            reasons.append(
                f"the current model cannot be compared: {unfair}; expected --force once, to begin anew with tonight's"
            )
        elif mean < min_ratio * now:
            reasons.append(
                f"{candidate} reaches {metric} {mean:.4f}, the current model {now:.4f}: "
                f"a ratio of {mean / now:.4f}, expected at least {min_ratio:g}"
            )
    return Verdict(
        not reasons, tuple(reasons), metric, candidate, mean, base, now, ratio, interval, len(evaluation.per_user[metric])
    )
