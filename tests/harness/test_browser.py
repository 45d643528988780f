"""The page in a browser: on a phone and on a desk, in light and in dark mode. Needs Chromium."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import DESK, LOW_CONTRAST, PHONE, Browser
from test_report import ALL_SCORES, INFO

from mrl_bench.report.page import write_page

# Agents whose name and score in the summary are not wholly inside of the window.
HIDDEN = """[...document.querySelectorAll("table.fold td[data-label]")].filter(cell => {
  const box = cell.getBoundingClientRect();
  return !box.width || box.left < 0 || box.right > innerWidth || cell.scrollWidth > cell.clientWidth;
}).map(cell => cell.dataset.label)"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_page(ALL_SCORES, INFO, path)
    return path


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_the_page_fits_is_legible_and_asks_for_nothing(
    browser: Browser, path: Path, width: int, dark: bool
) -> None:
    browser.open(path, width, dark)
    browser.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate(LOW_CONTRAST) == []
    assert not browser.complaints
    assert [url for url in browser.requests if not url.startswith("data:")] == [path.as_uri()]


def test_every_agent_of_the_summary_is_visible_on_a_phone(browser: Browser, path: Path) -> None:
    browser.open(path, PHONE, dark=False)
    assert browser.evaluate("document.querySelectorAll('table.fold td[data-label]').length") > len(ALL_SCORES)
    assert browser.evaluate(HIDDEN) == []


def test_nothing_but_the_video_is_brighter_than_text_in_dark_mode(browser: Browser, path: Path) -> None:
    browser.open(path, DESK, dark=True)
    backgrounds = browser.evaluate(
        "[...document.querySelectorAll('*')].map(e => getComputedStyle(e).backgroundColor)"
        ".concat([...document.querySelectorAll('svg path')].slice(0, 200).map(e => getComputedStyle(e).fill))"
    )
    assert "rgb(255, 255, 255)" not in backgrounds
    assert "brightness" in browser.evaluate("getComputedStyle(document.querySelector('.video img')).filter")
