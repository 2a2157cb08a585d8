"""The page on the server it belongs to, with a real engine behind it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
from playwright.sync_api import Browser, expect

from answers.dict_store import DictStore
from miaotui.answers.cache import AnswerCache
from miaotui.server.keys import parse_keys
from miaotui.server.settings import ServerSettings
from server.conftest import Running, serve
from server.page.conftest import Tab, open_tab

KEPT = re.compile("^(memory|store)$")


@pytest.fixture(scope="module")
def running(smollm2_path: Path) -> Iterator[Running]:
    cache = AnswerCache([DictStore("memory"), DictStore("store")], b"s" * 32)
    settings = ServerSettings("smollm2", keys=tuple(parse_keys(["sesame"], "here")))
    with serve(smollm2_path, settings, cache=cache, context_length=1024) as running:
        yield running


@pytest.fixture
def tab(browser: Browser, running: Running) -> Iterator[Tab]:
    with open_tab(browser, running.url) as tab:
        tab.open("settings")
        tab.page.get_by_label("API key").fill("sesame")
        tab.page.get_by_label("Remember the key").check()
        tab.page.get_by_role("button", name="Test the connection").click()
        expect(tab.page.locator(".status")).to_have_text("smollm2")
        tab.open("ask")
        yield tab
        assert tab.problems == []


@pytest.mark.model
def test_ask_twice_mark_as_wrong_ask_again(tab: Tab, running: Running) -> None:
    question = "What is the capital of France?"
    first = tab.answered(question)
    expect(first.locator(".badge")).to_have_attribute("data-path", "model")
    expect(first.locator(".prose")).to_contain_text("Paris")
    expect(first.locator(".rate")).to_contain_text("tokens/s")

    second = tab.answered(question)
    expect(second.locator(".badge")).to_have_attribute("data-path", KEPT)
    expect(second.locator(".saved")).to_contain_text("saved")
    assert second.locator(".prose").inner_text() == first.locator(".prose").inner_text()

    tab.action(second, "why").click()
    second.get_by_text("The whole decision").click()
    expect(second.locator(".tree").first).to_contain_text("look up")

    tab.open("cache")
    expect(tab.page.locator(".item-title")).to_have_text([question])
    expect(tab.page.locator(".tiles")).to_contain_text("Time saved")

    tab.open("ask")
    tab.action(second, "wrong").click()
    second.get_by_label("What would be right?").fill("Paris.")
    second.get_by_role("button", name="Mark as wrong").click()
    expect(second.locator(".correction")).to_contain_text("Paris.")
    third = tab.answered(question)
    expect(third.locator(".badge")).to_have_attribute("data-path", "model")

    tab.open("dashboard")
    expect(tab.page.locator(".tiles").first).to_contain_text(re.compile("[MG]iB"))
    expect(tab.page.locator(".hit-bar")).to_contain_text("From memory")


@pytest.mark.model
def test_stopping_frees_the_engine(tab: Tab, running: Running) -> None:
    card = tab.ask("Write a very long story about a fox and a dog.")
    expect(card.locator(".prose p").first).to_be_visible()
    tab.page.locator(".send").click()
    expect(card).to_have_attribute("data-status", "stopped")
    running.until(lambda: running.llm.num_running == 0)
    assert httpx.get(running.url + "/health").status_code == 200


@pytest.mark.model
def test_without_the_key_the_page_is_there_and_nothing_else(browser: Browser, running: Running) -> None:
    with open_tab(browser, running.url) as tab:
        tab.open()
        expect(tab.page.locator(".status")).to_have_text("API key needed")
        card = tab.ask("Hi")
        expect(card.locator(".card-problem")).to_contain_text("wants an API key")
        tab.open("cache")
        expect(tab.page.get_by_text("wants an API key")).to_be_visible()
        assert tab.problems == []
