"""What followed the last tokens the time before is what is proposed."""

from __future__ import annotations

import random

from miaotui.adaptive.drafters.lookup import LOOKBACK, READ_AT_ONCE, PromptLookup


def read(lookup: PromptLookup, token_ids: list[int]) -> None:
    for _ in range(LOOKBACK // READ_AT_ONCE + 1):
        lookup.read(token_ids)


def proposed(token_ids: list[int], count: int = 4) -> tuple[list[int], int]:
    lookup = PromptLookup()
    read(lookup, token_ids)
    matched, draft = lookup.find(count)
    return draft, matched


def test_what_followed_the_longest_match_is_proposed() -> None:
    phrase = list(range(100, 108))
    assert proposed([*phrase, 1, 2, 3, 4, 5, 106, 107, 9, *phrase]) == ([1, 2, 3, 4], 8)
    assert proposed([*phrase, 1, 2, 3, 4, 5, 106, 107, 9, 0, 106, 107]) == ([9, 0, 106, 107], 2)


def test_of_equal_matches_the_latest_counts() -> None:
    assert proposed([1, 2, 3, 1, 2, 4, 5, 6, 7, 1, 2]) == ([4, 5, 6, 7], 2)


def test_where_a_match_went_on_in_several_ways_that_is_said() -> None:
    for token_ids, is_settled in (([1, 2, 3, 1, 2], True), ([1, 2, 3, 1, 2, 4, 1, 2], False), ([1, 2, 3], False)):
        lookup = PromptLookup()
        read(lookup, token_ids)
        assert lookup.is_settled == is_settled


def test_what_repeats_itself_is_proposed_round_and_round() -> None:
    assert proposed([9, 1, 2, 1, 2, 1, 2], 5) == ([1, 2, 1, 2, 1], 4)
    assert proposed([7, 7, 7, 7], 6) == ([7] * 6, 3)


def test_nothing_is_proposed_where_nothing_agrees() -> None:
    assert proposed([]) == proposed([1]) == proposed([1, 2]) == proposed([1, 2, 3, 4]) == ([], 0)


def test_a_text_read_piece_by_piece_is_the_same() -> None:
    rng = random.Random(1)
    token_ids = [rng.randrange(3) for _ in range(300)]
    lookup, end = PromptLookup(), 0
    while end < len(token_ids):
        end = min(end + rng.randrange(1, 9), len(token_ids))
        lookup.read(token_ids[:end])
        matched, draft = lookup.find(5)
        assert (draft, matched) == proposed(token_ids[:end], 5)


def test_a_long_text_is_known_by_its_end_and_only_when_it_was_read() -> None:
    token_ids = [*range(1000, 1000 + 2 * LOOKBACK), *range(1000, 1004)]
    assert proposed(token_ids)[1] == 0  # that beginning is too long ago
    token_ids = [*token_ids[:-4], *token_ids[-40:-30]]
    lookup = PromptLookup()
    lookup.read(token_ids)
    assert lookup.find(4) == (0, [])
    read(lookup, token_ids)
    assert lookup.find(4)[0] == 10


def test_a_text_that_goes_on_and_on_takes_no_more_memory() -> None:
    lookup, token_ids = PromptLookup(), list[int]()
    most = 0
    for start in range(0, 5 * LOOKBACK, READ_AT_ONCE):
        token_ids += range(start, start + READ_AT_ONCE)
        lookup.read(token_ids)
        most = max(most, lookup._automaton.num_tokens)
    assert 2 * LOOKBACK <= most <= 2 * LOOKBACK + READ_AT_ONCE
    read(lookup, [*token_ids, *token_ids[-40:-30]])
    assert lookup.find(1) == (10, [token_ids[-30]])
