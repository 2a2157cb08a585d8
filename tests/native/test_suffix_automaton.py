"""The automaton finds what a search of all texts finds, and its memory is bounded by theirs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miaotui import _native
from miaotui.errors import ModelFileError

TOKENS = st.integers(0, 2)
TEXTS = st.lists(st.lists(TOKENS, min_size=1, max_size=40), min_size=1, max_size=6)


def built(texts: list[list[int]]) -> _native.SuffixAutomaton:
    automaton = _native.SuffixAutomaton()
    for text in texts:
        automaton.begin_text()
        automaton.append(text)
    return automaton


def occurrences(texts: list[list[int]], wanted: list[int]) -> list[list[int]]:
    """What comes behind each occurrence that something comes behind, in order."""
    size = len(wanted)
    return [text[at + size :] for text in texts for at in range(len(text) - size) if text[at : at + size] == wanted]


def longest(texts: list[list[int]], tail: list[int]) -> tuple[int, list[list[int]]]:
    for size in range(len(tail), 0, -1):
        if found := occurrences(texts, tail[len(tail) - size :]):
            return size, found
    return 0, []


@given(texts=TEXTS, tail=st.lists(TOKENS, max_size=12), count=st.integers(1, 50))
def test_the_longest_end_that_goes_on_anywhere_is_found(texts: list[list[int]], tail: list[int], count: int) -> None:
    size, ways = longest(texts, tail)
    length, draft = built(texts).find(tail, count)
    assert length == size
    if size:
        assert draft in [way[:count] for way in ways]
    else:
        assert draft == []


@given(texts=TEXTS, tail=st.lists(TOKENS, min_size=1, max_size=6))
def test_of_several_occurrences_the_latest_counts(texts: list[list[int]], tail: list[int]) -> None:
    _, ways = longest(texts, tail)
    _, draft = built(texts).find(tail, 50)
    assert draft == (ways[-1] if ways else [])


@given(text=st.lists(TOKENS, max_size=60), count=st.integers(1, 20))
def test_a_text_repeats_what_followed_its_own_end_before(text: list[int], count: int) -> None:
    automaton = _native.SuffixAutomaton()
    for at in range(len(text)):
        automaton.append(text[at : at + 1])
    length, draft = automaton.repeat(count)
    size, ways = longest([text], text) if text else (0, [])
    assert length == size
    way = ways[-1] if ways else []
    assert draft == (way * count)[:count]
    assert automaton.is_settled == (len({way[0] for way in ways}) == 1)


@given(texts=TEXTS)
def test_pieces_make_the_same_as_whole_texts(texts: list[list[int]]) -> None:
    automaton = _native.SuffixAutomaton()
    for text in texts:
        automaton.begin_text()
        for token in text:
            automaton.append([token])
    whole = built(texts)
    assert automaton.nbytes == whole.nbytes
    assert automaton.num_tokens == sum(map(len, texts))
    for text in texts:
        assert automaton.find(text[:7], 9) == whole.find(text[:7], 9)


@given(before=TEXTS, text=st.lists(st.integers(0, 3), min_size=1, max_size=300))
def test_what_a_text_takes_is_known_before(before: list[list[int]], text: list[int]) -> None:
    automaton = built(before)
    most = automaton.most_bytes(len(text))
    automaton.begin_text()
    automaton.append(text)
    assert automaton.nbytes <= most


def test_a_text_of_many_different_tokens_takes_some_tens_of_bytes_for_each() -> None:
    text = [at * 7919 % 49152 for at in range(20000)]
    assert built([text]).nbytes / len(text) < 60


def test_no_match_reaches_across_texts_or_reads_on_behind_one() -> None:
    automaton = built([[1, 2, 3], [4, 5]])
    assert automaton.find([2, 3, 4], 5) == (1, [5])
    assert automaton.find([1, 2], 5) == (2, [3])
    assert automaton.find([3], 5) == (0, [])


def test_a_text_without_an_end_stays_fast_and_known() -> None:
    automaton = _native.SuffixAutomaton()
    automaton.append([7] * 100_000)
    assert automaton.repeat(3) == (99_999, [7, 7, 7])
    assert automaton.find([7] * 128, 2) == (128, [7, 7])


def test_negative_tokens_are_refused_and_change_nothing() -> None:
    automaton = built([[1, 2, 3]])
    with pytest.raises(ModelFileError, match="negative"):
        automaton.append([1, -1])
    assert automaton.num_tokens == 3
    assert automaton.find([-1, 1], 3) == (1, [2, 3])
