"""The performance page is what the newest results say; the two ways of comparing agree with the library's own figures."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import compare, performance_page
from recsys_ae.evaluation import mean_metric
from recsys_ae.histories import Histories, Holdout
from recsys_ae.ids import IdMap
from recsys_ae.models import MODELS
from recsys_ae.ranking import rank_top_k
from recsys_ae.training import RunContext


def test_the_page_is_what_the_data_say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["performance_page", "--check"])
    assert performance_page.main() == 0, capsys.readouterr().out


def test_the_newest_result_of_each_kind_of_machine_is_a_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(performance_page, "RESULTS", tmp_path)
    assert performance_page.table(performance_page.newest()) == "Not measured yet."
    text = '{"threads": %d, "bfloat16": %s, "reference": "a peer", "date": "%s", "machine": "m", "comparisons": [%s]}'
    measured = ((1, "", "01", 2.0), (1, "", "02", 4.0), (1, "-float32", "03", 5.0), (2, "", "01", 8.0))
    for threads, kind, day, theirs in measured:
        cost = f'{{"what": "w", "unit": "s", "ours": 1.0, "theirs": {theirs}, "goal": 0.5, "ratio": {1 / theirs}}}'
        narrow = "false" if kind else "true"
        path = tmp_path / f"top_k-threads{threads}{kind}-2026-01-{day}.json"
        path.write_text(text % (threads, narrow, f"2026-01-{day}", cost))
    lines = performance_page.table(performance_page.newest()).splitlines()[2:]
    assert lines == [
        "| w | a peer | 1 | 1 s | 4 s | 0.250 | at most 0.50 |  | 2026-01-02, m |",
        "| w | a peer | 1 | 1 s | 5 s | 0.200 | at most 0.50 |  | 2026-01-03, m, trained in float32 |",
        "| w | a peer | 2 | 1 s | 8 s | 0.125 | at most 0.50 |  | 2026-01-01, m |",
    ]


def world() -> tuple[Histories, Holdout]:
    """Two groups of users, each with items of its own; held-out users of both."""
    rng = np.random.default_rng(0)
    rows = [sorted(rng.choice(20, 8, replace=False) + 20 * (user % 2)) for user in range(60)]
    asked, wanted = [row[::2] for row in rows[:20]], [row[1::2] for row in rows[:20]]
    holdout = Holdout(IdMap.of(range(20)), Histories.from_rows(asked, 40), Histories.from_rows(wanted, 40))
    return Histories.from_rows(rows[20:], 40), holdout


def test_a_fit_to_a_quality_ends_at_the_first_epoch_that_has_it() -> None:
    train, holdout = world()
    settings = {"latent": 8, "epochs": 30, "learning_rate": 0.01}
    model = MODELS["mult_dae"](MODELS["mult_dae"].Config(**settings), 40)
    record = model.fit(train, validation=holdout, run=RunContext(seed=0))
    target = float(np.mean(record.validation[:2])) if record.validation[1] > record.validation[0] else record.validation[0]
    wanted = next(epoch for epoch, value in enumerate(record.validation, 1) if value >= target)
    found, fitted = compare.seconds_to(target, "mult_dae", settings, train, holdout, seed=0)
    assert found["epochs"] == wanted
    assert found["ndcg@100"] == mean_metric(fitted, holdout, "ndcg@100") >= target
    unreached, _ = compare.seconds_to(2.0, "mult_dae", settings, train, holdout, seed=0)
    assert unreached["epochs"] == record.best_epoch


def test_lists_of_others_are_judged_as_ours() -> None:
    train, holdout = world()
    model = MODELS["ease"](MODELS["ease"].Config(), 40)
    model.fit(train, validation=None, run=RunContext())
    lists = rank_top_k(model, holdout.fold_in, 100).items
    assert compare.ndcg_100(lists, holdout) == mean_metric(model, holdout, "ndcg@100")


def test_models_and_settings_are_read_from_one_word() -> None:
    assert compare.model_settings("mult_dae,latent=64,activation=tanh") == ("mult_dae", {"latent": 64, "activation": "tanh"})
    with pytest.raises(Exception, match="unknown; expected one of popularity"):
        compare.model_settings("no_model")
