"""A history on the command line is weighed as the API weighs one, and ids of an items file are read as the log's are."""

from pathlib import Path

import numpy as np

from pipelines.config import make_config
from pipelines.items import read_items
from pipelines.recommend import recommend
from recsys_ae import Artifact, Histories, IdMap, Preprocessing, Registry, rank_top_k
from recsys_ae.items import ItemMetadata
from recsys_ae.registry import StoredUsers
from tests.worlds import fitted, tastes


def test_a_history_without_weights_goes_through_the_artefacts_preprocessing(tmp_path: Path) -> None:
    train = tastes()
    model, items = fitted("ease", train), IdMap(tuple(range(train.n_items)))
    preprocessing = Preprocessing(min_weight=4.0, weight_transform="log1p")
    artifact = Artifact("ease", model, items, ItemMetadata(), preprocessing)
    registry = Registry(tmp_path)
    stored = StoredUsers(IdMap(tuple(range(len(train)))), train)
    registry.promote(registry.publish(artifact, "ease", stored, {}))
    answer = recommend(registry, None, 5, history=["1", "7"])
    weight = float(np.log1p(4.0))  # an event without a weight counts as one that just passes
    expected = rank_top_k(model, Histories.from_rows([[1, 7]], train.n_items, [[weight, weight]]), 5)
    np.testing.assert_allclose([i["score"] for i in answer.items], expected.scores[0], rtol=1e-6)


def test_digits_that_are_no_number_are_no_crash(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("id,title\n1,One\n²,Two\n--5,Five\n")
    config = make_config({"log": {"path": "x.csv"}, "items": {"path": str(path), "id": "id", "title": "title"}})
    titles, _ = read_items(config, "integer")
    assert titles == {1: "One", "²": "Two", "--5": "Five"}
