"""The page for people: what its addresses show, to whom, and that its lists are the API's. See also test_page_browser.py."""

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partialmethod
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from pydantic import ValidationError
from starlette.datastructures import QueryParams

from recsys_ae.errors import StoreError
from recsys_ae.ids import IdMap
from recsys_ae.keys import add_key
from service.app import create_app
from service.catalogue import Catalogue
from service.engine import Engine
from service.page import figures
from service.page.asked import LONGEST_HISTORY, Asked
from service.search import Search, words_of
from service.settings import Settings
from tests.service.conftest import World, assert_problem
from tests.service.films import HOSTILE, TITLES, film_world

HISTORY = "/?history=f1&history=f2"


class Visitor:
    """Requests to an application in this process."""

    def __init__(self, app: FastAPI, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://test")

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self._loop.run_until_complete(self._client.request(method, path, **options))

    get = partialmethod(request, "GET")
    post = partialmethod(request, "POST")
    put = partialmethod(request, "PUT")
    delete = partialmethod(request, "DELETE")


@contextmanager
def visiting(world: World | Path, **settings: Any) -> Iterator[Visitor]:
    path = world if isinstance(world, Path) else world.path
    with asyncio.Runner() as runner:
        yield Visitor(create_app(Settings(registry=path, access_log=False, **settings)), runner.get_loop())


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> World:
    return film_world(tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="module")
def page(films: World) -> Iterator[Visitor]:
    with visiting(films) as opened:
        yield opened


def part(html: str, id_: str) -> str:
    """An element of the page that stands by itself, from its id to the next such."""
    return re.split(
        r'<(?:section|div|form|dl) id="|<span id="[a-z-]+" data-part', html.split(f' id="{id_}"', 1)[1], maxsplit=1
    )[0]


def listed(html: str, id_: str = "list") -> list[str]:
    return [unescape(found) for found in re.findall(r'data-item="([^"]*)"', part(html, id_))]


def link(html: str, do: str, value: str) -> str:
    """Where the first link that does this leads."""
    found = re.search(rf'<a href="([^"]*)" data-do="{do}" data-value="{re.escape(value)}"', html)
    assert found, (do, value)
    return "/" + unescape(found[1])


def test_it_is_whole_without_script(page: Visitor) -> None:
    """Search, choose, be told why, look at similar items, take back: each an address."""
    empty = page.get("/")
    assert empty.status_code == 200 and empty.headers["content-type"] == "text/html; charset=utf-8"
    assert "Popular to start with" in empty.text and len(listed(empty.text)) == 10
    found = page.get("/?q=empire").text
    chosen = page.get(link(part(found, "found"), "add", "f2")).text
    assert TITLES["f2"] in part(chosen, "history") and 'value="empire"' in chosen
    assert "For you" in chosen and "f2" not in listed(chosen) and listed(chosen) != listed(empty.text)
    assert f"because you chose <span><bdi>{TITLES['f2']}</bdi> <b>(+" in part(chosen, "list")
    first = listed(chosen)[0]
    both = page.get(link(part(chosen, "list"), "add", first)).text
    assert first not in listed(both) and len(re.findall('data-do="remove"', part(both, "history"))) == 2
    similar = page.get(link(part(both, "list"), "similar", listed(both)[0])).text
    assert len(listed(similar, "similar")) == 10 and listed(similar) == listed(both)
    assert listed(page.get(link(similar, "remove", first)).text) == listed(chosen)
    assert "Popular to start with" in page.get(link(both, "clear", "")).text


@pytest.mark.parametrize(("k", "diversity"), [(10, 0.0), (20, 0.3), (7, 0.6)])
def test_lists_reasons_and_similar_items_are_those_of_the_api(page: Visitor, k: int, diversity: float) -> None:
    asked = {"history": [{"item_id": "f1"}, {"item_id": "f2"}], "k": k, "diversity": diversity, "explain": True}
    expected = page.post("/v1/recommendations", json=asked).json()["items"]
    html = page.get(f"{HISTORY}&k={k}&diversity={diversity}").text
    assert listed(html) == [item["item_id"] for item in expected]
    shown = [unescape(score) for score in re.findall(r'<span class="number">([^<]+)</span>', part(html, "list"))]
    assert shown == [figures.score(item["score"]) for item in expected]
    positive = [figures.influence(b["influence"]) for i in expected for b in i["because"] if b["influence"] > 0]
    assert [unescape(said) for said in re.findall(r"<b>\(([^)]+)\)</b>", part(html, "list"))] == positive
    similar = page.get("/v1/items/f3/similar", params={"k": k}).json()["items"]
    assert listed(page.get(f"/?similar=f3&k={k}").text, "similar") == [item["item_id"] for item in similar]


def test_a_stored_user_is_shown_as_the_api_serves_them(page: Visitor, films: World) -> None:
    html = page.get("/?user=user 3&diversity=0.3").text
    expected = page.get("/v1/users/user 3/recommendations?diversity=0.3").json()["items"]
    assert listed(html) == [item["item_id"] for item in expected]
    row = films.stored.histories.take(np.array([3])).items[::-1]
    titles = [TITLES.get(id_) or id_ for id_ in films.artifact.items.at(row)]
    shown = re.findall(r"<li><bdi>(.*?)</bdi></li>", part(html, "user-shown"))
    assert [unescape(title) for title in shown] == titles
    assert "because this user chose" in html
    unknown = page.get("/?user=nobody")
    assert unknown.status_code == 200 and "Nothing is stored of user <bdi>nobody</bdi>" in unknown.text
    assert "Popular to start with" in unknown.text
    assert "user" not in Asked(user="user 3").adding("f1")  # to add is to come back to one's own history


def test_facts_are_those_of_the_model(page: Visitor, films: World) -> None:
    facts = part(page.get("/").text, "facts")
    for said in (films.version, ">ease<", ">24<", ">30<", ">ready<", "ndcg@10", ">0.500<", "UTC"):
        assert said in facts


def test_titles_are_text_and_nothing_else(page: Visitor) -> None:
    for path in ("/", f"/?q={HOSTILE.strip('<>/')[:6]}", "/?history=f5&similar=f5&k=24", "/page/data?history=f5&k=24"):
        html = page.get(path).text
        assert HOSTILE not in html and "<script>" not in html.replace("<script src", "")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.get("/?history=f5").text
    assert "f0" in page.get("/?history=f0").text  # which has no title
    html = page.get("/", params={"q": '"><script>alert(2)</script>', "user": "<b>", "similar": "'\"<i>"}).text
    assert "<script>alert(2)" not in html and "<b></bdi>" not in html and "<i>" not in html


def test_a_title_that_has_no_bytes_is_shown_all_the_same(films: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Catalogue, "title", lambda self, column: "half \ud800")
    with visiting(films) as opened:
        answer = opened.get(HISTORY + "&q=half")
    assert answer.status_code == 200 and "half ?" in answer.text


@pytest.mark.parametrize(
    "query",
    [
        "k=abc", "k=0", "k=-1", "k=1e9", "k=101", "diversity=nan", "diversity=2", "diversity=x", "q=" + "x" * 201,
        "user=" + "9" * 5_000,
        "&".join(f"history={n}" for n in range(LONGEST_HISTORY + 1)), "&".join(["history=1"] * 6_000),
        "history=" + "x" * 201, "similar=" + "y" * 40_000,
    ],
)  # fmt: skip
def test_what_cannot_be_shown_is_said_politely(page: Visitor, query: str) -> None:
    for path in ("/", "/page/data"):
        answer = page.get(f"{path}?{query}")
        assert answer.status_code == 422 and "This address cannot be shown: " in answer.text
        assert "Popular to start with" in answer.text and len(answer.text) < 40_000


@pytest.mark.parametrize(
    "query",
    [
        "history=%00&q=%00&user=%00&similar=%00", "history=%ff%fe&q=%ff", "q=%ed%a0%80&user=%ed%a0%80",
        "history=&q=&user=&similar=&k=",
        "unknown=1&utm=2", "q=" + quote("\U0001f600 ' OR 1=1 --"),
        "history=f1&history=f1&history=none", "k=1&k=2", "q=%25%2e%2e%2f",
        "&&==&;", "history[]=f1", "user=" + quote("../../etc/passwd"), "history=" + "9" * 200, "diversity=0.0001",
    ],
)  # fmt: skip
def test_odd_queries_are_shown(page: Visitor, query: str) -> None:
    assert page.get(f"/?{query}").status_code == 200


def test_methods_and_files(page: Visitor) -> None:
    assert_problem(page.post("/"), 405)
    for name in ("page.css", "page.js", "icon.svg"):
        assert page.get(f"/page/{name}").headers["cache-control"] == "public, max-age=86400"
    for name in ("view.py", "..%2Fview.py", "page.html", ""):
        assert_problem(page.get(f"/page/{name}"), 404)
    answer = page.get("/")
    assert "default-src 'self'" in answer.headers["content-security-policy"] and answer.headers["cache-control"] == "no-store"
    assert not re.search(r'style="| on\w+="|https?://|<script>|<style', answer.text)
    assert not [path for path in page.get("/openapi.json").json()["paths"] if not path.startswith(("/v1/", "/health/"))]


def test_it_is_off_by_setting(films: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_AE__SERVICE__PAGE", "false")
    with visiting(films) as opened:
        for path in ("/", "/page/data", "/page/page.css"):
            assert_problem(opened.get(path), 404)


def test_without_a_model_it_says_so(tmp_path: Path) -> None:
    with visiting(tmp_path) as opened:
        for path in ("/", "/page/data"):
            answer = opened.get(path)
            assert answer.status_code == 503 and answer.headers["content-type"].startswith("text/html")
            assert "No model is published yet" in answer.text and "no model" in part(answer.text, "facts")


def test_where_keys_are_asked_for_the_shell_holds_no_data(films: World, tmp_path: Path) -> None:
    keys = {scope: add_key(tmp_path / "keys.json", scope, [scope]) for scope in ("read", "write")}
    with visiting(films, keys=tmp_path / "keys.json") as opened:
        shell = opened.get("/?history=f1&user=user 3&q=a")
        assert shell.status_code == 200 and 'id="key"' in shell.text
        assert not listed(shell.text) and films.version not in shell.text and "user 3" not in shell.text
        assert not any(title in shell.text for title in TITLES.values())
        assert opened.get("/page/page.js").status_code == 200
        data = "/page/data?user=user 3"
        assert_problem(opened.get(data), 401)
        assert_problem(opened.get(data, headers={"X-API-Key": "wrong"}), 401)
        assert_problem(opened.get(data, headers={"X-API-Key": keys["write"]}), 403)
        answer = opened.get(data, headers={"X-API-Key": keys["read"]})
        assert answer.status_code == 200 and len(listed(answer.text)) == 10 and 'id="key"' not in answer.text
    with visiting(films) as opened:
        assert 'id="key"' not in opened.get("/").text


def test_rates_hold_and_lists_are_counted(films: World, tmp_path: Path) -> None:
    with visiting(films, rate_limit="2/hour") as opened:
        assert [opened.get(path).status_code for path in ("/page/page.css", "/", "/page/data", "/", "/page/data")] == [
            200, 200, 200, 429, 429,
        ]  # fmt: skip
        counted = opened.get("/metrics").text
    assert f'recsys_ae_lists_total{{arm="",source="popularity",version="{films.version}"}} 2.0' in counted
    add_key(tmp_path / "keys.json", "one", ["read"])
    with visiting(films, rate_limit="1/hour", keys=tmp_path / "keys.json") as opened:
        assert [opened.get("/").status_code for _ in range(3)] == [200] * 3


def test_limits_of_the_api_hold(films: World) -> None:
    with visiting(films, largest_k=5, largest_history=2, largest_explained=1) as opened:
        html = opened.get("/?history=f1&history=f2&history=f3&k=50").text
        expected = opened.post("/v1/recommendations", json={"history": [{"item_id": "f2"}, {"item_id": "f3"}], "k": 5}).json()
        assert listed(html) == [item["item_id"] for item in expected["items"]] and "because" not in part(html, "list")
        assert "because" not in part(opened.get("/?user=user 3").text, "list")


def test_the_store_holds_at_once(films: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with visiting(films, store=f"sqlite:///{tmp_path}/events.db") as opened:
        assert opened.put("/v1/items/f7", json={"title": "Zürich by Night", "available": True}).status_code == 200
        assert "Zürich by Night" in part(opened.get("/?q=zurich").text, "found")
        opened.delete("/v1/items/f7")
        assert "Zürich by Night" not in opened.get("/?q=zurich").text.replace('value="zurich"', "")
        assert "f7" not in listed(opened.get("/?k=24").text)
        event = {"event_id": "e", "user_id": "new", "item_id": "f2", "weight": 1}
        assert opened.post("/v1/interactions", json={"events": [event]}).status_code == 200
        assert TITLES["f2"] in part(opened.get("/?user=new").text, "user-shown")

        def away(*_: Any) -> Any:
            raise StoreError("away")

        monkeypatch.setattr(Engine, "catalogue", away)
        answer = opened.get("/")
        assert answer.status_code == 503 and "The store of events does not answer" in answer.text


def test_addresses() -> None:
    asked = Asked(history=("a", "b&c"), q="x", k=20)
    assert asked.address() == "?history=a&history=b%26c&q=x&k=20"
    assert asked.address(k=10, q="", diversity=0.3) == "?history=a&history=b%26c&diversity=0.3"
    assert asked.adding("a") == "?history=b%26c&history=a&q=x&k=20"
    full = Asked(history=tuple(map(str, range(LONGEST_HISTORY))))
    assert full.adding("new").count("history=") == LONGEST_HISTORY and "history=0&" not in full.adding("new")
    assert Asked().address(q="\ud800") == "?q=%3F"
    with pytest.raises(ValidationError, match="at most 100 items"):
        Asked.of(QueryParams([("history", str(n)) for n in range(10_000)]))


def finding(titles: list[str | None], popularity: list[int], **more: Any) -> Callable[[str, int], list[int]]:
    search = Search(IdMap(tuple(range(100, 100 + len(titles)))), np.array(popularity, np.float32))
    catalogue = Catalogue(tuple(titles), (), {}, **more)
    return lambda text, most=20: search.find(text, most, catalogue)


def test_search_takes_all_words_as_beginnings_the_most_popular_first() -> None:
    find = finding(
        ["Amélie", "Star Wars", "STAR Trek", "Schindler's List", "X-Men 101", None, "Smørrebrød"], [1, 2, 3, 4, 5, 6, 7]
    )
    assert find("star") == [2, 1] and find("wars STA") == [1] and find("tar") == []
    assert find("amelie") == find("AMÉLIE") == find("Ame\u0301l") == [0]
    assert find("schindlers list") == find("schindler’s") == [3]
    assert find("men x") == [4] and find("smorrebrod") == [6]
    assert find("101") == [1, 4]  # the item of this id, then words
    assert find(" 105 ") == [5] and find("!!!") == find("") == find("\0") == []
    assert find("star", 1) == [2]


def test_search_leaves_out_what_is_switched_off_and_keeps_its_limit() -> None:
    off = np.array([False, True, True])
    assert finding(["same"] * 3, [3, 2, 1], available=off)("same") == [1, 2]
    assert finding(["same"] * 3, [3, 2, 1], available=off)("100") == []
    assert finding(["100 same"] * 30, [1] * 30)("100", 5) == [0, 1, 2, 3, 4]


def test_search_finds_what_a_plain_look_at_every_title_finds() -> None:
    random = np.random.default_rng(3)
    titles = [" ".join("".join(random.choice(list("ab"), 3)) for _ in range(3)) for _ in range(200)]
    popularity = random.permutation(200)
    find = finding(list(titles), popularity.tolist())
    for text in ("a", "ab", "abb ba", "aba aba", "b a bb", "abab", "bab a ba aa b"):
        having = [n for n, title in enumerate(titles) if all(any(w.startswith(p) for w in title.split()) for p in text.split())]
        assert find(text, 1_000) == sorted(having, key=lambda n: -popularity[n])


def test_words() -> None:
    assert words_of("Ænima: L’Été — 1984 (ﬁlm)") == ["ænima", "lete", "1984", "film"]


@pytest.mark.parametrize(
    ("scores", "bars"), [([], []), ([4.0, 2.0, 0.0], [100, 53, 6]), ([-1.0, -2.0, -3.0], [100, 53, 6]), ([-5.0], [100])]
)
def test_bars(scores: list[float], bars: list[int]) -> None:
    assert figures.bars(scores) == bars


def test_figures() -> None:
    assert [figures.influence(v) for v in (0.214, 0.004, -0.5, 0.0)] == ["+0.21", "+0.004", "−0.50", "+0.00"]
    assert [figures.score(v) for v in (0.05, 138.2, -2.5, 12_345.6)] == ["0.0500", "138", "−2.50", "12,346"]
    assert figures.metric({"recall@5": {"mean": 0.1}, "ndcg@100": {"mean": 0.3312, "se": 0.01}}) == (
        "ndcg@100",
        "0.331 ± 0.020",
    )
    assert figures.metric({}) is None and figures.metric({"loss": 3.0}) is None
    assert figures.moment("2026-11-24T04:15:00+01:00") == "24 Nov 2026, 03:15 UTC"
    assert (figures.users(1.0), figures.users(1_234.0)) == ("1 user", "1,234 users")
