"""The report as files: whole, minimal and hostile documents, the same bytes, and the command."""

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.__main__ import main
from pipelines.evaluation.stored import read_document
from pipelines.report import render, render_file
from pipelines.report.drawing import labels
from recsys_ae.errors import ConfigError
from tests.pipelines.report import documents

PICTURES = {
    *("scores", "differences", "curves", "overlap", "validation", "losses", "latent", "map-category", "map-popularity"),
    *("popularity", "lengths", "times", "windows", "trend"),
    *("groups-history-length", "groups-popularity-of-the-history", "groups-activity"),
    *("targets-popularity", "targets-category", "targets-period"),
}


def test_a_whole_document_has_every_section_and_picture(whole: Path) -> None:
    html = whole.read_text("utf-8")
    ids = re.findall(r'<section id="(\w+)"', html)
    assert ids == ["answer", "accuracy", "beyond", "who", "learnt", "data", "time"]
    assert {path.stem for path in (whole.parent / "pictures").glob("*.svg")} == PICTURES
    assert html.count("<svg ") == len(PICTURES)
    assert len(html.encode()) < 1_000_000
    assert "recsys-ae evaluate run.toml --out report" in html
    assert html.count("stopped at the last epoch") == 1


def test_ids_are_unique_and_every_reference_has_its_target(whole: Path) -> None:
    html = whole.read_text("utf-8")
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(#|href="#|for=")([^)"]+)', html)) <= set(ids)


def test_nothing_is_loaded_from_elsewhere(whole: Path) -> None:
    html = whole.read_text("utf-8")
    assert not re.search(r"(?:src|href|action)=\"(?!#|data:,)", html)
    assert "@import" not in html and "url(http" not in html
    assert "default-src 'none'" in html


def test_pictures_stand_alone_and_say_what_they_show(whole: Path) -> None:
    for path in (whole.parent / "pictures").glob("*.svg"):
        root = ET.parse(path).getroot()
        assert root.get("role") == "img" and root.get("aria-label")
        assert root.findtext("{http://www.w3.org/2000/svg}title") == root.get("aria-label")
        assert "var(--" not in path.read_text("utf-8")


def test_inline_pictures_have_no_colour_of_their_own(whole: Path) -> None:
    for picture in re.findall(r"<svg .*?</svg>", whole.read_text("utf-8"), re.DOTALL):
        assert not re.search(r"(?:fill|stroke): #", picture)
        assert "<title>" in picture


def test_the_same_document_gives_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    again = render(json.loads(json.dumps(documents.full())), tmp_path)
    assert again.read_bytes() == whole.read_bytes()
    for path in (whole.parent / "pictures").glob("*.svg"):
        assert (tmp_path / "pictures" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("keys", [("popularity",), ("popularity", "ease")])
def test_the_contract_alone_is_enough(keys: tuple[str, ...], tmp_path: Path) -> None:
    html = render(documents.minimal(keys), tmp_path).read_text("utf-8")
    assert re.findall(r'<section id="(\w+)"', html) == ["answer", "accuracy", "data"]


def _each(document: dict[str, Any], change: Callable[[dict[str, Any]], Any]) -> None:
    for entry in document["models"].values():
        change(entry)


def no_comparison(document: dict[str, Any]) -> None:
    for key in ("comparison", "publish", "seed", "environment"):
        del document[key]
    _each(document, lambda entry: [entry.pop(part) for part in ("groups", "windows", "cost", "config")])


def no_pictures(document: dict[str, Any]) -> None:
    for key in ("overlap", "map", "earlier"):
        del document[key]
    del document["data"]["profile"], document["data"]["cleaning"], document["split"]["checks"]
    _each(document, lambda entry: [entry.pop(part) for part in ("curves", "targets", "worst", "warnings", "fit")])


def no_intervals(document: dict[str, Any]) -> None:
    _each(document, lambda entry: [score.update(se=None, ci95=None) for score in entry["metrics"].values()])
    for pair in [*document["comparison"]["pairs"], *document["comparison"]["groups"]]:
        pair["difference"]["ci95"] = None
        pair |= {"p": None, "p_holm": None}
    document["comparison"]["verdict"]["losing_groups"][0]["ci95"] = None


def no_means(document: dict[str, Any]) -> None:
    _each(document, lambda entry: [score.update(mean=None, se=None, ci95=None) for score in entry["metrics"].values()])
    del document["comparison"]["verdict"]


def empty(document: dict[str, Any]) -> None:
    _each(document, lambda entry: entry.update(groups=[], targets=[], worst=[], windows=[], warnings=[], curves={}, fit={}))
    document["comparison"] |= {"pairs": [], "groups": []}
    document["map"]["items"], document["earlier"], document["overlap"] = [], [], {"k": 20, "models": [], "jaccard": []}
    document["data"]["profile"] = {"history_lengths": {"edges": [], "users": []}, "interactions_by_time": [], "top_items": []}


def bare_items(document: dict[str, Any]) -> None:
    for item in document["map"]["items"]:
        item |= {"category": None, "users": 3, "title": None}
    document["earlier"] = [{"name": "old", "created": None, "models": {"x": {}}}]


def one_item(document: dict[str, Any]) -> None:
    document["map"]["items"] = [document["map"]["items"][0] | {"category": ["Drama", "War"]}]
    document["data"]["profile"]["times"]["first"] = 10**18


CHANGES = {each.__name__: each for each in (no_comparison, no_pictures, no_intervals, no_means, empty, bare_items, one_item)}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_absent_is_left_out(change: str, tmp_path: Path) -> None:
    document = documents.full(documents.KEYS[:2])
    CHANGES[change](document)
    html = render(document, tmp_path).read_text("utf-8")
    assert "None" not in re.sub(r"<pre.*?</pre>", "", html, flags=re.DOTALL) and "nan" not in html


def test_nineteen_models_are_drawn_too(tmp_path: Path) -> None:
    keys = (*documents.KEYS, *(f"model_{place}" for place in range(14)))
    html = render(documents.full(keys), tmp_path).read_text("utf-8")
    assert "The first 8 models are shown." in html
    assert all(html.count(key) > 3 for key in keys)


def test_long_names_are_told_apart_in_pictures() -> None:
    versions = [f"20261124T132529.{n}-ease-faa85ada" for n in (916668, 961907)]
    names = labels([*(f"a_rather_long_name_of_model_{n}" for n in range(19)), "ease", *versions])
    assert names["ease"] == "ease" and names["a_rather_long_name_of_model_7"] == "a_rather_l…_of_model_7"
    assert len(set(names.values())) == len(names) == 22
    assert max(map(len, names.values())) <= 26


def test_held_out_items_are_counted_at_the_k_of_the_decision(tmp_path: Path) -> None:
    document = documents.full(documents.KEYS[:2])
    for entry in document["models"].values():
        for row in entry["targets"]:
            name = next(name for name in row if name.startswith("found@"))
            row["found@100"] = row.pop(name)
            row |= {"found@7": row["found@100"]}
    document["comparison"]["metric"] = "ndcg@100"
    html = render(document, tmp_path).read_text("utf-8")
    assert "found among the first 100" in html and "found among the first 7," not in html


def test_hostile_texts_stay_texts(hostile: Path) -> None:
    html = hostile.read_text("utf-8")
    assert html.count("<script>") == 1 and "<script>alert" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "$x^{2$" in html and "\u202e" not in html and "\x07" not in html
    for path in (hostile.parent / "pictures").glob("*.svg"):
        ET.parse(path)
        assert "W" * 200 not in path.read_text("utf-8")
        assert re.fullmatch(r"[a-z0-9-]+\.svg", path.name)


def test_pictures_of_an_earlier_report_go_and_others_stay(tmp_path: Path) -> None:
    render(documents.minimal(("a", "b")), tmp_path)
    assert (tmp_path / "pictures/scores.svg").exists()
    (tmp_path / "pictures/mine.svg").write_text("<svg/>")
    render(documents.minimal(), tmp_path)
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["mine.svg"]


def test_the_command_draws_beside_the_document_or_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "evaluation.json").write_text(json.dumps(documents.minimal()))
    assert render_file(tmp_path) == tmp_path / "report.html"
    assert run("report", str(tmp_path / "evaluation.json"), "--out", str(tmp_path / "out"), "--json") == 0
    assert json.loads(capsys.readouterr().out)["report"] == str(tmp_path / "out/report.html")
    assert (tmp_path / "out/report.html").read_bytes() == (tmp_path / "report.html").read_bytes()


def run(*arguments: str) -> int:
    """The command line in this process: its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["recsys-ae", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
    return int(left.value.code or 0)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, "no such file"),
        ("{", "not valid JSON"),
        ('{"schema": 1, "models": NaN}', "NaN is not JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "found a JSON list"),
        ("{}", "found schema null"),
        ('{"schema": 2}', "found schema 2"),
        ('{"schema": 1, "models": {}}', "found no models"),
        ('{"schema": 1, "models": {"a": {}}}', "model 'a' has no metrics"),
        ('{"schema": 1, "models": {"a": {"metrics": {"ndcg@10": 0.3}}}}', "model 'a' has no metrics"),
        ('{"schema": 1, "models": {"a": {"metrics": {"ndcg@10": {"mean": "0.3"}}}}}', "model 'a' has no metrics"),
        ('{"schema": 1, "models": {"a": {"metrics": {}}}}', "found no object 'data'"),
        ('{"schema": 1, "models": {"a": {"metrics": {}}}, "data": {"profile": []}, "split": {}}', "list as 'data.profile'"),
    ],
)
def test_what_is_no_evaluation_is_one_message(
    text: str | None, found: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        (tmp_path / "evaluation.json").write_text(text)
    with pytest.raises(ConfigError, match=re.escape(found)) as error:
        read_document(tmp_path / "evaluation.json")
    assert str(tmp_path / "evaluation.json") in str(error.value) and "expected an evaluation.json of schema 1" in str(
        error.value
    )
    assert run("report", str(tmp_path)) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "report.html").exists()


def test_no_sentence_shouts(whole: Path) -> None:
    text = re.sub(r"<(style|script|svg).*?</\1>", "", whole.read_text("utf-8"), flags=re.DOTALL)
    assert "!" not in re.sub(r"<[^>]*>", "", text)
