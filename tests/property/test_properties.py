"""What must hold whatever the data: Hypothesis looks for the data for which it does not."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from recsys_ae import (
    Cleaning,
    Columns,
    Dataset,
    Histories,
    IdMap,
    InteractionLog,
    Preprocessing,
    Split,
    by_time,
    by_time_windows,
    item_hold_out,
    leave_last_out,
    strong_generalization,
)
from recsys_ae import given as given_split
from recsys_ae.cleaning import clean
from recsys_ae.errors import DataError, LogError
from recsys_ae.events import RawEvent, history_of
from recsys_ae.masks import mask_
from recsys_ae.metrics import METRICS
from recsys_ae.sources import TableSource, connection
from recsys_ae.staging import stage
from recsys_ae.top_k import top_k
from tests.worlds import as_dataset, pairs, tastes

few = settings(max_examples=40, derandomize=True, deadline=None)
some = settings(max_examples=80, derandomize=True, deadline=None)
many = settings(max_examples=150, derandomize=True, deadline=None)

# --- logs ----------------------------------------------------------------------------------------------------------------

ids = st.none() | st.integers(-3, 8)
weights = st.none() | st.sampled_from([-1.0, 0.0, 0.5, 1.0, 3.0, 5.0])
times = st.none() | st.integers(1_500_000_000, 1_500_000_005)
rows = st.lists(st.tuples(ids, ids, times, weights), min_size=1, max_size=60)
cleanings = st.builds(
    Cleaning,
    st.builds(Preprocessing, min_weight=st.none() | st.sampled_from([0.5, 3.0])),
    st.integers(1, 3),
    st.integers(1, 3),
)


def table(rows: list[tuple[Any, ...]]) -> pa.Table:
    columns = dict(zip(("user_id", "item_id", "timestamp", "weight"), zip(*rows, strict=True), strict=True))
    kinds = {"user_id": pa.int64(), "item_id": pa.int64(), "timestamp": pa.int64(), "weight": pa.float64()}
    return pa.table({name: pa.array(values, kinds[name]) for name, values in columns.items()})


@few
@given(rows, cleanings)
def test_every_row_is_kept_or_counted_and_a_clean_log_stays_as_it_is(rows: list[Any], cleaning: Cleaning) -> None:
    try:
        log = InteractionLog.from_table(table(rows), cleaning=cleaning)
    except LogError:  # nothing is left
        return
    assert log.read == len(rows) == log.kept + sum(log.dropped.values())
    clean = log.table().to_pylist()
    assert {tuple(row.values()) for row in clean} <= set(rows)
    for key, least in (("user_id", cleaning.min_user_interactions), ("item_id", cleaning.min_item_interactions)):
        assert min(Counter(row[key] for row in clean).values()) >= least
    again = InteractionLog.from_table(log.table(), cleaning=cleaning)
    assert again.table().equals(log.table())
    assert sum(again.dropped.values()) == 0


rules = st.builds(
    Preprocessing,
    event_weights=st.none() | st.just({"view": 1.0, "buy": 3.0}),
    repeats=st.sampled_from(["last", "sum", "count"]),
    min_weight=st.none() | st.sampled_from([0.5, 3.0]),
    max_history=st.none() | st.integers(1, 4),
    max_user_events=st.none() | st.integers(3, 9),
    max_user_events_per_day=st.none() | st.integers(2, 5),
    max_item_idle_days=st.none() | st.just(2.0),
    weight_transform=st.sampled_from(["binary", "linear", "log1p"]),
    half_life_days=st.none() | st.just(3.0),
)
days = st.integers(0, 6 * 24).map(lambda hour: 1_500_000_000 + 3_600 * hour)
weighed = st.sampled_from([-1.0, 0.5, 1.0, 3.0])
kinds = st.sampled_from(["view", "buy", "spam"])
typed = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 8), days, weighed, kinds), min_size=1, max_size=60)
NAMES = ("user_id", "item_id", "timestamp", "weight", "event_type")


@pytest.mark.slow
@many
@given(typed, rules, st.booleans(), st.booleans(), st.integers(1, 2), st.integers(1, 3))
def test_ingest_and_the_api_make_the_same_history_of_the_same_events(
    rows: list[Any], rule: Preprocessing, timed: bool, weighted: bool, least: int, batch: int
) -> None:
    """The row that ingest makes of a user's raw events is what `history_of` makes of them, whatever the rules."""
    if not timed:
        rule = rule.model_copy(update={"max_user_events_per_day": None, "max_item_idle_days": None, "half_life_days": None})
    wanted = [n for n in NAMES if (timed or n != "timestamp") and (weighted or n != "weight")]
    table = pa.table({name: [row[NAMES.index(name)] for row in rows] for name in wanted})
    try:
        log = InteractionLog.from_table(table, cleaning=Cleaning(rule, least, least))
    except LogError:  # nothing is left
        return
    assert log.read == len(rows) == log.kept + sum(log.dropped.values())
    data = Dataset.from_log(log, rule)
    for user in {row[0] for row in rows}:
        raw = [
            RawEvent(item, weight if weighted else None, time if timed else None, kind)
            for who, item, time, weight, kind in rows
            if who == user
        ]
        history, unknown = history_of(raw, data.items, data.preprocessing)
        assert not set(unknown) & set(data.items.ids)
        if user not in data.users:  # ingest drops a user with too few interactions; the API serves one with one
            assert least > 1 or history.n_interactions == 0
            continue
        stored = data.histories.take(np.array([data.users.position(user)]))
        np.testing.assert_array_equal(history.items, stored.items)
        np.testing.assert_array_equal(history.weights, stored.weights)
        if timed:
            np.testing.assert_array_equal(history.times, stored.times)


@pytest.mark.slow
@few
@given(typed, rules, st.integers(1, 3), st.integers(1, 3), st.integers(1, 7))
def test_a_log_cleaned_in_small_batches_is_the_log_cleaned_at_once(
    rows: list[Any], rule: Preprocessing, users: int, items: int, batch_rows: int
) -> None:
    columns = pa.table(dict(zip(NAMES, zip(*rows, strict=True), strict=True)))

    def cleaned(batch_rows: int) -> Any:
        with connection() as con:
            con.register("source_table", columns)
            staged = stage(con, TableSource("table"), Columns(), "auto", rule)
            return clean(con, staged, Cleaning(rule, users, items), "table", batch_rows=batch_rows)

    try:
        table, dropped = cleaned(10**6)
    except LogError:
        with pytest.raises(LogError):
            cleaned(batch_rows)
        return
    found = cleaned(batch_rows)
    assert found[0].combine_chunks().equals(table.combine_chunks())
    assert found[1] == dropped


# --- ids -----------------------------------------------------------------------------------------------------------------

integer_ids = st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, max_size=20)
string_ids = st.lists(st.text(max_size=8), unique=True, max_size=20)


@many
@given(integer_ids | string_ids)
def test_ids_round_trip_through_arrays(found: list[Any]) -> None:
    before = IdMap(tuple(found))
    after = IdMap.from_arrays({name: array.copy() for name, array in before.arrays().items()})
    assert after == before
    assert after.digest == before.digest
    assert [after.position(i) for i in found] == list(range(len(found)))


@many
@given(string_ids, string_ids)
def test_different_ids_have_different_digests(one: list[str], other: list[str]) -> None:
    assert (IdMap(tuple(one)).digest == IdMap(tuple(other)).digest) == (one == other)


# --- histories -----------------------------------------------------------------------------------------------------------

N_ITEMS = 9
item_rows = st.lists(st.lists(st.integers(0, N_ITEMS - 1), unique=True, max_size=7), min_size=2, max_size=12)
timed_rows = st.lists(st.dictionaries(st.integers(0, N_ITEMS - 1), st.integers(0, 30), max_size=7), min_size=2, max_size=12)


@many
@given(st.lists(st.lists(st.integers(0, N_ITEMS - 1), max_size=7), max_size=12), st.data())
def test_taking_rows_of_a_matrix_is_the_matrix_of_the_rows(rows: list[list[int]], data: st.DataObject) -> None:
    histories = Histories.from_rows(rows, N_ITEMS)
    picked = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=9) if rows else st.just([])), np.int64)
    assert (histories.take(picked).matrix != histories.matrix[picked]).nnz == 0
    assert [r.tolist() for r in map(histories.row, range(len(rows)))] == rows


# --- splits --------------------------------------------------------------------------------------------------------------


def timed_dataset(rows: list[dict[int, int]]) -> Dataset:
    ordered = [sorted(row.items(), key=lambda pair: pair[1]) for row in rows]
    return as_dataset(
        Histories.from_rows([[i for i, _ in row] for row in ordered], N_ITEMS, times=[[t for _, t in row] for row in ordered])
    )


def sides(split: Split) -> dict[str, set[tuple[object, object]]]:
    """Pairs of ids by what they are used for."""
    items = split.train.items
    found = {"train": pairs(split.train.histories, split.train.users, items)}
    for name, holdout in (("validation", split.validation), ("test", split.test)):
        found[f"{name} fold-in"] = pairs(holdout.fold_in, holdout.users, items)
        found[f"{name} target"] = pairs(holdout.held_out, holdout.users, items)
    return found


def assert_same_split(one: Split, other: Split) -> None:
    assert one.train.digest == other.train.digest
    assert one.dropped == other.dropped
    assert sides(one) == sides(other)


def halves(data: Dataset, seed: int) -> tuple[Dataset, Dataset]:
    """A log divided by others: each interaction falls on one side."""
    test = np.random.default_rng(seed).random(data.histories.n_interactions) < 0.3
    return replace(data, histories=data.histories.select(~test)), replace(data, histories=data.histories.select(test))


SPLITS: dict[str, Callable[[Dataset, int, float], list[Split]]] = {
    "strong_generalization": lambda data, seed, share: [
        strong_generalization(data, seed=seed, validation_users=share, test_users=share, held_out_fraction=share)
    ],
    "strong_generalization by hash": lambda data, seed, share: [
        strong_generalization(
            data, seed=0, validation_users=share, test_users=share, held_out_fraction=share, salt=f"salt {seed}"
        )
    ],
    "by_time": lambda data, _, share: [by_time(data, validation_fraction=share, test_fraction=share)],
    "by_time, windows": lambda data, seed, share: by_time_windows(
        data, windows=1 + seed % 3, validation_fraction=share, test_fraction=share
    ),
    "given": lambda data, seed, share: [given_split(*halves(data, seed), seed=seed, validation_fraction=share)],
    "leave_last_out": lambda data, *_: [leave_last_out(data)],
    "item_hold_out": lambda data, seed, share: [item_hold_out(data, seed=seed, validation_items=share, test_items=share)],
    "item_hold_out by hash": lambda data, seed, share: [
        item_hold_out(data, seed=0, validation_items=share, test_items=share, salt=f"salt {seed}")
    ],
}


def assert_nothing_leaks(data: Dataset, split: Split) -> None:
    """What every protocol promises."""
    found = sides(split)
    everything = pairs(data.histories, data.users, data.items)
    for name, holdout in (("validation", split.validation), ("test", split.test)):
        assert not found[f"{name} target"] & (found[f"{name} fold-in"] | found["train"])
        assert found[f"{name} target"] | found[f"{name} fold-in"] <= everything
        assert holdout.n_items == len(split.train.items)
        assert (holdout.fold_in.lengths > 0).all()
        assert (holdout.held_out.lengths > 0).all()
    assert not found["validation target"] & found["test target"]
    assert found["train"] <= everything
    assert len(data.items) == len(split.train.items) + split.dropped.get("items_unseen_in_training", 0)
    assert min(split.dropped.values()) >= 0


def assert_users_are_accounted_for(data: Dataset, split: Split) -> None:
    """Every user trains, is judged, or is counted by the cause for which it is left out."""
    dropped, judged = split.dropped, {"validation": len(split.validation), "test": len(split.test)}
    match split.kind:
        case "strong_generalization":
            left_out = dropped["held_out_users_without_target"]
            assert len(split.train.users) + sum(judged.values()) + left_out == len(data.users)
        case "leave_last_out":
            assert split.train.users == data.users
            for name, n in judged.items():
                left_out = dropped["users_with_fewer_than_3_interactions"] + dropped[f"{name}_users_without_target"]
                assert n + left_out == len(data.users)
        case "item_hold_out":
            assert len(split.train.users) + dropped["users_without_warm_items"] == len(data.users)
        case "by_time":
            times, window = data.histories.times, split.window
            assert times is not None and window is not None
            edges = {"validation": (window.validation_from, window.test_from), "test": (window.test_from, window.test_until)}
            for name, (begin, end) in edges.items():
                active = np.unique(data.histories.rows[(times >= begin) & (times < end)])
                left_out = dropped[f"{name}_users_without_history"] + dropped[f"{name}_users_without_target"]
                assert judged[name] + left_out == len(active)
        case "given":
            assert judged["test"] + dropped["test_users_unknown"] + dropped["test_users_without_target"] == len(data.users)


@pytest.mark.parametrize("kind", SPLITS)
@some
@given(timed_rows, st.integers(0, 5), st.floats(0.1, 0.45))
def test_no_split_leaks_and_each_repeats_itself(kind: str, rows: list[dict[int, int]], seed: int, share: float) -> None:
    data = timed_dataset(rows)
    try:
        splits = SPLITS[kind](data, seed, share)
    except DataError:  # a side is empty
        return
    for split, again in zip(splits, SPLITS[kind](data, seed, share), strict=True):
        assert_nothing_leaks(data, split)
        assert_users_are_accounted_for(data, split)
        assert_same_split(split, again)


@pytest.mark.parametrize("kind", SPLITS)
def test_a_plain_log_can_be_split_in_every_way(kind: str) -> None:
    """Lest the property above hold because there is nothing of which it could not."""
    data = as_dataset(tastes(120))
    splits = SPLITS[kind](data, 2, 0.3)
    assert len(splits) == (3 if "windows" in kind else 1)
    for split in splits:
        assert_nothing_leaks(data, split)
        assert_users_are_accounted_for(data, split)
        assert min(len(split.train.users), len(split.validation), len(split.test)) > 3


@many
@given(item_rows, st.integers(0, 5), st.integers(0, 3), st.integers(0, 3), st.floats(0.01, 0.99))
def test_strong_generalization_keeps_whole_users_apart(
    rows: list[list[int]], seed: int, n_validation: int, n_test: int, fraction: float
) -> None:
    data = as_dataset(Histories.from_rows(rows, N_ITEMS))
    arguments = {"seed": seed, "validation_users": n_validation, "test_users": n_test, "held_out_fraction": fraction}
    try:
        split = strong_generalization(data, **arguments)  # type: ignore[arg-type]
    except DataError:  # no user is left to train on
        return
    found = sides(split)
    train_users, known = set(split.train.users.ids), set(split.train.items.ids)
    everything = pairs(data.histories, data.users, data.items)
    for name, holdout in (("validation", split.validation), ("test", split.test)):
        assert not train_users & set(holdout.users.ids)
        for user in holdout.users.ids:  # nothing of a held-out user is lost but the items unseen in training
            own = {pair for pair in everything if pair[0] == user and pair[1] in known}
            assert own == {p for p in found[f"{name} fold-in"] | found[f"{name} target"] if p[0] == user}
    assert not set(split.validation.users.ids) & set(split.test.users.ids)
    assert found["train"] == {pair for pair in everything if pair[0] in train_users}


@many
@given(timed_rows, st.integers(1, 20), st.integers(1, 10), st.integers(1, 3))
def test_by_time_looks_back_only(rows: list[dict[int, int]], validation_from: int, length: int, n: int) -> None:
    data, test_from = timed_dataset(rows), validation_from + length
    assume(data.histories.n_interactions > 0)
    try:
        splits = by_time_windows(data, windows=n, validation_from=validation_from, test_from=test_from)
    except DataError:
        return
    when = {(100 + u, 1000 + i): t for u, row in enumerate(rows) for i, t in row.items()}
    windows = [split.window for split in splits if split.window]
    assert (windows[0].validation_from, windows[0].test_from) == (validation_from, test_from)
    assert [w.test_from for w in windows[1:]] == [w.test_until for w in windows[:-1]]
    assert windows[-1].test_until > max(when.values())
    for split, window in zip(splits, windows, strict=True):
        found = sides(split)
        known = {item for (_, item), t in when.items() if t < window.validation_from}
        assert found["train"] == {pair for pair, t in when.items() if t < window.validation_from}
        assert set(split.train.items.ids) == known
        assert all(when[pair] < window.validation_from for pair in found["validation fold-in"])
        assert all(window.validation_from <= when[pair] < window.test_from for pair in found["validation target"])
        assert all(when[pair] < window.test_from for pair in found["test fold-in"])
        expected = {p for p, t in when.items() if window.test_from <= t < window.test_until and p[1] in known}
        assert found["test target"] == {p for p in expected if p[0] in split.test.users.ids}
    only = by_time(data, validation_from=validation_from, test_from=test_from) if n == 1 else None
    if only:
        assert_same_split(only, splits[0])


@many
@given(timed_rows, st.integers(1, 3))
def test_by_time_with_fractions_looks_back_only(rows: list[dict[int, int]], n: int) -> None:
    data = timed_dataset(rows)
    assume(data.histories.n_interactions > 0)
    try:
        splits = by_time_windows(data, windows=n, validation_fraction=0.3, test_fraction=0.3)
    except DataError:
        return
    for split in splits:
        assert split.train.histories.times is not None
        assert split.validation.held_out.times is not None
        assert split.test.held_out.times is not None
        assert split.train.histories.times.max() < split.validation.held_out.times.min()
        assert split.validation.held_out.times.max() < split.test.held_out.times.min()


@many
@given(item_rows, item_rows, st.integers(0, 5))
def test_given_divides_train_rows_and_asks_for_what_is_new(
    train_rows: list[list[int]], test_rows: list[list[int]], seed: int
) -> None:
    train, test = (as_dataset(Histories.from_rows(r, N_ITEMS)) for r in (train_rows, test_rows))
    try:
        split = given_split(train, test, seed=seed)
    except DataError:
        return
    found = sides(split)
    whole = pairs(train.histories, train.users, train.items)
    assert found["test fold-in"] <= whole
    assert not found["test target"] & whole
    assert found["test target"] <= pairs(test.histories, test.users, test.items)
    assert not found["train"] & found["validation target"]
    assert found["train"] | found["validation target"] == whole


@many
@given(item_rows)
def test_leave_last_out_is_the_order_of_each_row(rows: list[list[int]]) -> None:
    try:
        split = leave_last_out(as_dataset(Histories.from_rows(rows, N_ITEMS)))
    except DataError:
        return
    kept = {100 + u: [1000 + i for i in (row[:-2] if len(row) >= 3 else row)] for u, row in enumerate(rows)}
    known = {item for row in kept.values() for item in row}
    found = sides(split)
    assert found["train"] == {(user, item) for user, row in kept.items() for item in row}
    for name, left in (("validation", 2), ("test", 1)):
        asked = {100 + u: 1000 + row[-left] for u, row in enumerate(rows) if len(row) >= 3 and 1000 + row[-left] in known}
        assert found[f"{name} target"] == set(asked.items())
        before = {(user, 1000 + i) for user in asked for i in rows[user - 100][:-left]}
        assert found[f"{name} fold-in"] == {pair for pair in before if pair[1] in known}


@pytest.mark.parametrize("kind", ["strong_generalization by hash", "item_hold_out by hash"])
@some
@given(timed_rows, timed_rows, st.integers(0, 5), st.randoms(use_true_random=False))
def test_by_hash_nothing_changes_sides_as_the_log_grows(
    kind: str, rows: list[dict[int, int]], more: list[dict[int, int]], seed: int, random: Any
) -> None:
    """More users and more interactions, in another order: whatever was on a side is still on it, targets included."""
    width = max(len(rows), len(more) + 1)
    grown = [{**m, **r} for r, m in zip(rows + [{}] * width, [*more, {0: 1, 1: 2, 2: 3}] + [{}] * width, strict=False)][:width]
    order = random.sample(range(width), width)
    try:
        (before,) = SPLITS[kind](timed_dataset(rows), seed, 0.3)
        (after,) = SPLITS[kind](timed_dataset(grown).with_rows(np.array(order)), seed, 0.3)
    except DataError:
        return
    now = sides(after)
    for name, was in sides(before).items():
        assert was <= now[name]
    for one, other in ((before.validation, after.validation), (before.test, after.test)):
        assert (one.candidates is None) == (other.candidates is None)
        assert one.candidates is None or other.candidates is None or one.candidates.tolist() == other.candidates.tolist()


@pytest.mark.parametrize("kind", [kind for kind in SPLITS if "time" not in kind and kind != "leave_last_out"])
def test_another_seed_or_salt_is_another_split(kind: str) -> None:
    data = as_dataset(tastes(60))
    (one,), (other,) = (SPLITS[kind](data, seed, 0.3) for seed in (0, 1))
    assert sides(one) != sides(other)


# --- ranking -------------------------------------------------------------------------------------------------------------

scores = st.lists(
    st.lists(st.sampled_from([-2.0, -1.0, -0.0, 0.0, 1.0]) | st.floats(-9, 9, width=32), min_size=N_ITEMS, max_size=N_ITEMS),
    min_size=1,
    max_size=6,
)


@many
@given(scores, st.data(), st.integers(1, 12))
def test_lists_hold_no_seen_item_and_fall_with_ties_by_column(table: list[list[float]], data: st.DataObject, k: int) -> None:
    seen = data.draw(st.lists(st.lists(st.integers(0, N_ITEMS - 1), max_size=9), min_size=len(table), max_size=len(table)))
    masked = torch.tensor(table, dtype=torch.float32)
    mask_(masked, Histories.from_rows(seen, N_ITEMS))
    values, columns = top_k(masked, k)
    for row, gone in enumerate(seen):
        eligible = [i for i in range(N_ITEMS) if i not in gone]
        expected = sorted(eligible, key=lambda i: (-table[row][i], i))[:k]
        found = columns[row][values[row] > -torch.inf].tolist()
        assert found == expected
        smaller = top_k(masked, max(1, k - 1))
        assert smaller[1][row][smaller[0][row] > -torch.inf].tolist() == expected[: max(1, k - 1)]


# --- metrics -------------------------------------------------------------------------------------------------------------

judged = st.integers(1, 12).flatmap(lambda width: st.lists(st.booleans(), min_size=width, max_size=width))


def value(name: str, hits: list[bool], n_held_out: int, k: int) -> float:
    return float(METRICS[name](np.array([hits]), np.array([n_held_out]), k)[0])


@many
@given(judged, st.integers(0, 5), st.sampled_from(sorted(METRICS)))
def test_metrics_lie_within_0_and_1_and_rise_where_they_must(hits: list[bool], further: int, name: str) -> None:
    n_held_out = max(1, sum(hits) + further)
    curve = [value(name, hits, n_held_out, k) for k in range(1, len(hits) + 1)]
    assert all(0 <= v <= 1 + 1e-12 for v in curve)
    if name in ("recall", "hit_rate", "map", "mrr"):
        assert curve == sorted(curve)
    if not any(hits):
        assert curve[-1] == 0


@many
@given(judged, st.integers(0, 5), st.sampled_from(sorted(METRICS)), st.data())
def test_a_hit_further_up_is_never_worse(hits: list[bool], further: int, name: str, data: st.DataObject) -> None:
    n_held_out, k = max(1, sum(hits) + further), data.draw(st.integers(1, len(hits)))
    place = data.draw(st.integers(0, len(hits) - 1))
    if place and hits[place] and not hits[place - 1]:
        better = [*hits[: place - 1], True, False, *hits[place + 1 :]]
        assert value(name, better, n_held_out, k) >= value(name, hits, n_held_out, k) - 1e-12
