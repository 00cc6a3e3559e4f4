import dataclasses
import json

import pytest

from recsys_ae import FitRecord, RunContext


def test_summary_leaves_out_what_changes_from_run_to_run() -> None:
    one = FitRecord(best_epoch=2, epochs=3, losses=[3.0, 2.0, 1.5], seconds={"training": 1.0})
    other = dataclasses.replace(one, seconds={"training": 9.0})
    assert one.summary() == other.summary()
    assert json.loads(json.dumps(one.summary()))["losses"] == [3.0, 2.0, 1.5]


def test_a_run_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunContext().seed = 1  # type: ignore[misc]
