"""[checks]: what the nightly job asks of the data."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from pipelines.config.base import Section

Action = Literal["stop", "warn", "off"]
Fraction = Annotated[float, Field(ge=0, le=1)]


class ColumnsCheck(Section):
    """Columns and kinds of ids are those of the last night."""

    action: Action = "stop"


class VolumeCheck(Section):
    """Rows read and kept, in multiples of the median of the nights before."""

    min_ratio: Fraction = 0.5
    max_ratio: float = Field(3.0, ge=1, allow_inf_nan=False)
    action: Action = "stop"


class DroppedCheck(Section):
    """The share of rows that cleaning leaves out, above the median of the nights before."""

    max_rise: Fraction = 0.2
    action: Action = "stop"


class NewUsersCheck(Section):
    """The share of users that the last night did not have."""

    max_share: Fraction = 0.5
    action: Action = "warn"


class NewItemsCheck(Section):
    """The share of items that the last night did not have."""

    max_share: Fraction = 0.5
    action: Action = "stop"


class DriftCheck(Section):
    """Jensen-Shannon divergence of the items' popularity from the last night's, in bits."""

    max_divergence: Fraction = 0.05
    action: Action = "warn"


class BotsCheck(Section):
    """The share of rows dropped as those of robots, and of interactions that the heaviest thousandth of the users has."""

    max_dropped_share: Fraction = 0.1
    max_heaviest_share: Fraction = 0.2
    action: Action = "warn"


class FreshnessCheck(Section):
    """The age of the newest event; not looked at without `max_age_hours`."""

    max_age_hours: float | None = Field(None, gt=0, allow_inf_nan=False)
    action: Action = "stop"


class FutureCheck(Section):
    """The share of interactions later than this machine's clock."""

    max_share: Fraction = 0.001
    action: Action = "warn"


class AnomaliesCheck(Section):
    """The share of users whom the current version flags as strange; that many of ordinary ones are."""

    max_share: Fraction = 0.05
    false_positive_rate: float = Field(0.01, gt=0, le=0.5)
    action: Action = "off"


class ChecksSection(Section):
    """What tonight's data must be like before anything is trained on them; `nights`: how many accepted ones have a say."""

    nights: PositiveInt = 7
    columns: ColumnsCheck = ColumnsCheck()
    volume: VolumeCheck = VolumeCheck()
    dropped: DroppedCheck = DroppedCheck()
    new_users: NewUsersCheck = NewUsersCheck()
    new_items: NewItemsCheck = NewItemsCheck()
    drift: DriftCheck = DriftCheck()
    bots: BotsCheck = BotsCheck()
    freshness: FreshnessCheck = FreshnessCheck()
    future: FutureCheck = FutureCheck()
    anomalies: AnomaliesCheck = AnomaliesCheck()
