"""The report in a real browser: on a desk and a phone, by day and by night, for everybody's use.

MIAOTUI_SCREENSHOTS names a folder for its pictures.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from compress.compare.report import NAMES, report
from miaotui.compress.compare.page import page
from server.page.conftest import DESKTOP, PHONE, Tab, open_tab
from server.page.conftest import browser as browser  # a fixture

LONG = ("a-very-long-name-of-a-model-that-nobody-can-read-at-once-but-some-have" * 2, *NAMES[1:])
SIZES = {"desk": DESKTOP, "phone": PHONE}


@pytest.fixture(params=[(size, scheme) for size in SIZES for scheme in ("light", "dark")], ids="-".join)
def tab(request: pytest.FixtureRequest, browser: Browser, tmp_path: Path) -> Iterator[Tab]:
    size, scheme = request.param
    file = tmp_path / "report.html"
    file.write_text(page(report(LONG)), encoding="utf-8")
    with open_tab(browser, file.as_uri(), viewport=SIZES[size], color_scheme=scheme) as tab:
        tab.page.goto(file.as_uri())
        yield tab
        if folder := os.environ.get("MIAOTUI_SCREENSHOTS"):
            tab.page.screenshot(path=Path(folder) / f"compare-{size}-{scheme}.png", full_page=True)
    assert tab.problems == []


def test_the_report_fits_the_screen_and_is_fit_to_read(tab: Tab) -> None:
    wide = tab.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    assert not wide
    picture = tab.page.locator("svg").first.bounding_box()
    assert picture is not None
    assert picture["width"] >= 300
    assert tab.page.locator("svg circle").count() == 8
    problems = Axe().run(tab.page, options={"resultTypes": ["violations"]}).response["violations"]
    assert [(one["id"], [node["target"] for node in one["nodes"]]) for one in problems] == []


def test_circles_are_coloured_and_words_stand_out(tab: Tab) -> None:
    colors = tab.page.evaluate(
        """() => ['svg circle', 'svg text', 'body'].map(name => {
            const style = getComputedStyle(document.querySelector(name));
            return name === 'body' ? style.backgroundColor : style.fill;
        })"""
    )
    circle, words, paper = colors
    assert len({circle, words, paper}) == 3
    assert "rgb(0, 0, 0)" not in (circle, words)  # what an unknown variable would give
