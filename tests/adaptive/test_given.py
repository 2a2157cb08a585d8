"""An answer that was given before is proposed from its beginning, where it is met again, and to its asker only."""

from __future__ import annotations

from engine.fakes import GREEDY, make_engine
from miaotui.adaptive.drafters.given import MOST_GIVEN, SEAM, GivenDrafter, GivenLookup
from miaotui.adaptive.drafters.lookup import LOOKBACK

PROMPT = list(range(100, 130))
GIVEN = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]


def proposed(said: list[int], *, prompt: list[int] = PROMPT, count: int = 4) -> list[int]:
    lookup = GivenLookup(prompt, GIVEN)
    lookup.read([*prompt, *said])
    matched, tokens = lookup.find(count)
    return tokens if matched > 1 else []


def test_the_answer_is_proposed_from_its_first_token_on() -> None:
    assert proposed([]) == [1, 2, 3, 4]
    assert proposed([1]) == [2, 3, 4, 5]
    assert proposed([1, 2, 3, 4, 5]) == [6, 7, 8, 9]


def test_where_both_part_it_goes_on_where_they_meet_again() -> None:
    assert proposed([1, 2, 77, 78]) == []
    assert proposed([1, 2, 77, 7, 8]) == [9, 10, 11, 12]


def test_a_prompt_that_looks_the_same_further_up_is_not_mistaken_for_its_end() -> None:
    prompt = [*PROMPT[-SEAM:], 55, 56, 57, *PROMPT[-SEAM:]]
    assert proposed([], prompt=prompt) == [1, 2, 3, 4]


def test_what_the_answer_copies_from_the_prompt_is_found_too() -> None:
    assert proposed([1, 2, 77, 110, 111]) == [112, 113, 114, 115]


def test_short_prompts_and_very_long_ones_work_too() -> None:
    assert proposed([1, 2], prompt=[5]) == [3, 4, 5, 6]
    assert proposed([], prompt=list(range(1000, 1000 + 2 * LOOKBACK))) == [1, 2, 3, 4]


def test_tokens_come_one_by_one_or_several_at_once() -> None:
    lookup = GivenLookup(PROMPT, GIVEN)
    for end in (0, 1, 3, 8):
        lookup.read([*PROMPT, *GIVEN[:end]])
        assert lookup.find(2) == (SEAM + end, GIVEN[end : end + 2])


def drafted(drafter: GivenDrafter, tenant: str, prompt: list[int]) -> list[int]:
    (sequence,) = make_engine()[0].add(prompt, GREEDY, tenant=tenant)
    for _ in range(60):
        drafter.observe(1, 0, 1.0)
        drafter.observe(1, 4, 1.05)
    return list(drafter.draft([sequence], 4).get(sequence, ()))


def test_only_who_gave_an_answer_gets_it_and_only_once() -> None:
    drafter = GivenDrafter()
    prompt = [9, 8, 7, 6]
    drafter.give(prompt, GIVEN, "alice")
    assert drafted(drafter, "bob", prompt) == []
    assert drafted(drafter, "alice", [*prompt, 1]) == []
    assert drafted(drafter, "alice", prompt) == [1, 2, 3, 4]
    assert drafted(drafter, "alice", prompt) == []


def test_answers_that_nobody_came_for_are_bounded_and_forgotten() -> None:
    drafter = GivenDrafter()
    for number in range(2 * MOST_GIVEN):
        drafter.give([number], GIVEN, "")
    assert len(drafter._given) == MOST_GIVEN
    drafter.forget()
    assert not drafter._given
