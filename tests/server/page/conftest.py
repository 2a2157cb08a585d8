"""A browser, tabs that notice whatever goes wrong in them, and a server for them to look at."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, sync_playwright

from server.page.stub import Stub, serve_stub

NAMES = ("chromium", "chromium-browser", "google-chrome")
DESKTOP = {"width": 1280, "height": 860}
PHONE = {"width": 360, "height": 740}
DOCS = Path(__file__).resolve().parents[3] / "docs" / "guides"
GUIDE_TEXT = (DOCS / "qa.md").read_text()


def _chromium() -> str:
    found = os.environ.get("MIAOTUI_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        text = "no Chromium is here; `scripts/browser.sh` installs Debian's, or MIAOTUI_CHROMIUM names another"
        if os.environ.get("CI"):
            pytest.fail(text)
        pytest.skip(text)
    return found


# Of the module, not of the session: while it runs, nothing else in this thread can have an event loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = _chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--disable-gpu", "--force-color-profile=srgb"])
        yield browser
        browser.close()


@dataclass
class Tab:
    """A page in the browser. problems: errors of scripts, breaches of the policy, requests to other servers."""

    page: Page
    url: str
    problems: list[str] = field(default_factory=list)

    def open(self, view: str = "") -> None:
        self.page.goto(self.url + ("/#/" + view if view else "/"))
        self.page.locator("main > *").first.wait_for()

    def ask(self, question: str) -> Locator:
        """Ask, without waiting for the answer: its card."""
        number = self.page.locator("article.card").count()
        self.page.locator("#question").fill(question)
        self.page.keyboard.press("Enter")
        return self.page.locator("article.card").nth(number)

    def answered(self, question: str) -> Locator:
        """Ask, and wait for the end."""
        card = self.ask(question)
        card.and_(self.page.locator("[data-status=done]")).wait_for()
        return card

    def action(self, card: Locator, name: str) -> Locator:
        return card.locator(f".actions [data-action={name}]")

    def is_wider_than_the_screen(self) -> bool:
        wide: bool = self.page.evaluate(
            "[document.documentElement, document.querySelector('main')].some(one => one.scrollWidth > one.clientWidth)"
        )
        return wide


@contextmanager
def open_tab(browser: Browser, url: str, **options: Any) -> Iterator[Tab]:
    settings = {"viewport": DESKTOP, "locale": "en-US", "color_scheme": "light", "reduced_motion": "reduce"} | options
    context: BrowserContext = browser.new_context(**settings)
    context.set_default_timeout(15_000)
    tab = Tab(context.new_page(), url)

    def said(message: Any) -> None:
        # A refused request is no fault of the page; that it bears it is what tests look at.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            tab.problems.append(f"{message.type}: {message.text}")

    tab.page.on("console", said)
    tab.page.on("pageerror", lambda error: tab.problems.append(f"error: {error}"))
    tab.page.on("dialog", lambda dialog: (tab.problems.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    tab.page.on("popup", lambda popup: tab.problems.append(f"popup: {popup.url}"))
    tab.page.on(
        "request",
        lambda request: request.url.startswith((url, "blob:")) or tab.problems.append(f"request: {request.url}"),
    )
    try:
        yield tab
    finally:
        context.close()


@pytest.fixture
def stub() -> Iterator[Stub]:
    with serve_stub() as stub:
        yield stub


@pytest.fixture
def new_tab(browser: Browser, stub: Stub) -> Iterator[Callable[..., Tab]]:
    """Opens a tab on the stub with options of a browser context; nothing may go wrong in it until the test ends."""
    opened: list[Tab] = []
    managers = []

    def new(**options: Any) -> Tab:
        manager = open_tab(browser, stub.url, **options)
        managers.append(manager)
        opened.append(manager.__enter__())
        return opened[-1]

    yield new
    problems = [problem for tab in opened for problem in tab.problems]
    stub.held.set()
    for manager in managers:
        manager.__exit__(None, None, None)
    assert problems == []


@pytest.fixture
def tab(new_tab: Callable[..., Tab]) -> Tab:
    """A tab of a desktop's size, on the front page."""
    tab = new_tab()
    tab.open()
    return tab


@pytest.fixture
def picture(tmp_path: Path) -> Callable[[Page, str], Path]:
    """Takes a screenshot, for nobody unless MIAOTUI_SCREENSHOTS names a folder, or "guide": then those it shows."""
    folder = os.environ.get("MIAOTUI_SCREENSHOTS")

    def take(page: Page, name: str) -> Path:
        is_of_guide = folder == "guide" and f"qa/{name}.png" in GUIDE_TEXT
        where = DOCS / "qa" if is_of_guide else tmp_path if folder in (None, "guide") else Path(folder)
        where.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=where / f"{name}.png", animations="disabled", caret="hide")
        return where / f"{name}.png"

    return take
