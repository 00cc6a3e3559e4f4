"""The report as its readers meet it: in a browser, on a phone, in the dark, on paper."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.report import render
from tests.chromium import AA, CONTRAST, chromium, needs_chromium
from tests.pipelines.report import documents

pytestmark = needs_chromium
PHONE, DESK, PAPER = 375, 1280, 718
LEAST_TEXT = 9
"""Pixels, on a phone, of text within a picture."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The system's Chromium."""
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def reports(whole: Path, hostile: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A whole, a minimal and a hostile report."""
    minimal = render(documents.minimal(("a", "b")), tmp_path_factory.mktemp("minimal"))
    return {"whole": whole, "minimal": minimal, "hostile": hostile}


def opened(browser: Any, path: Path, width: int = DESK, scheme: str = "light", **more: Any) -> tuple[Any, list[str], list[str]]:
    """A page, what its console said, and what it asked for."""
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme, **more)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    return page, said, asked


@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("name", ["whole", "minimal", "hostile"])
def test_it_is_quiet_loads_nothing_and_never_scrolls_sideways(
    browser: Any, reports: dict[str, Path], name: str, width: int
) -> None:
    page, said, asked = opened(browser, reports[name], width)
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = """[...document.querySelectorAll("body *")].filter(e => !e.closest(".scroll, pre, svg, .tabs > input")
        && e.getClientRects().length && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"""
    assert page.evaluate(wide) == []
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [reports[name].as_uri()]
    page.close()


def test_every_picture_has_an_alternative_text(browser: Any, reports: dict[str, Path]) -> None:
    page, *_ = opened(browser, reports["whole"])
    names = page.evaluate("""[...document.querySelectorAll("svg, img")].map(e =>
        [e.getAttribute("role"), e.getAttribute("aria-label") || e.alt, e.querySelector("title")?.textContent])""")
    assert len(names) == 20
    assert all(role == "img" and len(said) > 20 and title == said for role, said, title in names)
    assert page.locator("figure").first.get_by_role("img").is_visible()
    page.close()


def test_text_in_pictures_is_legible_on_a_phone_and_inside(browser: Any, reports: dict[str, Path]) -> None:
    page, *_ = opened(browser, reports["whole"], PHONE)
    found = page.evaluate("""[...document.querySelectorAll("figure svg")].flatMap(svg => {
        const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width, frame = svg.getBoundingClientRect();
        return [...svg.querySelectorAll("text")].map(text => {
            const box = text.getBoundingClientRect();
            const inside = box.left >= frame.left - 1 && box.right <= frame.right + 1 && box.bottom <= frame.bottom + 1;
            return [parseFloat(getComputedStyle(text).fontSize) * scale, text.textContent, inside && box.top >= frame.top - 1];
        });
    })""")
    assert len(found) > 200
    assert [text for size, text, _ in found if size < LEAST_TEXT] == []
    assert [text for _, text, inside in found if not inside] == []
    page.close()


def column(page: Any, place: int) -> list[float]:
    cells = page.locator("#answer tbody tr").evaluate_all("(rows, place) => rows.map(r => r.cells[place].dataset.sort)", place)
    return [float(cell) for cell in cells if cell is not None]


def test_tables_sort_by_click_and_by_key_as_numbers(browser: Any, reports: dict[str, Path]) -> None:
    page, *_ = opened(browser, reports["whole"])
    head = page.locator("#answer thead th").nth(4)
    assert head.get_attribute("aria-sort") is None
    head.get_by_role("button").click()
    fit = column(page, 4)
    assert head.get_attribute("aria-sort") == "descending" and fit == sorted(fit, reverse=True) and len(set(fit)) > 1
    head.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending" and column(page, 4) == sorted(fit)
    page.locator("#answer thead th").nth(0).get_by_role("button").click()
    names = page.locator("#answer tbody th").all_text_contents()
    assert names == sorted(documents.KEYS) and head.get_attribute("aria-sort") is None
    page.close()


def test_every_k_is_reached_also_without_javascript(browser: Any, reports: dict[str, Path]) -> None:
    page, *_ = opened(browser, reports["whole"], java_script_enabled=False)
    table = page.get_by_role("region", name="Accuracy on the test users, k = 10", exact=True)
    assert not table.is_visible()
    page.get_by_text("k = 10", exact=True).first.click()
    assert table.is_visible()
    page.close()


READ = (
    "h1, h2, h3, p, a, td, th, small, caption, dt, dd, summary, figcaption, li, .checks strong, label, em, .hit span, svg text"
)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_both_themes(browser: Any, reports: dict[str, Path], scheme: str) -> None:
    page, *_ = opened(browser, reports["whole"], scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    found = page.evaluate(CONTRAST, READ)
    assert len(found) > 1_000
    assert [what for ratio, what in found if ratio < AA] == []
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    page.close()


def test_paper_is_white_shows_everything_and_cuts_no_picture(browser: Any, reports: dict[str, Path]) -> None:
    page, *_ = opened(browser, reports["whole"], scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": PAPER, "height": 1_000})
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    hidden = """[...document.querySelectorAll(".panel, details > *")].filter(e =>
        !e.checkVisibility({contentVisibilityAuto: true})).map(e => e.outerHTML.slice(0, 80))"""
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("document.documentElement.scrollWidth") <= PAPER
    widths = page.evaluate("[...document.querySelectorAll('table')].map(table => table.getBoundingClientRect().width)")
    assert max(widths) <= PAPER
    assert page.evaluate(hidden) == []
    assert page.evaluate("""[...document.querySelectorAll("figure")].every(e => getComputedStyle(e).breakInside === "avoid")""")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("document.querySelectorAll('details[open]').length") == 0
    paper = page.pdf(format="A4")
    assert paper.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", paper)) > 3
    page.close()
