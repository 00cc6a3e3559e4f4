"""What fitting cost, of models that are one and of those that are several."""

from typing import cast

from pipelines.evaluation.document import cost
from pipelines.evaluation.judged import Judged
from recsys_ae import FitRecord
from recsys_ae.evaluation import Evaluation


def judged(record: FitRecord) -> Judged:
    return Judged("ease", cast(Evaluation, None), record=record, train_users=100, fit_seconds=9.0)


class Scored:
    users, score_seconds = 10, 2.0


def test_users_a_second_count_every_epoch_of_every_member() -> None:
    """Users x epochs run / seconds inside training; what is learnt in one go is one epoch."""
    single = judged(FitRecord(epochs=5, seconds={"training": 4.0}))
    assert cost([single], cast(Evaluation, Scored))["fit_users_per_second"] == 100 * 5 / 4.0
    members = [FitRecord(seconds={"training": 1.0}), FitRecord(epochs=5, seconds={"training": 4.0})]
    several = judged(FitRecord(members=members, seconds={"training": 5.0}))
    assert cost([several], cast(Evaluation, Scored))["fit_users_per_second"] == 100 * (1 + 5) / 5.0
    assert cost([single, several], cast(Evaluation, Scored))["fit_users_per_second"] == 100 * (5 + 6) / 9.0
