"""What must hold whatever the data: Hypothesis looks for the data for which it does not."""

from collections import Counter
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
    strong_generalization,
)
from recsys_ae import given as given_split
from recsys_ae.cleaning import clean
from recsys_ae.errors import DataError, LogError
from recsys_ae.events import RawEvent, history_of
from recsys_ae.metrics import METRICS
from recsys_ae.ranking import mask_, top_k
from recsys_ae.sources import TableSource, connection
from recsys_ae.staging import stage
from tests.worlds import as_dataset, pairs

few = settings(max_examples=40, derandomize=True, deadline=None)
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


@many
@given(item_rows, st.integers(0, 5), st.integers(0, 3), st.integers(0, 3), st.floats(0.01, 0.99))
def test_strong_generalization_leaks_nothing(
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
        assert not found[f"{name} fold-in"] & found[f"{name} target"]
        for user in holdout.users.ids:  # nothing of a held-out user is lost but the items unseen in training
            own = {pair for pair in everything if pair[0] == user and pair[1] in known}
            assert own == {p for p in found[f"{name} fold-in"] | found[f"{name} target"] if p[0] == user}
    assert not set(split.validation.users.ids) & set(split.test.users.ids)
    assert found["train"] == {pair for pair in everything if pair[0] in train_users}
    assert_same_split(split, strong_generalization(data, **arguments))  # type: ignore[arg-type]


@many
@given(timed_rows, st.integers(1, 20), st.integers(1, 10))
def test_by_time_leaks_nothing(rows: list[dict[int, int]], validation_from: int, window: int) -> None:
    data, test_from = timed_dataset(rows), validation_from + window
    assume(data.histories.n_interactions > 0)
    try:
        split = by_time(data, validation_from=validation_from, test_from=test_from)
    except DataError:
        return
    when = {(100 + u, 1000 + i): t for u, row in enumerate(rows) for i, t in row.items()}
    found = sides(split)
    known = {item for (_, item), t in when.items() if t < validation_from}
    assert found["train"] == {pair for pair, t in when.items() if t < validation_from}
    assert set(split.train.items.ids) == known
    assert all(when[pair] < validation_from for pair in found["validation fold-in"])
    assert all(validation_from <= when[pair] < test_from for pair in found["validation target"])
    assert all(when[pair] < test_from for pair in found["test fold-in"])
    assert all(when[pair] >= test_from for pair in found["test target"])
    assert not found["train"] & (found["validation target"] | found["test target"])
    expected = {p for p, t in when.items() if t >= test_from and p[1] in known and p[0] in split.test.users.ids}
    assert found["test target"] == expected
    assert_same_split(split, by_time(data, validation_from=validation_from, test_from=test_from))


@many
@given(timed_rows)
def test_by_time_with_fractions_leaks_nothing(rows: list[dict[int, int]]) -> None:
    data = timed_dataset(rows)
    assume(data.histories.n_interactions > 0)
    try:
        split = by_time(data, validation_fraction=0.3, test_fraction=0.3)
    except DataError:
        return
    assert split.train.histories.times is not None
    assert split.validation.held_out.times is not None
    assert split.test.held_out.times is not None
    assert split.train.histories.times.max() < split.validation.held_out.times.min()
    assert split.validation.held_out.times.max() < split.test.held_out.times.min()


@many
@given(item_rows, item_rows, st.integers(0, 5))
def test_given_leaks_nothing(train_rows: list[list[int]], test_rows: list[list[int]], seed: int) -> None:
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
    assert_same_split(split, given_split(train, test, seed=seed))


@pytest.mark.parametrize("kind", ["strong_generalization", "given"])
def test_another_seed_is_another_split(kind: str) -> None:
    data = as_dataset(Histories.from_rows([list(range(9)) for _ in range(20)], N_ITEMS))
    test = as_dataset(Histories.from_rows([[9]] * 20, 10))
    wide = as_dataset(Histories.from_rows([list(range(9)) for _ in range(20)], 10))
    splits = [strong_generalization(data, seed=s) if kind != "given" else given_split(wide, test, seed=s) for s in (0, 1)]
    assert sides(splits[0]) != sides(splits[1])


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
