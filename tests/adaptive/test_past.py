"""Past answers are found by those who were given them, and never take more than their bytes."""

from __future__ import annotations

import random
from typing import NoReturn

from hypothesis import given, settings
from hypothesis import strategies as st

from miaotui.adaptive.drafters.past import CONTEXT, MOST_TOKENS, PastAnswers

MIB = 1 << 20


def text_of(seed: int, length: int = 200) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(40000) for _ in range(length)]


def knows(past: PastAnswers, tenant: str, text: list[int]) -> bool:
    return past.find(tenant, text[40:60], 10) == (20, text[60:70])


def test_an_answer_is_found_behind_the_same_question() -> None:
    past, prompt, answer = PastAnswers(MIB), text_of(1, 500), text_of(2)
    past.learn("", prompt + answer, len(prompt))
    assert past.find("", prompt, 5) == (CONTEXT, answer[:5])
    assert past.find("", [*text_of(3), *answer[10:14]], 5) == (4, answer[14:19])
    assert past.find("", answer, 5) == (0, [])  # nothing came behind its end
    assert past.find("", prompt[:100], 5) == (0, [])


def test_nobody_finds_what_others_were_told() -> None:
    past, texts = PastAnswers(MIB), {tenant: text_of(number) for number, tenant in enumerate(("", "a", "b"))}
    for tenant, text in texts.items():
        past.learn(tenant, text, 0)
    for tenant in texts:
        for other, text in texts.items():
            assert knows(past, tenant, text) == (tenant == other)
    assert past.find("c", texts["a"][:60], 10) == (0, [])


def test_the_latest_of_several_answers_to_a_question_is_found() -> None:
    past, prompt = PastAnswers(MIB), text_of(1, 80)
    for seed in (2, 3):
        past.learn("", prompt + text_of(seed), len(prompt))
    assert past.find("", text_of(2), 5) == (0, [])  # the other question did not come behind that answer
    assert past.find("", prompt, 5) == (CONTEXT, text_of(3)[:5])


def test_what_was_of_use_stays_and_the_rest_leaves() -> None:
    past, used = PastAnswers(MIB), text_of(0)
    past.learn("", used, 0)
    past.learn("", text_of(1), 0)
    for seed in range(2, 500):
        past.learn("", text_of(seed), 0)
        if seed % 20 == 0:  # it is asked for again
            past.learn("", used, 0)
        assert knows(past, "", text_of(max(seed - 9, 0)))  # never do all leave at once
    assert knows(past, "", used)
    assert knows(past, "", text_of(499))
    assert not knows(past, "", text_of(1))
    assert past.nbytes > MIB // 3


def test_those_who_have_most_make_room_for_others() -> None:
    past = PastAnswers(MIB)
    for seed in range(1, 300):
        past.learn("large", text_of(seed), 0)
    past.learn("first of the small", text_of(0), 0)
    past.learn("large", text_of(300), 0)
    for seed in range(301, 331):
        past.learn(f"small {seed}", text_of(seed), 0)
    assert knows(past, "large", text_of(300))
    assert not knows(past, "large", text_of(200))
    assert knows(past, "first of the small", text_of(0))


@settings(max_examples=30, deadline=None)
@given(
    max_bytes=st.integers(0, 200_000),
    asked=st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3000), st.integers(1, 50000)), max_size=40),
)
def test_the_limit_holds_whatever_is_learned(max_bytes: int, asked: list[tuple[str, int, int]]) -> None:
    past, rng = PastAnswers(max_bytes), random.Random(0)
    for tenant, length, num_words in asked:
        past.learn(tenant, [rng.randrange(num_words) for _ in range(length)], 0)
        assert past.nbytes <= max_bytes
        assert not any(shelf.is_empty for shelf in past._shelves.values())


def test_many_tenants_are_kept_within_the_limit_those_who_asked_last() -> None:
    past = PastAnswers(MIB)
    for number in range(500):
        past.learn(f"tenant {number}", text_of(number), 0)
        assert past.nbytes <= MIB
    assert knows(past, "tenant 499", text_of(499))
    assert past.find("tenant 0", text_of(0)[:60], 5) == (0, [])


def test_of_a_long_answer_the_beginning_is_kept() -> None:
    past, answer = PastAnswers(8 * MIB), text_of(1, 3 * MOST_TOKENS)
    past.learn("", answer, 0)
    assert past.find("", answer[MOST_TOKENS - 30 : MOST_TOKENS - 10], 20)[1] == answer[MOST_TOKENS - 10 : MOST_TOKENS]
    assert past.find("", answer[: MOST_TOKENS + 50], 5) == (0, [])


def test_a_limit_that_holds_nothing_is_no_error() -> None:
    past = PastAnswers(1)
    past.learn("", text_of(1), 0)
    assert (past.nbytes, past.find("", text_of(1)[:50], 5)) == (0, (0, []))


def test_those_who_ask_no_more_leave_their_share_to_others() -> None:
    past = PastAnswers(MIB)
    for number in range(30):
        past.learn(f"idle {number}", text_of(number, 20), 0)
    texts = [text_of(100 + number) for number in range(100)]
    for text in texts:
        past.learn("busy", text, 0)
    assert past.nbytes > 0.5 * MIB
    assert sum(knows(past, "busy", text) for text in texts) > 30


def test_ending_an_answer_takes_no_longer_the_more_tenants_there_are() -> None:
    """Sizes that are looked at, for one answer more: a few, however many shelves there are."""
    past, looked_at = PastAnswers(4 * MIB), 0
    for number in range(600):
        past.learn(f"{number}", text_of(number, 120), 0)
    shelves = past._shelves
    assert len(shelves) > 200

    class Counted(dict[str, object]):
        def __getitem__(self, tenant: str) -> object:
            nonlocal looked_at
            looked_at += 1
            return super().__getitem__(tenant)

        def values(self) -> NoReturn:
            raise AssertionError("all shelves are looked at")

        __iter__ = items = values

    past._largest.clear()
    for tenant in shelves:
        past._remember_size(tenant)
    past._shelves = Counted(shelves)
    past.learn("another", text_of(1000, 120), 0)
    assert 0 < looked_at < 40
    assert past.nbytes <= past.max_bytes


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 900)), max_size=80))
@settings(deadline=None)
def test_bytes_are_those_of_the_shelves(answers: list[tuple[int, int]]) -> None:
    past = PastAnswers(MIB // 4)
    for number, (tenant, length) in enumerate(answers):
        past.learn(f"{tenant}", text_of(number, length), 0)
        assert past.nbytes == sum(shelf.nbytes for shelf in past._shelves.values()) <= past.max_bytes
