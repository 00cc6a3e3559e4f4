"""What a generated world is like: every parameter on one line, frozen, unknown keys refused."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

DAY = 86_400  # seconds


class Attack(BaseModel):
    """Fake users (Mobasher et al., Toward Trustworthy Recommender Systems, 2007), or bots that click a lot.

    Every profile of a shilling attack holds the targets, rated highest (push) or lowest (nuke), among filler items drawn at
    random: `random` rates these about the log's mean, `average` about each item's own mean; `bandwagon` is `random` with the
    most popular items, rated highest, as half of its filler. A `bot` has no targets: it clicks at random, once a second.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["random", "average", "bandwagon", "bot"]
    profiles: PositiveInt = 20  # users
    length: PositiveInt = 50  # interactions of each
    targets: NonNegativeInt = 1  # items
    direction: Literal["push", "nuke"] = "push"  # push: targets of the tail; nuke: of the head
    days: PositiveFloat = 7.0  # in which all profiles act

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.kind != "bot" and not 0 < self.targets <= self.length:
            raise ValueError(f"targets is {self.targets}; expected 1 to {self.length}, the length of a profile")
        return self

    @property
    def n_targets(self) -> int:
        """Items that every profile holds: none where it is a bot."""
        return 0 if self.kind == "bot" else self.targets


class RatingScale(BaseModel):
    """Ratings low, low + step, ..., high."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: PositiveFloat = 1.0
    high: PositiveFloat = 5.0
    step: PositiveFloat = 1.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low + self.step > self.high:
            raise ValueError(f"ratings from {self.low} to {self.high} by {self.step}; expected at least two of them")
        return self


class GeneratorConfig(BaseModel):
    """A world: how many, how skewed, how strong, when. `docs/generator.md` has the model in equations."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    n_users: int = Field(600, gt=0, le=1 << 27)  # genuine ones; the profiles of attacks come on top
    n_items: int = Field(300, gt=0, le=1 << 22)
    mean_length: PositiveFloat = 30.0  # interactions of a user
    min_length: PositiveInt = 5
    max_length: PositiveInt | None = None  # half the items
    length_spread: NonNegativeFloat = 1.0  # standard deviation of log(length - min_length)
    popularity_exponent: NonNegativeFloat = 0.8  # weight of the r-th item: (r + shift)^-exponent exp(-r / cutoff)
    popularity_shift: NonNegativeFloat = 0.0  # as a share of the items: flattens the head
    popularity_cutoff: PositiveFloat | None = None  # as a share of the items: thins out the tail
    min_popularity: NonNegativeInt = 1  # interactions that every item has
    n_tastes: PositiveInt = 8
    tastes_per_user: PositiveInt = 2
    second_taste: float = Field(0.0, ge=0, le=1)  # share of items that carry two tastes
    taste_strength: float = Field(0.9, ge=0, le=1)  # share of interactions drawn from the user's tastes
    session_length: float = Field(5.0, ge=1)  # mean interactions of a session
    session_gap: PositiveFloat = 90.0  # mean seconds between the interactions of a session
    start: int = Field(1_672_531_200, ge=0, le=4_102_444_800)  # seconds since 1970: 2023-01-01
    span_days: float = Field(365.0, ge=1, le=36_525)
    lifetime: float = Field(0.3, gt=0, le=1)  # mean share of the span in which a user is active
    taste_drift: float = Field(0.0, ge=0, le=1)  # share of a user's tastes that are others at the span's end
    popularity_drift: float = Field(0.0, ge=0, le=1)  # share of popularity that has moved to other items at the span's end
    noise: float = Field(0.0, ge=0, le=1)  # share of interactions that are drawn from all items alike
    repeats: float = Field(0.0, ge=0, lt=1)  # share of interactions with an item that the user already has
    ratings: RatingScale | None = RatingScale()  # None: an implicit log, no weights
    attacks: tuple[Attack, ...] = ()
    string_ids: bool = False  # u1, i1 instead of 1, 1
    seed: NonNegativeInt = 0

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if not self.min_length <= self.mean_length <= self.longest <= self.n_items:
            raise ValueError(
                f"lengths of {self.min_length} at least, {self.mean_length:g} in the mean, {self.longest} at most over "
                f"{self.n_items} items; expected min_length <= mean_length <= max_length (half the items if absent) <= n_items"
            )
        if self.tastes_per_user > self.n_tastes or self.n_tastes > self.n_items:
            raise ValueError(
                f"{self.tastes_per_user} tastes a user, {self.n_tastes} tastes, {self.n_items} items; expected "
                "tastes_per_user <= n_tastes <= n_items"
            )
        least = self.min_popularity * self.n_items
        if self.min_popularity > self.n_users or least > self.n_interactions * (1 - self.repeats):
            raise ValueError(
                f"min_popularity {self.min_popularity} of {self.n_items} items needs {least} interactions without repeats, "
                f"each of another user; found {self.n_interactions} interactions of {self.n_users} users"
            )
        for attack in self.attacks:
            if attack.length > self.longest:
                raise ValueError(f"an attack's length is {attack.length}; expected at most {self.longest}, as max_length")
            if attack.direction == "nuke" and self.ratings is None:
                raise ValueError(
                    "a nuke attack rates its targets lowest, and the log has no ratings; expected push, or ratings"
                )
        return self

    @property
    def longest(self) -> int:
        """The most distinct items of a user."""
        return self.max_length or max(1, self.n_items // 2)

    @property
    def n_interactions(self) -> int:
        """Interactions of genuine users: exactly so many are generated."""
        return round(self.n_users * self.mean_length)
