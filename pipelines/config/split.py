"""[split]: what is trained on, and what is held out."""

import datetime
from typing import Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from pipelines.config.base import Paths, Section, without_secret

Share = int | float
Moment = datetime.datetime | datetime.date | int
KINDS_WITH = {
    "by": ("strong_generalization", "item_hold_out"),
    "salt": ("strong_generalization", "item_hold_out"),
    "validation_items": ("item_hold_out",),
    "test_items": ("item_hold_out",),
    "windows": ("by_time",),
}
"""The kinds of split to which a key says something; any other kind refuses it."""


class SplitSection(Section):
    """The protocol of evaluation."""

    kind: Literal["strong_generalization", "by_time", "given", "leave_last_out", "item_hold_out"] = "strong_generalization"
    by: Literal["seed", "hash"] = "seed"
    salt: str | None = Field(None, min_length=1)
    validation_users: Share = 0.1
    test_users: Share = 0.1
    validation_items: Share = 0.1
    test_items: Share = 0.1
    held_out_fraction: float = Field(0.2, gt=0, lt=1)
    validation_from: Moment | None = None
    test_from: Moment | None = None
    validation_fraction: float = Field(0.1, gt=0, lt=1)
    test_fraction: float = Field(0.1, gt=0, lt=1)
    windows: PositiveInt = 1
    train: Paths | None = None
    test: Paths | None = None
    refit: bool = True

    _no_secret = field_validator("train", "test")(without_secret)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for name in ("validation_users", "test_users", "validation_items", "test_items"):
            value = getattr(self, name)
            if value <= 0 or (isinstance(value, float) and value >= 1):
                what = name.partition("_")[2]
                raise ValueError(f"{name} is {value}; expected a number of {what}, or a fraction between 0 and 1")
        for name, kinds in KINDS_WITH.items():
            if name in self.model_fields_set and self.kind not in kinds:
                raise ValueError(f"{name} means nothing to kind {self.kind!r}; expected {' or '.join(map(repr, kinds))}")
        if self.by == "hash" and self.salt is None:
            raise ValueError('by = "hash" needs a salt, any text of your own')
        if self.by == "hash":
            what = "items" if self.kind == "item_hold_out" else "users"
            shares = {name: getattr(self, name) for name in (f"validation_{what}", f"test_{what}")}
            for name, share in shares.items():
                if not isinstance(share, float):
                    raise ValueError(
                        f'{name} is {share}; with by = "hash" expected a fraction: a number would move {what} as the log grows'
                    )
            if sum(shares.values()) >= 1:
                raise ValueError(f"{' and '.join(shares)} leave nothing to train on; expected a sum below 1")
        if self.by == "seed" and self.salt is not None:
            raise ValueError('salt needs by = "hash"; drawn by seed, nothing is salted')
        if bool(self.train) != bool(self.test):
            raise ValueError("one of train and test is set; expected both, two files")
        if self.kind == "by_time" and self.validation_fraction + self.test_fraction >= 1:
            raise ValueError("validation_fraction and test_fraction leave nothing to train on")
        return self
