"""All of the page without a mouse."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from server.page.conftest import Tab
from server.page.stub import Stub


def press(tab: Tab, *keys: str) -> None:
    for key in keys:
        tab.page.keyboard.press(key)


def test_a_whole_visit_without_a_mouse(tab: Tab, stub: Stub) -> None:
    """Ask, ask again, look why, mark as wrong, search the cache, remove a row, come back: keys only."""
    page = tab.page
    expect(page.locator("#question")).to_be_focused()
    page.keyboard.type("Who wrote Hamlet?")
    press(tab, "Enter")
    expect(page.locator("article.card")).to_have_attribute("data-status", "done")
    press(tab, "ArrowUp", "Enter")
    second = page.locator("article.card").nth(1)
    expect(second.locator(".badge")).to_have_text("From the store")

    press(tab, "Escape", "k")
    expect(second).to_be_focused()
    press(tab, "w")
    expect(second.locator(".receipt")).to_be_visible()
    press(tab, "w", "x")
    expect(second.get_by_label("What would be right?")).to_be_focused()
    page.keyboard.type("Shakespeare.")
    press(tab, "Tab", "Tab", "Enter")
    expect(second.locator(".correction")).to_contain_text("Shakespeare.")

    stub.keep("What is a fox?", "An animal.")
    stub.keep("What is a dog?", "A pet.")
    press(tab, "3")
    expect(page.get_by_role("heading", name="Kept answers")).to_be_visible()
    expect(page.locator(".entry")).to_have_count(2)
    press(tab, "j", "Enter")
    expect(page.locator(".entry").first.locator(".entry-body")).to_be_visible()
    page.get_by_role("button", name="Remove", exact=True).focus()
    press(tab, "Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    press(tab, "Tab", "Enter")
    expect(page.locator(".entry")).to_have_count(1)
    expect(page.locator(".entry > button")).to_be_focused()

    press(tab, "/")
    expect(page.locator("#question")).to_be_focused()
    expect(page.locator("article.card")).to_have_count(2)


def test_every_control_is_reached_by_tab_and_shows_that_it_is(tab: Tab) -> None:
    tab.answered("Hi")
    page = tab.page
    page.get_by_role("button", name="Skip to the content").focus()
    expect(page.get_by_role("button", name="Skip to the content")).to_be_in_viewport()
    names = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        found = page.evaluate(
            """
            () => {
              const one = document.activeElement;
              const style = getComputedStyle(one);
              const isShown = style.outlineStyle !== "none" || getComputedStyle(one.parentElement).boxShadow !== "none";
              return [one.ariaLabel || one.title || one.textContent, isShown, one.nodeName];
            }
            """
        )
        if found[2] == "BODY":
            break
        assert found[1], f"{found[0]} does not show that it has the focus"
        names.add(found[0])
    wanted = {"Ask", "History", "Cache", "Dashboard", "Settings", "Copy", "Good answer", "Wrong answer", "Send"}
    assert wanted <= names
    page.evaluate("document.querySelector('.skip').focus()")
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()


def test_single_keys_are_letters_where_text_is_written_and_can_be_switched_off(tab: Tab) -> None:
    page = tab.page
    page.keyboard.type("jump 1/2?")
    expect(page.locator("#question")).to_have_value("jump 1/2?")
    press(tab, "Escape", "5")
    page.get_by_label("Single keys").uncheck()
    press(tab, "1")
    expect(page.get_by_role("heading", name="Settings")).to_be_visible()
    page.get_by_label("Single keys").check()
    press(tab, "1")
    expect(page.locator("#question")).to_have_value("jump 1/2?")


def test_keys_with_modifiers_stay_the_browsers(tab: Tab) -> None:
    press(tab, "Escape", "Control+5")
    expect(tab.page.locator("#question")).to_be_visible()


def test_the_keys_are_listed(tab: Tab) -> None:
    press(tab, "Escape", "?")
    dialog = tab.page.get_by_role("dialog", name="Keyboard")
    expect(dialog).to_contain_text("write a question")
    press(tab, "3")  # behind the dialog nothing happens
    press(tab, "Escape")
    expect(dialog).to_have_count(0)
    expect(tab.page.locator("#question")).to_be_visible()


def test_what_happens_is_said_to_those_who_do_not_see_it(tab: Tab) -> None:
    tab.answered("Hi")
    said = tab.page.get_by_role("status").first
    expect(said).to_contain_text("Generated")
    tab.answered("Hi")
    expect(said).to_contain_text("From the store")


def test_arrow_keys_read_a_chart(tab: Tab) -> None:
    press(tab, "Escape", "4")
    chart = tab.page.locator(".chart").first
    expect(chart.locator("path.line").first).to_have_attribute("d", re.compile("^M"))
    chart.locator(".plot").focus()
    press(tab, "ArrowLeft")
    expect(chart.locator(".when")).to_contain_text("s ago")
    expect(chart.get_by_role("img")).to_have_attribute(
        "aria-label", "Time to first token: p50 210 ms, p95 480 ms, p99 900 ms"
    )
