"""An output ends where it goes round in circles as often as was said, not before, and only where that was asked."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.fakes import VOCAB, drain, make_engine
from miaotui.core import RepetitionDetection, SamplingParams
from miaotui.engine.engine import Engine
from miaotui.engine.repetition import CircleWatch
from miaotui.engine.sequence import Sequence


def circles(ids: list[int], wanted: RepetitionDetection) -> int:
    """The shortest pattern that ends this list often enough, by comparing lists; 0 for none."""
    for size in range(max(wanted.min_pattern_size, 1), wanted.max_pattern_size + 1):
        if len(ids) >= size * wanted.min_count and ids[-size * wanted.min_count :] == ids[-size:] * wanted.min_count:
            return size
    return 0


@given(
    st.lists(st.integers(0, 2), max_size=60),
    st.integers(1, 7),
    st.integers(2, 4),
    st.integers(0, 7),
)
def test_a_circle_is_seen_at_the_token_that_closes_it(ids: list[int], longest: int, count: int, shortest: int) -> None:
    wanted = RepetitionDetection(longest, count, min(shortest, longest))
    watch = CircleWatch(wanted)
    assert [watch.push(token) for token in ids] == [circles(ids[: n + 1], wanted) for n in range(len(ids))]


def going_round(engine: Engine, pattern: list[int]) -> None:
    """Let the model say this again and again."""
    step = engine.runner.run
    said: Iterator[int] | None = None

    def run(slices: list) -> np.ndarray:  # type: ignore[type-arg]
        nonlocal said
        logits = step(slices)
        at = slices[0].sequence.num_output_tokens
        logits[:] = -10
        logits[:, pattern[at % len(pattern)]] = 10
        return logits

    engine.runner.run = run  # type: ignore[method-assign]


def answer(pattern: list[int], **params: object) -> Sequence:
    engine, _ = make_engine()
    going_round(engine, pattern)
    (sequence,) = engine.add([1, 2], SamplingParams(temperature=0, max_tokens=30, **params))  # type: ignore[arg-type]
    drain(engine)
    engine.check_integrity()
    return sequence


def test_an_answer_in_circles_ends_and_says_so() -> None:
    sequence = answer([5, 6, 7], repetition_detection={"max_pattern_size": 8, "min_count": 3})
    assert sequence.token_ids[2:] == [5, 6, 7] * 3
    assert sequence.finish_reason == "repetition"
    assert sequence.stop_reason == "a pattern of 3 tokens, again and again"
    assert sequence.text.text == "FGH" * 3


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"repetition_detection": {"max_pattern_size": 2, "min_count": 3}},
        {"repetition_detection": {"max_pattern_size": 8, "min_count": 11}},
    ],
    ids=["not asked", "pattern too long", "not often enough"],
)
def test_an_answer_in_circles_that_are_allowed_goes_on(params: dict[str, object]) -> None:
    sequence = answer([5, 6, 7], **params)
    assert (sequence.num_output_tokens, sequence.finish_reason) == (30, "length")


def test_an_answer_in_circles_has_its_least_tokens() -> None:
    sequence = answer([5, 6, 7], repetition_detection={"max_pattern_size": 8, "min_count": 3}, min_tokens=20)
    assert (sequence.num_output_tokens, sequence.finish_reason) == (20, "repetition")


def test_the_prompt_s_circles_are_not_the_answer_s() -> None:
    engine, _ = make_engine()
    params = SamplingParams(temperature=0, max_tokens=8, repetition_detection=RepetitionDetection(4, 2))
    (sequence,) = engine.add([5, 6] * 10, params)
    drain(engine)
    ids = sequence.token_ids[20:]
    assert all(not circles(ids[:n], RepetitionDetection(4, 2)) for n in range(1, len(ids)))
    assert max(ids) < VOCAB
