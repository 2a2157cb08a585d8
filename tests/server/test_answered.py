"""What was asked and answered lately is remembered within bounds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from miaotui.answers.control import CacheControl
from miaotui.core import Receipt, SamplingParams
from miaotui.engine.results import Completion
from miaotui.server.answered import Answered
from miaotui.server.asking import Ask

RECEIPT = Receipt("model", "nothing is kept", 3, 0, 2, 0.0, 0.1, 0.1, 0)


def ask(conversation: Any, request_id: str = "r1", tenant: str = "", **more: Any) -> Ask:
    return Ask(conversation, SamplingParams(), tenant, request_id, **more)


def completion(text: str = "Yes.") -> Completion:
    return Completion(text, (), "length", None, None, RECEIPT)


def test_a_tenant_sees_its_own_requests_alone() -> None:
    answered = Answered("m")
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Is it on?"}]
    answered.add(ask(messages, tenant="a"), completion())
    found = answered.about("a", "r1")
    assert found is not None
    assert (found["conversation"], found["answer"], found["question"]) == (messages, "Yes.", "Is it on?")
    assert (found["receipt"]["path"], found["finish_reason"], found["model"]) == ("model", "length", "m")
    assert answered.about("b", "r1") is None


@pytest.mark.parametrize(
    "conversation",
    [
        "x" * 10**6,
        "\u6f22\ud83d" * 10**5,
        list(range(10**5)),
        [{"role": "user", "content": "\u6f22" * 1000}] * 100,
        [{"role": "user", "content": "y" * 10**6}],
    ],
)
def test_long_requests_keep_their_end_and_say_that_they_were_cut(conversation: Any) -> None:
    answered = Answered("m")
    answered.add(ask(conversation), completion("\u7b54" * 10**5))
    found = answered.about("", "r1")
    assert found is not None
    assert found["cut"]
    assert len(json.dumps(found)) <= 64 << 10
    kept = found["conversation"]
    assert conversation[len(conversation) - len(kept) :] == kept
    assert ("\u7b54" * 10**5).startswith(found["answer"])
    assert len(found["answer"]) > 3000


def test_all_of_them_together_are_bounded_and_the_oldest_go_first() -> None:
    answered = Answered("m", max_bytes=100_000)
    for number in range(200):
        answered.add(ask("x" * 5000, f"r{number}"), completion())
        answered.add(ask("x" * 5000, f"r{number}"), completion())  # a client may use an id again
    held = [number for number in range(200) if answered.about("", f"r{number}") is not None]
    assert held == list(range(200 - len(held), 200))
    assert 10 < len(held) < 20


def test_what_is_not_to_be_stored_is_not_watched() -> None:
    answer: Any = object()
    assert Answered("m").watch(ask("x", control=CacheControl("no-store")), answer) is answer
