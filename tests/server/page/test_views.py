"""History, kept answers, dashboard and settings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from server.page.conftest import Tab
from server.page.stub import Stub

CHAT = "/v1/chat/completions"
STYLES = "getComputedStyle(document.body)"


# History.


def test_the_history_outlives_the_page_and_can_be_searched_opened_and_removed(tab: Tab, stub: Stub) -> None:
    page = tab.page
    tab.answered("What is a fox?")
    page.get_by_role("button", name="New thread").click()
    expect(page.locator(".welcome")).to_be_visible()
    tab.answered("What is a dog?")
    tab.answered("And a cat?")
    page.reload()
    tab.open("history")
    items = page.locator(".item")
    expect(items).to_have_count(2)
    expect(items.first).to_contain_text("What is a dog?")
    expect(items.first).to_contain_text("2 questions")
    page.get_by_label("Search questions").fill("FOX said")
    expect(items).to_have_count(1)
    expect(page.get_by_role("status").filter(has_text="1 found")).to_be_visible()
    items.first.locator(".item-main").click()
    card = page.locator("article.card")
    expect(card).to_have_count(1)
    expect(card.locator(".prose")).to_have_text("You said: What is a fox?")
    expect(card.locator(".badge")).to_have_text("Generated")
    tab.open("history")
    page.get_by_role("button", name="Remove “What is a dog?”").click()
    expect(items).to_have_count(1)
    page.get_by_role("button", name="Clear history").click()
    page.get_by_role("dialog").get_by_role("button", name="Clear history").click()
    expect(page.locator(".empty")).to_have_text("Nothing asked yet.")
    assert page.evaluate("localStorage.getItem('miaotui.history')") is None


def test_a_history_that_is_full_forgets_the_oldest(tab: Tab) -> None:
    tab.page.evaluate(
        """
        async () => {
          const history = await import("/page/history.js");
          const text = "x".repeat(500_000);
          for (let at = 1; at <= 12; at += 1) history.keep({ id: `${at}`, at, turns: [{ question: `q${at}`, text }] });
        }
        """
    )
    tab.open("history")
    titles = tab.page.locator(".item-title").all_text_contents()
    assert titles == ["q12", "q11", "q10", "q9", "q8"]


def test_nothing_is_kept_where_the_history_is_switched_off(tab: Tab) -> None:
    tab.open("settings")
    tab.page.get_by_label("Keep a history").uncheck()
    tab.open("ask")
    tab.answered("secret")
    assert "secret" not in str(tab.page.evaluate("localStorage.getItem('miaotui.history')"))


def test_the_history_can_be_taken_along(tab: Tab) -> None:
    tab.answered("What is a fox?")
    tab.open("history")
    with tab.page.expect_download() as download:
        tab.page.get_by_role("button", name="Export").click()
    (thread,) = json.loads(download.value.path().read_text())
    assert thread["turns"][0]["text"] == "You said: What is a fox?"


# Kept answers.


def test_kept_answers_can_be_paged_searched_and_read(tab: Tab, stub: Stub) -> None:
    for number in range(70):
        stub.keep(f"Question {number}", f"Answer **{number}**")
    stub.keep("What is a fox?", "An animal.", origin="curated", tags=["biology"], expires=1_900_000_000)
    tab.open("cache")
    rows = tab.page.locator(".entry")
    expect(rows).to_have_count(30)
    tab.page.get_by_role("button", name="Show more").click()
    expect(rows).to_have_count(60)
    tab.page.get_by_role("button", name="Show more").click()
    expect(rows).to_have_count(71)
    expect(tab.page.get_by_role("button", name="Show more")).to_be_hidden()
    assert len(set(rows.locator(".item-title").all_text_contents())) == 71
    tab.page.get_by_label("Search kept").fill("fox")
    expect(rows).to_have_count(1)
    expect(rows.locator(".badge")).to_have_text("Curated")
    expect(rows).to_contain_text("biology")
    rows.locator(".item-main").click()
    expect(rows.locator(".terms")).to_contain_text("2030")
    tab.page.get_by_label("Search kept").fill("nothing like it")
    expect(tab.page.get_by_text("Nothing found.")).to_be_visible()


def test_the_newest_search_wins_over_one_that_answers_late(tab: Tab, stub: Stub) -> None:
    stub.keep("slow fox", "a")
    stub.keep("quick fox", "b")
    tab.open("cache")
    waiting = []
    tab.page.route(re.compile("search=slow"), lambda route: waiting.append(route))
    with tab.page.expect_request(re.compile("search=slow")):
        tab.page.get_by_label("Search kept").fill("slow")
    tab.page.get_by_label("Search kept").fill("quick")
    expect(tab.page.locator(".item-title")).to_have_text(["quick fox"])
    (route,) = waiting
    late = {"id": "1", "question": "slow fox", "answer": "a", "origin": "generated", "created": 1, "tags": []}
    route.fulfill(json={"entries": [late], "more": False})
    tab.page.evaluate("fetch('/v1/models').then((reply) => reply.text())")
    expect(tab.page.locator(".item-title")).to_have_text(["quick fox"])


def test_a_kept_answer_is_marked_as_wrong_or_removed_only_after_asking(tab: Tab, stub: Stub) -> None:
    first = stub.keep("Who wrote Hamlet?", "Goethe.")
    second = stub.keep("Who wrote Faust?", "Shakespeare.")
    tab.open("cache")
    page = tab.page
    page.get_by_role("button", name=re.compile("Who wrote Hamlet")).click()
    page.get_by_role("button", name="Wrong answer").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert first in stub.kept
    page.get_by_role("button", name="Wrong answer").click()
    page.get_by_role("dialog").get_by_role("button", name="Mark as wrong").click()
    expect(page.locator(".entry")).to_have_count(1)
    page.get_by_role("button", name=re.compile("Who wrote Faust")).click()
    page.get_by_role("button", name="Remove", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.get_by_text("No answers are kept yet.")).to_be_visible()
    changed = [(method, path) for method, path, _ in stub.asked if method != "GET"]
    assert changed == [("POST", f"/v1/cache/entries/{first}/reject"), ("DELETE", f"/v1/cache/entries/{second}")]


def test_a_server_that_keeps_no_answers_says_so(tab: Tab, stub: Stub) -> None:
    stub.fails["/v1/cache"] = (404, "this server keeps no answers")
    tab.open("cache")
    expect(tab.page.get_by_text("This server keeps no answers.")).to_be_visible()
    stub.load = {"cache": {"enabled": False}}
    tab.open("dashboard")
    expect(tab.page.locator(".tile").first).to_be_visible()
    expect(tab.page.locator(".hit-bar")).to_have_count(0)


# Dashboard.


def test_the_dashboard_draws_what_the_server_tells_as_it_changes(tab: Tab, stub: Stub) -> None:
    stub.hits |= {"memory": 30, "store": 50, "near": 5, "curated": 5}
    stub.misses = 10
    tab.open("dashboard")
    tiles = tab.page.locator(".tiles").first
    expect(tiles).to_contain_text("210 ms")
    expect(tiles).to_contain_text("152.5")
    expect(tiles).to_contain_text("90%")
    expect(tiles).to_contain_text("412 MiB")
    expect(tab.page.locator(".hit-bar .legend")).to_contain_text("From the store5050%")
    rate = tab.page.locator(".chart").filter(has_text="Tokens per second").locator("path.line")
    expect(rate).to_have_attribute("d", re.compile("^M.*L"))
    before = rate.get_attribute("d")
    stub.load = {"tokens_per_s": 12.5, "ttft_ms": {"p50": None, "p95": None, "p99": None}}
    expect(tiles).to_contain_text("12.5")
    assert rate.get_attribute("d") != before
    first = tab.page.locator(".chart").first
    expect(first.locator(".legend")).to_contain_text("p50–")


def test_the_dashboard_goes_on_after_the_server_was_away(tab: Tab, stub: Stub) -> None:
    stub.fails["/v1/dashboard"] = (503, "the engine has stopped")
    tab.open("dashboard")
    expect(tab.page.get_by_text("started anew")).to_be_visible()
    stub.fails.clear()
    expect(tab.page.locator(".tile").first).to_be_visible()
    expect(tab.page.get_by_text("started anew")).to_be_hidden()


def test_the_dashboard_asks_nothing_once_it_is_left(tab: Tab, stub: Stub) -> None:
    tab.page.clock.install()
    tab.open("dashboard")
    expect(tab.page.locator(".tile").first).to_be_visible()
    tab.page.get_by_role("link", name="Ask").click()
    expect(tab.page.locator("#question")).to_be_visible()
    num_asked = len(stub.bodies("/v1/dashboard"))
    tab.page.clock.run_for(10_000)
    assert len(stub.bodies("/v1/dashboard")) <= num_asked + 1  # one may have been under way


# Settings.


def test_settings_go_along_with_the_next_question(tab: Tab, stub: Stub) -> None:
    tab.open("settings")
    page = tab.page
    page.get_by_label("System prompt").fill("Be brief.")
    page.get_by_label("Most tokens").fill("77")
    page.get_by_label("Temperature").fill("0.5")
    page.get_by_label("Cache", exact=True).select_option("no-store")
    page.get_by_label("Near hits").select_option("no")
    page.reload()
    tab.open()
    tab.answered("Hi")
    body = stub.bodies(CHAT)[-1]
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert (body["max_tokens"], body["temperature"]) == (77, 0.5)
    assert body["cache"] == {"mode": "no-store", "near": False}


def test_of_several_models_one_can_be_chosen(tab: Tab, stub: Stub) -> None:
    stub.others = ["larger-7b"]
    tab.open("settings")
    choice = tab.page.locator(".model-facts select")
    expect(choice.locator("option")).to_have_text(["Automatic", "stub-135m", "larger-7b"])
    choice.select_option("larger-7b")
    expect(tab.page.locator(".status")).to_have_text("larger-7b")
    tab.open("ask")
    tab.answered("Hi")
    assert stub.bodies(CHAT)[-1]["model"] == "larger-7b"


@pytest.mark.parametrize("value", ["", "-5", "1.5", "1e9"])
def test_a_number_that_cannot_be_is_not_kept(tab: Tab, stub: Stub, value: str) -> None:
    tab.open("settings")
    field = tab.page.get_by_label("Most tokens")
    field.fill(value)
    field.blur()
    expect(field).to_have_value("512")


def test_a_key_opens_the_server_and_is_forgotten_with_the_tab_unless_it_is_to_be_remembered(
    new_tab: Callable[..., Tab], stub: Stub
) -> None:
    stub.key = "sesame"
    tab = new_tab()
    tab.open()
    page = tab.page
    expect(page.locator(".status")).to_have_text("API key needed")
    card = tab.ask("Hi")
    card.get_by_role("link", name="To the settings").click()
    page.get_by_label("API key").fill("sesame")
    page.get_by_role("button", name="Test the connection").click()
    expect(page.locator(".model-facts")).to_contain_text("stub-135m")
    expect(page.locator(".status")).to_have_text("stub-135m")
    assert "sesame" not in str(page.evaluate("JSON.stringify(localStorage)"))
    page.get_by_label("Remember the key").check()
    assert "sesame" in page.evaluate("localStorage.getItem('miaotui.key')")
    page.get_by_label("Remember the key").uncheck()
    assert page.evaluate("localStorage.getItem('miaotui.key')") is None
    tab.open()
    tab.answered("Hi")


def test_the_page_speaks_the_browsers_language_or_the_one_that_is_chosen(
    new_tab: Callable[..., Tab], stub: Stub
) -> None:
    tab = new_tab(locale="zh-CN")
    tab.open()
    page = tab.page
    expect(page.locator(".welcome h1")).to_have_text("一秒之内，给出回答")
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    tab.answered("法国的首都是哪里?")
    card = tab.answered("法国的首都是哪里?")
    expect(card.locator(".badge")).to_have_text("来自存储")
    expect(card.locator(".saved")).to_have_text("节省 1.23 s")
    tab.open("settings")
    page.get_by_label("语言").focus()
    page.get_by_label("语言").select_option("en")
    expect(page.get_by_role("heading", name="Settings")).to_be_visible()
    expect(page.get_by_label("Language")).to_be_focused()
    page.reload()
    expect(page.get_by_role("link", name="Dashboard")).to_be_visible()


def test_colours_follow_the_system_or_the_choice(new_tab: Callable[..., Tab]) -> None:
    tab = new_tab(color_scheme="dark")
    tab.open("settings")
    dark = tab.page.evaluate(f"{STYLES}.backgroundColor")
    tab.page.get_by_label("Colours").select_option("light")
    light = tab.page.evaluate(f"{STYLES}.backgroundColor")
    assert dark != light
    tab.page.reload()
    tab.page.locator("main fieldset").first.wait_for()
    assert tab.page.evaluate(f"{STYLES}.backgroundColor") == light


def test_the_page_works_where_the_browser_keeps_nothing(new_tab: Callable[..., Tab]) -> None:
    tab = new_tab()
    tab.page.add_init_script(
        "for (const name of ['localStorage', 'sessionStorage'])"
        " Object.defineProperty(window, name, { get() { throw new DOMException('denied', 'SecurityError'); } });"
    )
    tab.open()
    tab.answered("Hi")
    for view in ("history", "cache", "dashboard", "settings"):
        tab.open(view)
