import math

import numpy as np
import pytest

from recsys_ae import Histories, Holdout, IdMap, evaluate
from recsys_ae.errors import ConfigError, DataError
from recsys_ae.evaluation import judge, mean_metric, parse_metric, pooled, summarise
from recsys_ae.metrics import METRICS
from recsys_ae.ranking import Ranking, rank_top_k
from tests.worlds import N_ITEMS, fitted, tastes


def hand() -> tuple[Ranking, Holdout]:
    """Three users, lists of two; recall@2 is 1, 0.5 and 0."""
    items = np.array([[1, 2], [1, 4], [0, 3]], np.int32)
    fold_in = Histories.from_rows([[0], [0], [1]], 6)
    held_out = Histories.from_rows([[2, 1], [5, 4], [2]], 6)
    return Ranking(items, -np.tile(np.arange(2.0, dtype=np.float32), (3, 1))), Holdout(IdMap((7, 8, 9)), fold_in, held_out)


def test_mean_standard_error_and_interval_by_hand() -> None:
    found = judge(*hand(), ks=(1, 2))
    score = found.scores["recall@2"]
    assert found.per_user["recall@2"].tolist() == [1, 0.5, 0]
    assert score.mean == pytest.approx(0.5)
    assert score.se == pytest.approx(0.5 / math.sqrt(3))  # sample deviation 0.5
    assert score.ci95 == pytest.approx((0.5 - 1.959964 * score.se, 0.5 + 1.959964 * score.se))
    assert score.users == found.users == 3
    assert score.as_json() == {"mean": score.mean, "se": score.se, "ci95": list(score.ci95), "users": 3}


def test_coverage_has_no_interval() -> None:
    found = judge(*hand(), ks=(1, 2)).scores
    assert found["coverage@1"].as_json() == {"mean": 2 / 6, "se": None, "ci95": None, "users": 3}
    assert found["coverage@2"].mean == 5 / 6


def test_one_user_has_no_interval() -> None:
    assert summarise(np.array([0.25, np.nan])) == (0.25, None, None, 1)
    model, whole = hand()
    one = whole.take(slice(1))
    score = judge(Ranking(model.items[:1], model.scores[:1]), one, ks=(2,)).curve("recall")[-1]
    assert (score.mean, score.se, score.ci95, score.users) == (1.0, None, None, 1)


def test_every_metric_at_every_k() -> None:
    assert set(judge(*hand(), ks=(2, 1)).scores) == {f"{name}@{k}" for name in [*METRICS, "coverage", "gini"] for k in (1, 2)}


def test_no_user_is_an_error() -> None:
    empty = Histories.from_rows([], 6)
    with pytest.raises(DataError, match="no held-out user"):
        judge(hand()[0], Holdout(IdMap(()), empty, empty), (1,))


@pytest.mark.parametrize("name", ["ease", "mult_vae"])
def test_results_do_not_depend_on_the_batch_size(name: str, holdout: Holdout) -> None:
    model = fitted(name, tastes())
    one, seven, all_ = (evaluate(model, holdout, (5, 100), batch_size=size).per_user for size in (1, 7, 500))
    for metric in one:
        np.testing.assert_array_equal(one[metric], all_[metric])
        np.testing.assert_array_equal(seven[metric], all_[metric])


def test_the_model_sees_the_fold_in_alone_and_never_lists_it(holdout: Holdout) -> None:
    found = evaluate(fitted("ease", tastes()), holdout, (N_ITEMS,))
    assert (found.per_user[f"recall@{N_ITEMS}"] == 1).all()  # all that is not folded in is in a list of the whole catalogue
    assert found.score_seconds >= 0


def test_a_personal_model_beats_popularity(holdout: Holdout) -> None:
    train = tastes(200, seed=5)
    assert mean_metric(fitted("ease", train), holdout, "ndcg@5") > 1.5 * mean_metric(
        fitted("popularity", train), holdout, "ndcg@5"
    )


def test_mean_metric_is_that_of_evaluate(holdout: Holdout) -> None:
    model = fitted("ease", tastes())
    assert mean_metric(model, holdout, "ndcg@7") == evaluate(model, holdout, (7, 20)).scores["ndcg@7"].mean


def test_candidates_alone_are_ranked_and_covered(holdout: Holdout) -> None:
    model = fitted("ease", tastes())
    columns = np.unique(holdout.held_out.items)
    some = Holdout(holdout.users, holdout.fold_in, holdout.held_out, columns)
    n = len(columns)
    assert n < N_ITEMS
    found, whole = evaluate(model, some, (2, n)), evaluate(model, holdout, (2, n))
    assert (found.per_user[f"recall@{n}"] == 1).all()  # a list of all candidates holds every target
    assert whole.scores[f"recall@{n}"].mean < 1
    listed = rank_top_k(model, some.fold_in, N_ITEMS, allow=some.allow).items
    assert set(listed[listed >= 0].tolist()) == set(columns.tolist())
    assert found.overall[f"coverage@{n}"] == 1  # of the candidates, not of the catalogue
    assert mean_metric(model, some, "ndcg@2") == found.scores["ndcg@2"].mean


def test_holdouts_pooled_are_one_of_all_users(holdout: Holdout) -> None:
    model = fitted("ease", tastes())
    cuts = [np.arange(4), np.arange(4, len(holdout))]
    parts = [holdout.take(c) for c in cuts]
    apart, whole = [evaluate(model, part, (5,)) for part in parts], evaluate(model, holdout, (5,))
    found = pooled(apart)
    assert found.users == len(holdout)
    assert found.scores["ndcg@5"] == whole.scores["ndcg@5"]
    assert found.overall["coverage@5"] == pytest.approx((apart[0].overall["coverage@5"] + apart[1].overall["coverage@5"]) / 2)
    assert found.score_seconds == apart[0].score_seconds + apart[1].score_seconds
    assert pooled([whole]) is whole


def test_metric_names() -> None:
    assert parse_metric("capped_recall@50") == ("capped_recall", 50)
    for wrong in ("ndcg", "ndcg@", "ndcg@0", "ndcg@-1", "ndcg@x", "ndcg@²", "hits@5", ""):
        with pytest.raises(ConfigError, match="expected one of"):
            parse_metric(wrong)
