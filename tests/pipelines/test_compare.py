"""How models compare: the verdict, from figures by user alone."""

import numpy as np

from pipelines.evaluation.compare import comparison
from recsys_ae.evaluation import Evaluation
from recsys_ae.metrics import METRICS


def evaluation(values: np.ndarray) -> Evaluation:
    nothing = np.empty((len(values), 0), np.int32)
    return Evaluation({f"{name}@5": values for name in METRICS}, {}, 0.0, (), {}, nothing, np.empty(0, np.int32))


def test_a_lead_is_certain_only_over_all_others() -> None:
    """The runner-up is a little worse for everyone; the last one much worse or much better, on the whole a little worse."""
    rng = np.random.default_rng(0)
    best = rng.uniform(0.3, 0.6, 200)
    spread = rng.permutation(np.repeat([0.3, -0.3], 100))
    found = comparison(
        {"last": evaluation(best - 0.02 + spread), "best": evaluation(best), "second": evaluation(best - 0.01)}, [], "ndcg@5", 0
    )
    assert found["order"] == ["best", "second", "last"]
    assert found["verdict"]["over"] == "second"
    assert not found["verdict"]["certain"] and found["verdict"]["equals"] == ["last"]
    assert {pair["model"]: pair["p_holm"] <= 0.05 for pair in found["pairs"] if pair["metric"] == "ndcg@5"} == {
        "second": True,
        "last": False,
    }


def test_models_that_are_alike_and_a_single_user_are_no_certain_lead() -> None:
    values = np.linspace(0, 1, 50)
    alike = comparison({"one": evaluation(values), "twin": evaluation(values.copy())}, [], "ndcg@5", 0)
    assert alike["verdict"]["equals"] == ["twin"] and alike["pairs"][0]["difference"]["ci95"] == [0, 0]
    single = comparison({"one": evaluation(np.ones(1)), "other": evaluation(np.zeros(1))}, [], "ndcg@5", 0)
    assert single["verdict"] == {"publish": "one", "over": "other", "certain": False, "equals": ["other"], "losing_groups": []}
    assert single["pairs"][0]["p"] == 1 and single["pairs"][0]["difference"]["ci95"] is None
