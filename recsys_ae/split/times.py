"""by_time() and by_time_windows(): the past trains, the future judges."""

from dataclasses import replace

import numpy as np

from recsys_ae.dataset import Dataset
from recsys_ae.errors import DataError
from recsys_ae.histories import Holdout, Indices
from recsys_ae.split.base import Split, Window, holdout_of, met_items, new_only, only_items


def by_time(
    data: Dataset,
    *,
    validation_from: int | None = None,
    test_from: int | None = None,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
) -> Split:
    """One global point in time: training holds nothing from `validation_from` on, and nothing of the target is in a fold-in.

    Validation folds in what a user did before `validation_from` and asks for what came until `test_from`; test folds in what
    came before `test_from` and asks for the rest. Without the two times (seconds since 1970) they are the quantiles of all
    interactions that leave the given fractions. Users with nothing to fold in or nothing new to ask for, and items unseen in
    training, are counted and dropped. Raises DataError where the log has no times or a side is empty.
    """
    return by_time_windows(
        data,
        windows=1,
        validation_from=validation_from,
        test_from=test_from,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
    )[0]


def by_time_windows(
    data: Dataset,
    *,
    windows: int,
    validation_from: int | None = None,
    test_from: int | None = None,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
) -> list[Split]:
    """A backtest with a rolling origin: `by_time` at several points in time, oldest first; one window is `by_time` itself.

    The windows divide the test part of `by_time` among them, each beginning where the one before it ends: into equal spans
    of time where `test_from` is given, into equal numbers of interactions otherwise. Each has a validation part right before
    it, as long as that of `by_time`: in time where `validation_from` is given, in interactions otherwise. All that is older
    than a window's validation part trains its model, the earlier windows included; nothing younger does.

    Raises DataError as `by_time` does, saying of which window, and where windows would be empty.
    """
    if windows < 1:
        raise DataError(f"{windows} windows; expected at least 1")
    splits = []
    for place, window in enumerate(_windows(data, windows, validation_from, test_from, validation_fraction, test_fraction), 1):
        try:
            splits.append(_split(data, window))
        except DataError as error:
            raise DataError(f"window {place} of {windows}: {error}" if windows > 1 else str(error)) from None
    return splits


def _windows(
    data: Dataset,
    n: int,
    validation_from: int | None,
    test_from: int | None,
    validation_fraction: float,
    test_fraction: float,
) -> list[Window]:
    if data.histories.times is None:
        raise DataError("by_time needs times, and the log has none; expected a timestamp column")
    if not data.histories.n_interactions:
        raise DataError("by_time needs times, and there is no interaction")
    ordered = np.sort(data.histories.times)
    end = int(ordered[-1]) + 1

    def quantile(share: float) -> int:
        return int(ordered[min(int(len(ordered) * share), len(ordered) - 1)])

    def rank(moment: int) -> int:
        return int(np.searchsorted(ordered, moment))

    first = quantile(1 - test_fraction) if test_from is None else test_from
    chosen_from = quantile(1 - test_fraction - validation_fraction) if validation_from is None else validation_from
    if not chosen_from < first:
        raise DataError(f"validation_from {chosen_from} is not before test_from {first}")
    if not ordered[0] < chosen_from:
        raise DataError(f"no interaction is older than validation_from {chosen_from}; the first is at {ordered[0]}")
    if test_from is None:
        starts = [quantile(1 - test_fraction * ((n - i) / n)) for i in range(n)]
    else:
        starts = [first + (end - first) * i // n for i in range(n)]
    if n > 1 and not (np.diff([*starts, end]) > 0).all():
        raise DataError(f"{n} windows from {first} to {end} leave one of them empty; expected fewer windows or more times")
    if validation_from is None:
        length = rank(first) - rank(chosen_from)
        before = [chosen_from, *(int(ordered[rank(start) - length]) for start in starts[1:])]
    else:
        before = [start - (first - chosen_from) for start in starts]
    return [Window(*times) for times in zip(before, starts, [*starts[1:], end], strict=True)]


def _split(data: Dataset, window: Window) -> Split:
    times = data.histories.times
    assert times is not None
    past = data.histories.select(times < window.validation_from)
    columns = met_items(past)
    train = only_items(replace(data, histories=past), columns)
    train = train.with_rows(np.flatnonzero(past.lengths))
    validation, unjudged = _part("validation", data, columns, window.validation_from, window.test_from)
    test, untested = _part("test", data, columns, window.test_from, window.test_until)
    dropped = {"items_unseen_in_training": len(data.items) - len(columns)} | unjudged | untested
    return Split("by_time", train, validation, test, data, False, dropped, window)


def _part(name: str, data: Dataset, columns: Indices, begin: int, end: int) -> tuple[Holdout, dict[str, int]]:
    """The users who did something within [begin, end): their history before and what was new, and counts of the others."""
    histories = data.histories
    assert histories.times is not None
    asked = histories.select((histories.times >= begin) & (histories.times < end))
    rows = np.flatnonzero(asked.lengths)
    own = data.with_rows(rows)
    assert own.histories.times is not None
    before = only_items(replace(own, histories=own.histories.select(own.histories.times < begin)), columns).histories
    held_out = only_items(replace(own, histories=asked.take(rows)), columns).histories
    found = holdout_of(own.users, before, new_only(before, held_out))
    if not len(found):
        raise DataError(f"no user has a history before and a new item within the {name} window")
    without_history = int(((held_out.lengths > 0) & (before.lengths == 0)).sum())
    without_target = len(rows) - without_history - len(found)
    return found, {f"{name}_users_without_history": without_history, f"{name}_users_without_target": without_target}
