"""The page as people meet it: in a browser, by mouse and by keys, on a phone, in the dark, with an API key."""

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn

from recsys_ae.keys import add_key
from service.app import create_app
from service.settings import Settings
from tests.chromium import AA, CONTRAST, chromium, needs_chromium
from tests.service.conftest import World
from tests.service.films import TITLES, film_world

pytestmark = needs_chromium
PHONE, DESK = 375, 1280
LIST = "#list [data-item]"


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> World:
    return film_world(tmp_path_factory.mktemp("films"))


@contextmanager
def serving(world: World, **settings: Any) -> Iterator[str]:
    """The URL of a real server, in a thread."""
    app = create_app(Settings(registry=world.path, access_log=False, **settings))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def url(films: World) -> Iterator[str]:
    with serving(films) as started:
        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@contextmanager
def opened(browser: Any, url: str, width: int = DESK, refused: int = 0, **more: Any) -> Iterator[Any]:
    """A page that at its end has asked no other host, and whose console has told of as many refusals as expected, no more."""
    page = browser.new_page(viewport={"width": width, "height": 800}, **more)
    page.set_default_timeout(5_000)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    yield page
    assert len(said) == refused and all("Failed to load resource" in line for line in said), said
    assert {urlsplit(one).netloc for one in asked} == {urlsplit(url).netloc}
    page.close()


def listed(page: Any) -> list[str]:
    return page.locator(LIST).evaluate_all("rows => rows.map(row => row.dataset.item)")  # type: ignore[no-any-return]


def settled(page: Any) -> None:
    """Waits until all that was asked for is shown."""
    page.wait_for_timeout(30)
    page.locator("#page:not([aria-busy])").wait_for()


def focused(page: Any) -> str:
    return page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.id")  # type: ignore[no-any-return]


def test_the_walk_by_mouse(browser: Any, url: str) -> None:
    with opened(browser, url) as page:
        popular = listed(page)
        assert len(popular) == 10 and page.get_by_role("heading", name="Popular to start with").is_visible()
        page.get_by_label("Title or id").press_sequentially("amelie")
        page.locator("#found").get_by_role("link", name="Add Amélie (2001)").click()
        page.get_by_role("heading", name="For you").wait_for()
        first = listed(page)
        assert first != popular and "f3" not in first
        assert "because you chose Amélie (2001) (+" in page.locator("#list .because").first.inner_text()
        assert re.search(r"10 recommendations, first ", page.locator("#said").text_content())
        assert page.get_by_label("Title or id").input_value() == "amelie" and "history=f3" in page.url
        page.locator(LIST).first.get_by_role("link", name="Add").click()
        page.locator("#history .chips li").nth(1).wait_for()
        assert first[0] not in listed(page)
        page.reload()  # the address is the state
        assert page.locator("#history .chips li").count() == 2 and first[0] not in listed(page)
        page.locator("#history").get_by_role("link", name="Remove Amélie (2001)").click()
        page.locator("#history .chips li").nth(1).wait_for(state="detached")
        settled(page)
        assert listed(page) != first
        page.locator(LIST).first.get_by_role("link", name="Similar").click()
        page.locator("#similar li").nth(9).wait_for()
        assert focused(page) == "similar-head"
        page.get_by_role("link", name="Close similar items").click()
        page.locator("#similar").wait_for(state="hidden")
        assert focused(page).startswith("Similar to ")
        before = listed(page)
        page.get_by_role("link", name="20", exact=True).click()
        page.locator(LIST).nth(19).wait_for()
        assert listed(page)[:10] == before and page.locator("[aria-current]").last.inner_text() == "20"


def test_two_quick_choices_both_count(browser: Any, url: str) -> None:
    with opened(browser, url) as page:
        wanted = listed(page)[:2]
        page.evaluate("document.querySelectorAll('#list [data-do=add]').forEach((link, at) => at < 2 && link.click())")
        page.locator("#history .chips li").nth(1).wait_for()
        assert re.findall("history=([^&]+)", page.url) == wanted


def test_beyond_the_longest_history_the_oldest_goes(browser: Any, url: str) -> None:
    full = "&".join(f"history=strange-{n}" for n in range(100))
    with opened(browser, f"{url}/?{full}") as page:
        page.locator(LIST).first.get_by_role("link", name="Add").click()
        page.get_by_role("heading", name="For you").wait_for()
        assert page.locator("#history .chips li").count() == 100 and "strange-0&" not in page.url


def test_a_stored_user_and_back(browser: Any, url: str) -> None:
    with opened(browser, url) as page:
        page.get_by_label("User id").fill("user 3")
        page.get_by_role("button", name="Show").click()
        page.get_by_role("heading", name="For user user 3").wait_for()
        assert page.locator(".stored li").count() == 7 and "because this user chose" in page.locator("#list").inner_text()
        page.get_by_label("User id").fill("nobody")
        page.keyboard.press("Enter")
        page.get_by_text("Nothing is stored of user nobody").wait_for()
        page.get_by_role("link", name="Leave this user").click()
        page.get_by_text("Nothing is stored").wait_for(state="hidden")
        assert focused(page) == "User id" and page.get_by_label("User id").input_value() == ""


def tab_to(page: Any, name: str) -> None:
    """Presses Tab until what is called that has the focus, and can be seen to have it."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if focused(page) == name:
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
            return
    raise AssertionError(f"{name} is not reached; the focus is at {focused(page)}")


@pytest.mark.slow
def test_the_walk_by_keys_alone(browser: Any, url: str) -> None:
    with opened(browser, url) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the list"
        assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
        page.keyboard.press("Tab")
        assert focused(page) == "Title or id"
        page.keyboard.type("empire")
        page.locator("#found li").first.wait_for()
        tab_to(page, f"Add {TITLES['f2']}")
        page.keyboard.press("Enter")
        page.locator("#history .chips li").wait_for()
        settled(page)
        assert focused(page) == f"Remove {TITLES['f2']}"  # where the link was that added it
        second = page.locator(LIST).nth(1).get_by_role("link", name="Add").get_attribute("aria-label")
        tab_to(page, second)
        page.keyboard.press("Enter")
        page.locator("#history .chips li").nth(1).wait_for()
        settled(page)
        assert focused(page) == page.locator(LIST).nth(1).get_by_role("link", name="Add").get_attribute("aria-label") != second
        page.keyboard.press("Tab")
        similar = focused(page)
        assert similar.startswith("Similar to ")
        page.keyboard.press("Enter")
        page.locator("#similar li").first.wait_for()
        settled(page)
        assert focused(page) == "similar-head"
        tab_to(page, "Close similar items")
        page.keyboard.press("Enter")
        page.locator("#similar").wait_for(state="hidden")
        settled(page)
        assert focused(page) == similar
        page.locator("#q").focus()
        tab_to(page, f"Remove {TITLES['f2']}")
        page.keyboard.press("Enter")
        settled(page)
        assert focused(page) == f"Add {TITLES['f2']}" and page.locator("#history .chips li").count() == 1
        page.locator("#history .chips a").focus()
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="Popular to start with").wait_for()
        assert focused(page) == "history-head"


EVERYTHING = "/?history=f1&history=f5&history=f6&history=f7&history=none&q=f&similar=f6&user=user 3&k=20"


@pytest.mark.parametrize("path", ["/", EVERYTHING, EVERYTHING.replace("user=user 3&", "")])
def test_it_never_scrolls_sideways(browser: Any, url: str, path: str) -> None:
    wide = """[...document.querySelectorAll("body *")].filter(e => !e.matches(".skip, .unseen") && e.getClientRects().length
        && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"""
    with opened(browser, url + path, PHONE) as page:
        for width in (PHONE, DESK):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
            assert page.evaluate(wide) == []


def test_controls_have_a_name_and_are_large_enough_on_a_phone(browser: Any, url: str) -> None:
    """24 pixels, as WCAG 2.2 asks for (2.5.8)."""
    with opened(browser, url + EVERYTHING, PHONE) as page:
        controls = page.evaluate("""[...document.querySelectorAll("a:not(.skip), button, input:not([type=hidden])")].map(e =>
            [e.getAttribute("aria-label") || e.textContent.trim(), e.offsetWidth, e.offsetHeight])""")
        assert len(controls) > 80
        assert [name for name, width, height in controls if not name or min(width, height) < 24] == []
        ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
        assert len(ids) == len(set(ids))


def test_text_has_contrast_in_both_themes(browser: Any, url: str) -> None:
    texts = "h1, h2, p, a:not(.skip), dt, dd, li, small, b, button, .title, .about, .because, .rank, .number"
    with opened(browser, url + EVERYTHING) as page:
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            found = page.evaluate(CONTRAST, texts)
            assert len(found) > 100
            assert [what for ratio, what in found if ratio < AA] == []
            dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
            assert dark == (scheme == "dark")


def test_it_works_without_javascript(browser: Any, url: str) -> None:
    with opened(browser, url, java_script_enabled=False) as page:
        page.get_by_label("Title or id").fill("matrix")
        page.get_by_role("button", name="Search").click()
        page.get_by_role("link", name="Add Matrix, The (1999)").click()
        assert page.get_by_role("heading", name="For you").is_visible() and "q=matrix" in page.url and "history=f4" in page.url
        page.get_by_label("User id").fill("user 3")
        page.get_by_role("button", name="Show").click()
        assert page.get_by_role("heading", name="For user user 3").is_visible() and "history=f4" in page.url


@pytest.mark.slow
def test_a_key_is_asked_for_kept_in_the_tab_and_never_in_the_address(browser: Any, films: World, tmp_path: Path) -> None:
    keys = {scope: add_key(tmp_path / "keys.json", scope, [scope]) for scope in ("read", "write")}
    with serving(films, keys=tmp_path / "keys.json") as started:
        with opened(browser, started + "/?history=f2", refused=2) as page:
            field, use = page.get_by_label("This service asks for an API key"), page.get_by_role("button", name="Use key")
            assert focused(page) == "key-text" and not page.locator("#parts").is_visible()
            for wrong, said in (("né", "This is no key"), ("rae_wrong", "is not known here"), (keys["write"], "may not read")):
                field.fill(wrong)
                use.click()
                page.get_by_text(said).wait_for()
                assert field.input_value() == "" and not page.locator("#parts").is_visible()
            field.fill(keys["read"])
            page.keyboard.press("Enter")
            page.get_by_role("heading", name="For you").wait_for()
            assert not field.is_visible() and "history=f2" in page.url and keys["read"] not in page.content() + page.url
            page.reload()
            page.locator(LIST).first.get_by_role("link", name="Add").click()
            page.locator("#history .chips li").nth(1).wait_for()
        with opened(browser, started) as other:  # another tab knows no key
            other.locator("#key-text").wait_for()


def test_a_service_that_went_away_is_said(browser: Any, url: str) -> None:
    with opened(browser, url, refused=1) as page:
        page.route("**/page/data*", lambda route: route.abort())
        page.locator(LIST).first.get_by_role("link", name="Add").click()
        page.get_by_text("The service does not answer. Try again soon.").wait_for()
        page.unroute_all()
        page.locator(LIST).nth(1).get_by_role("link", name="Add").click()
        page.locator("#history .chips li").nth(1).wait_for()
        assert not page.get_by_text("does not answer").is_visible()
