"""Asking on the page: answers as they are written, where they came from, stopping, saying what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from miaotui.answers.verdict import MAX_WORDS
from server.page.conftest import Tab
from server.page.stub import Stub

CHAT = "/v1/chat/completions"


def test_an_answer_is_shown_while_it_is_written_and_says_how_fast_that_was(tab: Tab, stub: Stub) -> None:
    stub.held.clear()
    card = tab.ask("What is the capital of France?")
    expect(card.locator(".prose")).to_contain_text("You said: What is")
    expect(card).to_have_attribute("data-status", "streaming")
    expect(card.locator(".prose")).not_to_contain_text("France?")
    expect(card.locator(".facts")).to_contain_text("first token")
    expect(tab.page.locator(".send")).to_have_attribute("aria-label", "Stop")
    stub.held.set()
    expect(card).to_have_attribute("data-status", "done")
    expect(card.locator(".prose")).to_have_text("You said: What is the capital of France?")
    expect(card.locator(".badge")).to_have_text("Generated")
    expect(card.locator(".rate")).to_have_text("12.5 tokens/s")
    expect(card.locator(".facts")).to_contain_text("6 tokens")
    expect(tab.page.locator(".send")).to_have_attribute("aria-label", "Send")


def test_the_same_question_again_comes_from_the_store_and_says_what_that_saved(tab: Tab, stub: Stub) -> None:
    tab.answered("What is the capital of France?")
    card = tab.answered("What is the capital of France?")
    expect(card.locator(".badge")).to_have_attribute("data-path", "store")
    expect(card.locator(".badge")).to_have_text("From the store")
    expect(card.locator(".saved")).to_have_text("saved 1.23 s")
    assert stub.hits["store"] == 1
    assert [len(body["messages"]) for body in stub.bodies(CHAT)] == [1, 1]


def test_stopping_in_mid_answer_ends_the_request_and_keeps_what_was_written(tab: Tab, stub: Stub) -> None:
    stub.held.clear()
    card = tab.ask("Tell me a long story about a fox")
    expect(card.locator(".prose")).to_contain_text("You said: Tell")
    tab.page.locator(".send").click()
    expect(card).to_have_attribute("data-status", "stopped")
    assert stub.gone.wait(15), "the server was not told"
    expect(card.locator(".prose")).to_contain_text("You said: Tell")
    expect(card.locator(".card-problem")).to_contain_text("You stopped this answer")
    stub.held.set()
    expect(tab.action(card, "again")).to_have_text("Try again")
    tab.answered("And now?")


def test_escape_stops_an_answer_from_wherever_the_focus_is(tab: Tab, stub: Stub) -> None:
    stub.held.clear()
    card = tab.ask("Tell me a long story")
    expect(card.locator(".prose")).to_contain_text("You said")
    tab.page.keyboard.press("Escape")
    expect(card).to_have_attribute("data-status", "stopped")


def test_a_near_hit_shows_the_question_it_was_taken_for_and_how_to_be_rid_of_it(tab: Tab, stub: Stub) -> None:
    matched, asked = "How do I reset my password?", "How can I reset my password?"
    stub.keep(matched, "Press *Forgot password*.")
    stub.near[asked] = matched
    stub.answers[asked] = "Ask your administrator."
    card = tab.answered(asked)
    expect(card.locator(".badge")).to_have_text("Near hit0.931")
    expect(card.locator(".matched")).to_have_text(matched)
    expect(card.locator(".near-passed")).to_have_text(
        "All 4 checks passed: Quantities, Names, Negation, Order and direction"
    )
    tab.action(card, "why").click()
    expect(card.locator(".receipt .guards li.passed")).to_have_count(4)
    card.get_by_role("button", name="Not the same").click()
    other = tab.page.locator("article.card").nth(1)
    expect(other).to_have_attribute("data-status", "done")
    expect(other.locator(".badge")).to_have_text("Generated")
    assert stub.bodies(CHAT)[-1]["cache"] == {"mode": "refresh", "near": False}


def test_a_wrong_answer_is_marked_with_its_correction_and_never_given_again(tab: Tab, stub: Stub) -> None:
    question = "Who wrote Hamlet?"
    stub.keep(question, "Goethe.")
    card = tab.answered(question)
    tab.action(card, "wrong").click()
    card.get_by_label("What would be right?").fill("Shakespeare.")
    card.get_by_label("Remark").fill("obviously")
    card.get_by_role("button", name="Mark as wrong").click()
    expect(card.locator(".correction")).to_contain_text("Shakespeare.")
    expect(card).to_have_class(re.compile("rejected"))
    assert stub.bodies("/v1/feedback") == [
        {"request_id": "request-1", "comment": "obviously", "rating": "down", "correction": "Shakespeare."}
    ]
    again = tab.answered(question)
    expect(again.locator(".badge")).to_have_text("Generated")


def test_a_wrong_answer_whose_request_is_forgotten_is_rejected_by_its_entry(tab: Tab, stub: Stub) -> None:
    entry = stub.keep("Who wrote Hamlet?", "Goethe.")
    card = tab.answered("Who wrote Hamlet?")
    stub.decisions.clear()
    tab.action(card, "wrong").click()
    card.get_by_label("What would be right?").fill("Shakespeare.")
    card.get_by_role("button", name="Mark as wrong").click()
    expect(card.locator(".card-problem")).to_contain_text("You marked this answer as wrong")
    assert stub.bodies(f"/v1/cache/entries/{entry}/reject") == [
        {"request_id": "request-1", "correction": "Shakespeare."}
    ]


@pytest.mark.parametrize("status", [400, 404])
def test_a_refusal_for_any_other_reason_takes_nothing_out_and_keeps_what_was_written(
    tab: Tab, stub: Stub, status: int
) -> None:
    entry = stub.keep("Who wrote Hamlet?", "Goethe.")
    card = tab.answered("Who wrote Hamlet?")
    stub.fails["/v1/feedback"] = (status, "not like this")
    tab.action(card, "wrong").click()
    card.get_by_label("What would be right?").fill("Shakespeare.")
    card.get_by_role("button", name="Mark as wrong").click()
    expect(card.locator(".wrong-form .problem")).to_contain_text("not like this")
    expect(card.get_by_label("What would be right?")).to_have_value("Shakespeare.")
    assert stub.bodies(f"/v1/cache/entries/{entry}/reject") == []


def test_the_page_takes_as_many_characters_as_the_server(tab: Tab) -> None:
    card = tab.answered("Hi")
    tab.action(card, "wrong").click()
    for label in ("What would be right?", "Remark"):
        expect(card.get_by_label(label)).to_have_attribute("maxlength", str(MAX_WORDS))


def test_a_remark_that_does_not_arrive_is_not_lost(tab: Tab, stub: Stub) -> None:
    card = tab.answered("Hi")
    stub.fails["/v1/feedback"] = (500, "disk full")
    tab.action(card, "wrong").click()
    card.get_by_label("What would be right?").fill("Hello.")
    card.get_by_role("button", name="Mark as wrong").click()
    expect(card.locator(".wrong-form .problem")).to_contain_text("disk full")
    expect(card.get_by_label("What would be right?")).to_have_value("Hello.")
    expect(card).not_to_have_class(re.compile("rejected"))


def test_a_good_answer_is_praised(tab: Tab, stub: Stub) -> None:
    card = tab.answered("Hi")
    tab.action(card, "up").click()
    expect(tab.action(card, "up")).to_have_attribute("aria-pressed", "true")
    assert stub.bodies("/v1/feedback") == [{"request_id": "request-1", "rating": "up"}]


def test_why_shows_the_receipt_and_the_whole_decision(tab: Tab, stub: Stub) -> None:
    card = tab.answered("Hi")
    tab.action(card, "why").click()
    receipt = card.locator(".receipt")
    expect(receipt).to_contain_text("nothing like it is kept")
    expect(receipt).to_contain_text("request-1")
    expect(receipt.locator(".times")).to_contain_text("400 ms")
    receipt.get_by_text("The whole decision").click()
    expect(receipt.locator(".tree").first).to_contain_text("candidates")
    tab.action(card, "why").click()
    expect(receipt).to_have_count(0)


def test_computing_anew_passes_the_cache_by(tab: Tab, stub: Stub) -> None:
    card = tab.answered("Hi")
    tab.action(card, "again").click()
    second = tab.page.locator("article.card").nth(1)
    expect(second).to_have_attribute("data-status", "done")
    assert stub.bodies(CHAT)[-1]["cache"] == {"mode": "refresh"}
    assert stub.misses == 2


def test_questions_stand_alone_unless_one_follows_up(tab: Tab, stub: Stub) -> None:
    tab.answered("First")
    tab.answered("Second")
    tab.page.get_by_role("button", name="Follow up").click()
    tab.answered("Third")
    said = [[message["content"] for message in body["messages"]] for body in stub.bodies(CHAT)]
    assert said[1] == ["Second"]
    assert said[2] == ["First", "You said: First", "Second", "You said: Second", "Third"]


def test_enter_that_chooses_a_word_of_an_input_method_sends_nothing(tab: Tab, stub: Stub) -> None:
    tab.page.locator("#question").fill("nihao")
    tab.page.locator("#question").dispatch_event("keydown", {"key": "Enter", "isComposing": True, "bubbles": True})
    tab.page.locator("#question").dispatch_event("keydown", {"key": "Enter", "keyCode": 229, "bubbles": True})
    expect(tab.page.locator("#question")).to_have_value("nihao")
    tab.page.keyboard.press("Shift+Enter")
    expect(tab.page.locator("#question")).to_have_value("nihao\n")
    assert stub.bodies(CHAT) == []


@pytest.mark.parametrize(
    ("fail", "shown"),
    [
        ((401, "the API key is missing."), "wants an API key"),
        ((429, "busy"), "try again in 7 s"),
        ((503, "stopped"), "started anew"),
        ((400, "max_tokens must be smaller"), "max_tokens must be smaller"),
    ],
)
def test_a_refusal_says_what_to_do(tab: Tab, stub: Stub, fail: tuple[int, str], shown: str) -> None:
    stub.fails[CHAT] = fail
    card = tab.ask("Hi")
    expect(card).to_have_attribute("data-status", "failed")
    expect(card.locator(".card-problem")).to_contain_text(shown)
    stub.fails.clear()
    tab.action(card, "again").click()
    expect(tab.page.locator("article.card").nth(1)).to_have_attribute("data-status", "done")


@pytest.mark.parametrize(("breaks", "shown"), [("error", "the engine has stopped"), ("cut", "connection broke")])
def test_a_stream_that_breaks_keeps_what_came_and_says_so(tab: Tab, stub: Stub, breaks: str, shown: str) -> None:
    stub.breaks = breaks
    card = tab.ask("Tell me something")
    expect(card).to_have_attribute("data-status", "failed")
    expect(card.locator(".prose")).to_contain_text("You said")
    expect(card.locator(".card-problem")).to_contain_text(shown)


def test_an_answer_that_was_cut_says_so(tab: Tab, stub: Stub) -> None:
    stub.finish = "length"
    card = tab.answered("Hi")
    expect(card.locator(".card-problem")).to_contain_text("most tokens allowed")


def test_thoughts_are_kept_apart_from_the_answer(tab: Tab, stub: Stub) -> None:
    stub.reasoning = "Let me see <b>now</b>"
    card = tab.answered("Hi")
    expect(card.locator(".prose")).to_have_text("You said: Hi")
    card.get_by_text("Thoughts of the model").click()
    expect(card.locator(".thought-text")).to_have_text("Let me see <b>now</b>")


def test_an_answer_goes_on_while_another_view_is_open(tab: Tab, stub: Stub) -> None:
    stub.held.clear()
    tab.ask("What is the capital of France?")
    tab.page.get_by_role("link", name="Settings").click()
    stub.held.set()
    tab.page.get_by_role("link", name="Ask").click()
    card = tab.page.locator("article.card")
    expect(card).to_have_attribute("data-status", "done")
    expect(card.locator(".prose")).to_contain_text("France?")


def test_reading_further_up_is_not_disturbed_by_what_is_being_written(new_tab: Callable[..., Tab], stub: Stub) -> None:
    tab = new_tab(viewport={"width": 800, "height": 500})
    tab.open()
    stub.answers["long"] = "\n\n".join(f"Paragraph {number}" for number in range(60))
    stub.held.clear()
    card = tab.ask("long")
    expect(card.locator(".prose")).to_contain_text("Paragraph 30")
    tab.page.evaluate("document.querySelector('main').scrollTop = 0")
    expect(tab.page.locator(".jump")).to_be_visible()
    stub.held.set()
    expect(card).to_have_attribute("data-status", "done")
    assert tab.page.evaluate("document.querySelector('main').scrollTop") == 0
    tab.page.locator(".jump").click()
    expect(card.get_by_text("Paragraph 59")).to_be_in_viewport()
