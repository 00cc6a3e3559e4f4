"""Checks of tonight's data before anything is trained on them: are they like those of the nights before?"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from pipelines import nights
from pipelines.config import RunConfig
from pipelines.config.checks import (
    AnomaliesCheck,
    BotsCheck,
    ColumnsCheck,
    DriftCheck,
    DroppedCheck,
    FreshnessCheck,
    FutureCheck,
    NewItemsCheck,
    NewUsersCheck,
    VolumeCheck,
)
from pipelines.evaluation.drift import jensen_shannon
from pipelines.ingest import log_of
from pipelines.nights import Earlier, Hashes, Marks, Night
from recsys_ae.dataset import Dataset
from recsys_ae.errors import CheckError, RecsysError
from recsys_ae.histories import Histories
from recsys_ae.ids import IdMap
from recsys_ae.latent.anomalies import Anomalies
from recsys_ae.log import InteractionLog, id_kind
from recsys_ae.registry import Registry

ROBOTS = ("user_over_max_events", "user_over_max_events_per_day")
HEAVIEST = 0.001
"""The share of users whose share of the interactions is looked at."""
SLACK_SECONDS = 3_600
"""How far ahead of this machine's clock another's may be."""


@dataclass(frozen=True)
class Finding:
    """What one check found; `found` is the figure that was held against `expected`, None where there was nothing to compare."""

    check: str
    passed: bool
    action: str
    found: float | None
    expected: str
    message: str

    def __str__(self) -> str:
        return f"{self.check}: {self.message}; expected {self.expected}"


@dataclass(frozen=True, eq=False)
class Tonight:
    """Tonight's data, and what they are compared with. `now`: seconds since 1970."""

    night: Night
    marks: Marks
    histories: Histories
    earlier: Earlier
    now: float
    items: IdMap
    registry: Path


def tonight_of(config: RunConfig, data: Dataset, counts: dict[str, Any], folder: Path, now: float | None = None) -> Tonight:
    """`data`: all rows; `counts`: what cleaning read, kept and dropped; `folder`: where accepted nights are kept."""
    times = data.histories.times
    night = Night(
        data=data.digest,
        columns=columns_of(config),
        read=counts["read"],
        kept=counts["kept"],
        dropped=counts["dropped"],
        users=len(data.users),
        items=len(data.items),
        newest=int(times.max()) if times is not None and len(times) else None,
    )
    now = time.time() if now is None else now
    return Tonight(night, Marks.of(data), data.histories, nights.earlier(folder), now, data.items, config.registry.path)


def columns_of(config: RunConfig) -> dict[str, str]:
    """Kind by canonical column of what was read."""
    log = InteractionLog(log_of(config), 0)
    kinds: dict[str, str] = {"user_id": id_kind(log, "user_id"), "item_id": id_kind(log, "item_id")}
    kinds |= {name: kind for name, kind in (("timestamp", "time"), ("weight", "number")) if name in log.columns}
    return kinds | ({"event_type": "string"} if config.log.event_weights else {})


def accept(config: RunConfig, tonight: Tonight, findings: Sequence[Finding], folder: Path) -> None:
    """The night was published. Where a check that stops was overruled, somebody says that this is how data are from now on."""
    before = () if any(stops(each) for each in findings) else tonight.earlier.nights
    nights.accept(folder, tonight.night, tonight.marks, before, config.checks.nights)


def stops(finding: Finding) -> bool:
    """Whether it ends the night."""
    return not finding.passed and finding.action == "stop"


def require(findings: Sequence[Finding]) -> None:
    """Raises CheckError, with all that failed, where one of them ends the night."""
    first = sorted((each for each in findings if not each.passed), key=lambda each: not stops(each))
    if first and stops(first[0]):
        told = " | ".join(str(each) if stops(each) else f"(warning) {each}" for each in first)
        raise CheckError(f"tonight's data are not to be trusted, nothing was trained: {told}")


def look(config: RunConfig, tonight: Tonight) -> list[Finding]:
    """All checks of `[checks]` that are not off, in their order."""
    findings = []
    if tonight.earlier.damage is not None:
        text = f"{tonight.earlier.damage}: what it held is not compared with tonight"
        findings.append(Finding("history", False, "warn", None, "what the last accepted night wrote", text))
    for name, check in CHECKS.items():
        section = getattr(config.checks, name)
        if section.action != "off":
            findings += check(section, tonight)
    return findings


# --- the checks -----------------------------------------------------------------------------------------------------------


def _nothing_before(name: str, action: str, expected: str) -> Finding:
    return Finding(name, True, action, None, expected, "no earlier night to compare with")


def columns(section: ColumnsCheck, tonight: Tonight) -> Iterator[Finding]:
    """No column of the last night is gone, no id is of another kind."""
    if not tonight.earlier.nights:
        yield _nothing_before("columns", section.action, "the columns of the last night")
        return
    before, now = tonight.earlier.nights[-1].columns, tonight.night.columns
    faults = [f"{name} is gone" for name in before if name not in now]
    faults += [f"{name} is {now[name]}, was {kind}" for name, kind in before.items() if now.get(name, kind) != kind]
    expected = ", ".join(f"{name} ({kind})" for name, kind in before.items())
    yield Finding(
        "columns", not faults, section.action, len(faults), expected, ", ".join(faults) or "the columns of the last night"
    )


def volume(section: VolumeCheck, tonight: Tonight) -> Iterator[Finding]:
    """Rows read and kept beside the median of the nights before."""
    expected = f"{section.min_ratio:g} to {section.max_ratio:g} times the median of the nights before"
    for what in ("read", "kept"):
        if not (before := [getattr(night, what) for night in tonight.earlier.nights]):
            yield _nothing_before("volume", section.action, expected)
            return
        rows, usual = getattr(tonight.night, what), median(before)
        ratio = rows / max(usual, 1)
        passed = section.min_ratio <= ratio <= section.max_ratio
        text = f"{rows:,} rows {what}, {ratio:.3g} times the median of {usual:,.0f} (nights: {len(before)})"
        yield Finding(f"volume.{what}", passed, section.action, round(ratio, 6), expected, text)


def dropped(section: DroppedCheck, tonight: Tonight) -> Iterator[Finding]:
    """The share of rows that cleaning leaves out beside the median of the nights before; names what rose most."""
    expected = f"a rise by at most {section.max_rise:g} over the median of the nights before"
    if not (before := tonight.earlier.nights):
        yield _nothing_before("dropped", section.action, expected)
        return
    night = tonight.night
    usual = median(each.share_dropped for each in before)
    rise = night.share_dropped - usual

    def rises(cause: str) -> float:
        return night.dropped[cause] / night.read - median(each.dropped.get(cause, 0) / each.read for each in before)

    text = f"{night.share_dropped:.3g} of the rows read were dropped, {usual:.3g} before"
    if rise > 0 and night.dropped:
        text += f", most of the rise by {max(night.dropped, key=rises)}"
    yield Finding("dropped", rise <= section.max_rise, section.action, round(rise, 6), expected, text)


def new_users(section: NewUsersCheck, tonight: Tonight) -> Iterator[Finding]:
    """The share of users that the last night did not have."""
    before = tonight.earlier.marks
    yield _new("users", section, tonight.marks.users, before.users if before else None)


def new_items(section: NewItemsCheck, tonight: Tonight) -> Iterator[Finding]:
    """The share of items that the last night did not have."""
    before = tonight.earlier.marks
    yield _new("items", section, tonight.marks.items, before.items if before else None)


def _new(what: str, section: NewUsersCheck | NewItemsCheck, now: Hashes, before: Hashes | None) -> Finding:
    name, expected = f"new_{what}", f"a share of at most {section.max_share:g}"
    if before is None:
        return _nothing_before(name, section.action, expected)
    new = len(now) - int(np.count_nonzero(np.isin(now, before, assume_unique=True)))
    share = new / max(len(now), 1)
    text = f"{new:,} of {len(now):,} {what} are new, a share of {share:.3g}"
    return Finding(name, share <= section.max_share, section.action, round(share, 6), expected, text)


def drift(section: DriftCheck, tonight: Tonight) -> Iterator[Finding]:
    """How far the items' shares of the interactions are from those of the last night, in bits; 1 is nothing in common.

    Jensen-Shannon divergence (Lin 1991) over the items of both nights. An item of one night alone gives half of its share,
    so all new items together give what one item with the sum of their shares would.
    """
    expected = f"a divergence of at most {section.max_divergence:g} bits"
    before, now = tonight.earlier.marks, tonight.marks
    if before is None:
        yield _nothing_before("drift", section.action, expected)
        return
    items = np.union1d(before.items, now.items)
    counts = np.zeros((2, len(items)), np.int64)
    for row, marks in zip(counts, (before, now), strict=True):
        row[np.searchsorted(items, marks.items)] = marks.popularity
    found = jensen_shannon(*counts)
    new, gone = (float(one[other == 0].sum() / max(one.sum(), 1)) for one, other in (counts[::-1], counts))
    text = (
        f"popularity is {found:.3g} bits from the last night's, with a share of {new:.3g} on new items, {gone:.3g} on gone ones"
    )
    yield Finding("drift", found <= section.max_divergence, section.action, round(found, 6), expected, text)


def bots(section: BotsCheck, tonight: Tonight) -> Iterator[Finding]:
    """The share of rows dropped as those of robots, and that of the interactions that the heaviest users have."""
    night = tonight.night
    if rules := [cause for cause in ROBOTS if cause in night.dropped]:
        rows = sum(night.dropped[cause] for cause in rules)
        share = rows / max(night.read, 1)
        text = f"{rows:,} of {night.read:,} rows read were dropped as those of robots, a share of {share:.3g}"
        expected = f"a share of at most {section.max_dropped_share:g}"
        yield Finding("bots.dropped", share <= section.max_dropped_share, section.action, round(share, 6), expected, text)
    lengths = np.sort(tonight.histories.lengths)[::-1]
    heaviest = lengths[: int(np.ceil(len(lengths) * HEAVIEST))]
    share = float(heaviest.sum() / max(lengths.sum(), 1))
    text = f"the {len(heaviest):,} heaviest of {len(lengths):,} users have a share of {share:.3g} of the interactions"
    expected = f"a share of at most {section.max_heaviest_share:g}"
    yield Finding("bots.heaviest", share <= section.max_heaviest_share, section.action, round(share, 6), expected, text)


def freshness(section: FreshnessCheck, tonight: Tonight) -> Iterator[Finding]:
    """The age of the newest event."""
    if section.max_age_hours is None:
        return
    expected = f"an age of at most {section.max_age_hours:g} hours"
    if tonight.night.newest is None:
        yield Finding("freshness", False, section.action, None, expected, "the events have no times")
        return
    age = (tonight.now - tonight.night.newest) / 3_600  # negative where the clock was set back; see `future`
    yield Finding(
        "freshness",
        age <= section.max_age_hours,
        section.action,
        round(age, 3),
        expected,
        f"the newest event is {age:,.1f} hours old",
    )


def future(section: FutureCheck, tonight: Tonight) -> Iterator[Finding]:
    """The share of interactions later than this machine's clock: theirs or ours is wrong."""
    times = tonight.histories.times
    if times is None:
        return
    late = int(np.count_nonzero(times > tonight.now + SLACK_SECONDS))
    share = late / max(len(times), 1)
    text = f"{late:,} of {len(times):,} interactions are later than this machine's clock, a share of {share:.3g}"
    yield Finding(
        "future", share <= section.max_share, section.action, round(share, 6), f"a share of at most {section.max_share:g}", text
    )


def anomalies(section: AnomaliesCheck, tonight: Tonight) -> Iterator[Finding]:
    """The share of users whom the current version flags: attackers and bots, see recsys_ae.latent.anomalies."""
    expected = f"a share of at most {section.max_share:g}"
    registry = Registry(tonight.registry)
    try:
        if registry.current() is None:
            yield Finding("anomalies", True, section.action, None, expected, "no current version to judge by")
            return
        artifact, stored = registry.load()
        usual = Anomalies.of(artifact.model, stored.histories)
    except RecsysError as error:  # which a night without this check would mend
        yield Finding("anomalies", False, "warn", None, "a current version to judge by", str(error))
        return
    columns = artifact.items.positions(tonight.items.ids)
    scores = usual.score(tonight.histories.remap(columns, len(artifact.items)))
    flagged = int(np.count_nonzero(scores > usual.threshold(section.false_positive_rate)))
    share = flagged / max(len(scores), 1)
    text = f"{flagged:,} of {len(scores):,} users are unlike those of the current version, a share of {share:.3g}"
    yield Finding("anomalies", share <= section.max_share, section.action, round(share, 6), expected, text)


CHECKS: dict[str, Callable[[Any, Tonight], Iterator[Finding]]] = {
    "columns": columns,
    "volume": volume,
    "dropped": dropped,
    "new_users": new_users,
    "new_items": new_items,
    "drift": drift,
    "bots": bots,
    "freshness": freshness,
    "future": future,
    "anomalies": anomalies,
}
"""By the key of `[checks]`."""


def as_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """As run.json has them."""
    return [asdict(each) for each in findings]
