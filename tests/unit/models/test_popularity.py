from recsys_ae import Histories
from tests.worlds import fitted


def test_score_is_the_sum_of_weights_over_all_histories() -> None:
    train = Histories.from_rows([[0, 1, 1], [1]], 3, [[0.5, 1, 2], [4]])
    assert fitted("popularity", train).score(train).tolist() == [[0.5, 7, 0]] * 2
