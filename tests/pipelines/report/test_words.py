"""Numbers and sentences of the report."""

from typing import Any

import pytest

from pipelines.report import findings, words
from tests.pipelines.report import documents


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (words.figure(0.38251), "0.3825"),
        (words.figure(-0.00449), "−0.0045"),
        (words.figure(212.74), "212.7"),
        (words.figure(1_234_567.0), "1,234,567"),
        (words.figure(None), ""),
        (words.signed(0.01), "+0.0100"),
        (words.interval([0.35, 0.4]), "0.3500 to 0.4000"),
        (words.count(7_412_203), "7,412,203"),
        (words.share(0.4196), "42.0 %"),
        (words.share(0.000404), "0.04 %"),
        (words.size(667_000_000), "636 MiB"),
        (words.size(48_120), "47.0 KiB"),
        (words.size(1_023), "1,023 B"),
        (words.size(1_024), "1.0 KiB"),
        (words.size(0), "0 B"),
        (words.size(9 * 1024**5), "9,216 TiB"),
        (words.duration(0.012), "12 ms"),
        (words.duration(47.3), "47 s"),
        (words.duration(200), "3 min 20 s"),
        (words.duration(7_500), "2 h 5 min"),
        (words.day(1_380_000_000), "24 September 2013"),
        (words.day(1e30), "1,000,000,000,000,000,019,884,624,838,656 s"),
        (words.at("2026-11-24T05:12:44+02:00"), "24 November 2026, 03:12 UTC"),
        (words.at("last night"), "last night"),
        (words.p_value(0.0002), "< 0.001"),
        (words.p_value(0.0311), "0.031"),
        (words.listed(["a", "b", "c"]), "a, b and c"),
        (words.listed([str(n) for n in range(19)], most=3), "0, 1, 2 and 16 more"),
        (words.plural(1, "user"), "1 user"),
        (words.begun({}), ""),
        (words.begun({"version": None, "generation": 0, "reason": "no twin"}), "cold: no twin"),
        (words.begun({"version": "v1", "generation": 2}), "warm from v1, 2 in a row"),
        (words.plain("a\u202eb\x00\n c"), "ab c"),
        (len(words.plain("x" * 300)), 160),
    ],
)
def test_numbers_and_names(said: object, expected: object) -> None:
    assert said == expected


def told(document: dict[str, Any]) -> dict[str, Any]:
    metric = findings.decision_metric(document)
    return findings.answer(document, metric, findings.standing(document, metric))


def honest(document: dict[str, Any]) -> dict[str, Any]:
    """The same without the failed leak check."""
    document["split"]["checks"] = [check for check in document["split"]["checks"] if check["passed"]]
    return document


def test_a_certain_lead() -> None:
    found = told(honest(documents.full()))
    text = " ".join(found["sentences"])
    assert (found["publish"], found["tone"]) == ("mult_vae", "certain")
    assert found["heading"] == "Publish mult_vae: its lead is real"
    assert "ndcg@100 of 0.3860 (95 % interval 0.3742 to 0.3978, 2,000 test users)" in text
    assert "0.0040, or 1.0 %, more than mult_dae" in text
    assert "between 0.0020 and 0.0060 (95 %)" in text and "below 0.001 (Holm-corrected randomisation test)" in text
    assert "takes 3 min 27 s to fit, scores 5,506 users a second, needs up to 636 MiB of memory and is 28.3 MiB on disk" in text


def test_a_lead_that_may_be_chance() -> None:
    found = told(honest(documents.full(certain=False)))
    text = " ".join(found["sentences"])
    assert (found["heading"], found["tone"]) == ("Publish mult_vae, but its lead may be chance", "uncertain")
    assert "between −0.0080 and 0.0160 (95 %), which includes no difference at all" in text and "probability 0.44" in text
    assert "cannot tell it apart from mult_dae and ease" in text


def test_a_runner_up_that_is_beaten_before_one_that_is_not() -> None:
    document = honest(documents.full())
    document["comparison"]["verdict"] |= {"certain": False, "equals": ["ease"]}
    found = told(document)
    text = " ".join(found["sentences"])
    assert found["heading"] == "Publish mult_vae, but its lead may be chance"
    assert "more than mult_dae, the next best. The lead is larger than chance explains" in text
    assert "cannot tell it apart from ease" in text


def test_another_than_the_best_may_be_published() -> None:
    document = honest(documents.full(certain=False))
    document["comparison"]["verdict"] |= {"publish": "ease", "over": None, "equals": ["mult_vae", "mult_dae"]}
    found = told(document)
    assert found["publish"] == "ease" and found["heading"] == "Publish ease, which may be as good as the best"
    assert "The highest mean is that of mult_vae." in found["sentences"]


def test_one_model_has_nothing_to_lead() -> None:
    found = told(documents.minimal())
    assert (found["heading"], found["tone"]) == ("popularity is the only model judged", "alone")
    assert not any("lead" in sentence for sentence in found["sentences"])


def test_without_a_test_no_lead_is_called_real() -> None:
    found = told(documents.minimal(("a", "b")))
    assert found["heading"] == "a has the highest recall@20" and found["tone"] == "uncertain"
    assert "b reaches the same." in found["sentences"]


def test_a_failed_leak_check_comes_first() -> None:
    found = told(documents.full())
    assert (found["heading"], found["tone"]) == ("mult_vae leads, but 1 leak check failed", "failed")


def test_losing_groups_have_one_sign_whichever_way_they_are_written() -> None:
    document = documents.full()
    losing = document["comparison"]["verdict"]["losing_groups"]
    expected = "history length: over 100. mult_vae is 0.0131 below mult_dae in ndcg@100 (95 % interval 0.0021 to 0.0242)."
    assert findings.losses(document, "ndcg@100", "mult_vae") == [expected]
    losing[0] |= {"difference": 0.0131, "ci95": [0.0021, 0.0242]}
    assert findings.losses(document, "ndcg@100", "mult_vae") == [expected]


def test_the_metric_of_the_decision_must_be_everyones() -> None:
    document = documents.full()
    document["comparison"]["metric"] = document["publish"]["metric"] = "ndcg@7"
    assert findings.decision_metric(document) == "ndcg@100"


def test_bold_is_what_is_wanted_most() -> None:
    document = documents.full()
    tables = findings.metric_tables(document, list(documents.KEYS), beyond=True)
    names = [column["name"] for column in tables[0]["columns"]]
    assert names == [findings.name_of(name) for name in findings.BEYOND]
    for place, (metric, (want, _)) in enumerate(findings.BEYOND.items()):
        bold = next(row["key"] for row in tables[0]["rows"] if row["cells"][place]["best"])
        values = {key: entry["metrics"][f"{metric}@10"]["mean"] for key, entry in document["models"].items()}
        assert bold == (max if want == "more" else min)(values, key=lambda key: values[key])
