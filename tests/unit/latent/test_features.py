"""Words and codes as features of items."""

import numpy as np
import pytest

from recsys_ae.errors import DataError
from recsys_ae.ids import IdMap
from recsys_ae.latent.features import ItemFeatures, bag_of_words, beside, words_of


def test_words_that_few_have_weigh_more_and_what_one_alone_has_is_left_out() -> None:
    found = bag_of_words({1: ["a", "b"], 2: ["a", "b"], 3: ["a", "c"], 4: ["d"], 5: []})
    assert found.items.ids == (1, 2, 3)  # 4 has a word of its own alone, 5 none
    a, b = np.log(6 / 3), np.log(6 / 2)
    assert found.values == pytest.approx(np.array([[a, b], [a, b], [a, 0]]) / np.hypot(a, [[b], [b], [0]]), abs=1e-6)


def test_only_the_most_frequent_words_are_kept() -> None:
    assert bag_of_words(
        {n: ["all", "even" if n % 2 else "odd", "few" if n < 2 else "many"] for n in range(9)}, most=2
    ).values.shape == (9, 2)
    with pytest.raises(DataError, match="no word is shared by two of 2 items"):
        bag_of_words({1: ["a"], 2: ["b"]})


def test_words_of_a_title() -> None:
    assert words_of("Amélie, the 2nd (2001)") == ["amélie", "the", "2nd", "2001"]


def test_kinds_stand_beside_one_another_in_the_same_unit_and_who_lacks_one_is_average() -> None:
    left = ItemFeatures(IdMap((1, 2)), np.array([[0], [1000]], np.float32))
    right = ItemFeatures(IdMap((2, 3)), np.array([[0.001, 5], [0.003, 5]], np.float32))
    found = beside([left, right])
    assert found.items.ids == (1, 2, 3)
    assert found.values == pytest.approx(np.array([[-1, 0, 0], [1, -1, 0], [0, 1, 0]]), abs=1e-4)


def test_features_are_finite_and_a_row_for_each_item() -> None:
    with pytest.raises(DataError, match=r"shape \(1, 2\) for 2 items"):
        ItemFeatures(IdMap((1, 2)), np.zeros((1, 2), np.float32))
    with pytest.raises(DataError, match="item 'b' are not finite"):
        ItemFeatures(IdMap(("a", "b")), np.array([[0.0], [np.nan]], np.float32))
