"""Groups of users and of held-out items, by hand and against slow references."""

import datetime

import numpy as np
import pytest

from recsys_ae import Histories, Holdout, IdMap
from recsys_ae.beyond import Catalogue
from recsys_ae.groups import Grouping, by_user, periods, target_groups, user_groups


def members(grouping: Grouping) -> dict[str, list[int]]:
    of = grouping.of.toarray()
    return {name: np.flatnonzero(of[:, column]).tolist() for column, name in enumerate(grouping.names)}


def holdout(fold_in: list[list[int]], held_out: list[list[int]], times: list[list[int]] | None = None) -> Holdout:
    return Holdout(
        IdMap.of(range(len(fold_in))), Histories.from_rows(fold_in, 600), Histories.from_rows(held_out, 600, times=times)
    )


def catalogue(counts: dict[int, int], categories: dict[int, tuple[str, ...]] | None = None) -> Catalogue:
    """Items that so many training users had."""
    rows = [[item for item, n in counts.items() if user < n] for user in range(max(counts.values()))]
    return Catalogue.of(Histories.from_rows(rows, 600), [(categories or {}).get(i, ()) for i in range(600)])


def test_users_by_length_of_history_and_by_taste() -> None:
    rows = [[], [0], [1], list(range(10, 20)), [0, 1], list(range(20, 580))]
    by_length, by_taste = user_groups([holdout(rows, [[599]] * 6)], [catalogue({0: 9, 1: 2, 10: 1})])
    assert members(by_length) == {
        "none": [0],
        "1 to 2": [1, 2, 4],
        "6 to 10": [3],
        "501 and more": [5],
    }
    assert members(by_taste) == {"niche": [3, 5], "mixed": [2, 4], "mainstream": [1]}  # whoever has no history has no taste


def test_taste_is_relative_to_the_training_users_of_the_window() -> None:
    rows = [[0], [1], [2]]
    early, late = catalogue({0: 9, 1: 4, 2: 1}), catalogue({0: 90, 1: 40, 2: 10})
    by_taste = user_groups([holdout(rows, [[599]] * 3)] * 2, [early, late])[1]
    assert members(by_taste) == {"niche": [2, 5], "mixed": [1, 4], "mainstream": [0, 3]}


def test_targets_by_popularity_category_and_period() -> None:
    day = 86_400
    categories = {0: ("a",), 1: ("a", "b"), 3: ("c",)}
    world = holdout([[5], [5]], [[0, 1], [2, 3]], [[0, day], [0, 40 * day]])
    found = target_groups([world], [catalogue({0: 8, 1: 6, 2: 3, 3: 1, 4: 2}, categories)])
    assert [g.by for g in found] == ["popularity", "category", "period"]
    assert members(found[0]) == {"head": [0], "middle": [1, 2], "tail": [3]}
    assert members(found[1]) == {"a": [0, 1], "b": [1], "c": [3]}
    assert members(found[2]) == {"1970-01-01": [0, 2], "1970-01-02": [1], "1970-02-10": [3]}


def test_windows_are_one_below_the_other_and_their_categories_meet_by_name() -> None:
    one = holdout([[5]], [[0, 1]]), catalogue({0: 3, 1: 2}, {0: ("a",), 1: ("b",)})
    other = holdout([[5], [1, 2]], [[0], [4]]), catalogue({0: 3, 4: 2}, {0: ("c",), 4: ("b",)})
    holdouts, catalogues = zip(one, other, strict=True)
    assert members(target_groups(holdouts, catalogues)[1]) == {"b": [1, 3], "a": [0], "c": [2]}
    assert members(user_groups(holdouts, catalogues)[0]) == {"1 to 2": [0, 1, 2]}


@pytest.mark.parametrize(
    ("first", "step", "n", "expected"),
    [
        ("2020-01-01", 1, 12, ["2020-01-01", "2020-01-12"]),
        ("2020-01-01", 10, 20, ["2020-01", "2020-07"]),
        ("2020-01-01", 60, 18, ["2020 Q1", "2022 Q4"]),
        ("1990-06-01", 200, 14, ["1990", "1997"]),
        ("1990-06-01", 400, 30, ["1990 to 1992", "2020 to 2022"]),
    ],
)
def test_periods_are_the_finest_that_are_few(first: str, step: int, n: int, expected: list[str]) -> None:
    begin = int(datetime.datetime.fromisoformat(first).replace(tzinfo=datetime.UTC).timestamp())
    times = begin + 86_400 * step * np.arange(n)
    names, place = periods(times)
    assert [names[0], names[-1]] == expected
    assert len(names) <= 12 and (np.diff(place) >= 0).all() and place.max() == len(names) - 1


def test_found_items_are_counted_by_user_and_group() -> None:
    rng = np.random.default_rng(0)
    lengths = np.array([3, 0, 4, 2])
    ranks = np.array([1, 0, 7, 2, 3, 0, 12, 5, 0], np.int32)
    labels = rng.integers(-1, 3, 9)
    grouping = Grouping.one_each("some", ["x", "y", "z"], labels)
    hit = ((ranks > 0) & (ranks <= 5)).astype(np.float64)
    hits, counts = (by_user(values, lengths, grouping).toarray() for values in (hit, np.ones(9)))
    user = np.repeat(np.arange(4), lengths)
    for u in range(4):
        for column, name in enumerate(grouping.names):
            mine = (user == u) & (labels == "xyz".index(name))
            assert counts[u, column] == mine.sum()
            assert hits[u, column] == (mine & (ranks >= 1) & (ranks <= 5)).sum()
