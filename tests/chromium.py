"""The system's Chromium, for the tests of what people look at."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
REQUIRED = bool(os.environ.get("RECSYS_AE_REQUIRE_CHROMIUM"))
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None and not REQUIRED, reason="no chromium, chromium-browser or google-chrome on this machine"
)
AA = 4.5
"""Contrast that WCAG 2.2 asks for normal text."""


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser that ends with the block."""
    from playwright.sync_api import sync_playwright

    assert CHROMIUM is not None, "RECSYS_AE_REQUIRE_CHROMIUM is set and there is no Chromium"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


# For a selector: the contrast of each visible text with what is behind it, and which text it is.
CONTRAST = """selector => {
  const channel = value => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const colour = text => text.match(/[\\d.]+/g).map(Number);
  const behind = element => {
    for (; element; element = element.parentElement) {
      const found = colour(getComputedStyle(element).backgroundColor);
      if (found.length < 4 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll(selector)].filter(e => e.getClientRects().length && e.textContent.trim()).map(e => {
    const style = getComputedStyle(e);
    const ends = [light(colour(e instanceof SVGElement ? style.fill : style.color)), light(behind(e))].sort((a, b) => b - a);
    return [(ends[0] + 0.05) / (ends[1] + 0.05), e.tagName + " " + e.textContent.trim().slice(0, 40)];
  });
}"""
