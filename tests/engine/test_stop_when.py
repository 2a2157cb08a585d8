"""Answers end where they are complete, show nothing behind that, and say what completed them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.fakes import EOS, drain, make_engine
from engine.test_text import Pieces
from miaotui.core import SamplingParams, StopWhen
from miaotui.engine.end_watch import end_watch
from miaotui.engine.engine import Engine
from miaotui.engine.results import Delta
from miaotui.engine.sequence import Sequence
from miaotui.engine.text import TextStream
from miaotui.errors import InvalidRequestError

END = "\0"
"""The model's end of text."""


class Spoken:
    """A decoder for which token i is the i-th of these signs."""

    def __init__(self, signs: str) -> None:
        self._signs = signs

    def push(self, token_id: int) -> str:
        return self._signs[token_id]

    def finish(self) -> str:
        return ""


def saying(engine: Engine, text: str) -> None:
    """Have the model say this, a sign each step, and its last sign for ever, unless that is END: then it ends there."""
    signs = sorted(set(text))
    engine.vocabulary = replace(engine.vocabulary, new_decoder=lambda: Spoken("".join(signs).ljust(64, "~")))
    step = engine.runner.run

    def run(slices: Any) -> np.ndarray:
        logits = step(slices)
        at = slices[0].sequence.num_output_tokens
        logits[:] = -10
        logits[:, EOS if text[at:] == END else signs.index(text[min(at, len(text) - 1)])] = 10
        return logits

    engine.runner.run = run  # type: ignore[method-assign]


def answer(text: str, *, reasons: bool = False, **params: Any) -> tuple[Sequence, list[Delta]]:
    """reasons: whether the prompt has opened a block of reasoning."""
    engine, _ = make_engine()
    engine.vocabulary = replace(engine.vocabulary, opens_reasoning=lambda prompt: reasons and prompt == (1, 2))
    saying(engine, text)
    (sequence,) = engine.add([1, 2], SamplingParams(temperature=0, max_tokens=len(text), **params))
    updates = drain(engine)
    return sequence, [delta for _, delta in updates]


JSON = 'So: {"a": [1, 2]}'


@pytest.mark.parametrize("wanted", ["json", {"json": True}, StopWhen(json=True)])
def test_an_answer_in_json_ends_with_the_json(wanted: Any) -> None:
    sequence, parts = answer(JSON + " and more", stop_when=wanted)
    assert sequence.text.text == "".join(part.text for part in parts) == JSON
    assert (sequence.finish_reason, sequence.stop_reason) == ("stop", "json")
    assert sequence.num_output_tokens == len(JSON)


def test_an_answer_that_is_a_choice_ends_with_it() -> None:
    sequence, parts = answer("I say: answer: (B) ok", stop_when={"choice": ["A", "B"]})
    assert sequence.text.text == "".join(part.text for part in parts) == "I say: answer: (B)"
    assert (sequence.finish_reason, sequence.stop_reason) == ("stop", "B")


@pytest.mark.parametrize(
    ("text", "wanted", "answer_is"),
    [
        ("answer: B, so it is", {"choice": ["A", "B"]}, "answer: B"),
        ("answer: new ideas.", {"choice": ["new", "new york"]}, "answer: new"),
        ("```json\n{}\n\nx y", "json", "```json\n{}"),
    ],
)
def test_nothing_behind_the_end_is_ever_shown(text: str, wanted: Any, answer_is: str) -> None:
    for params in ({}, {"stop": ["so it was", "ideal"]}):  # which might begin there
        sequence, parts = answer(text, stop_when=wanted, **params)
        assert sequence.text.text == "".join(part.text for part in parts) == answer_is


def test_an_answer_that_never_is_complete_ends_as_it_would() -> None:
    for text, wanted in (("[1, 2", "json"), ("answer: B", {"choice": ["A", "B"]})):
        sequence, parts = answer(text, stop_when=wanted)
        assert sequence.text.text == "".join(part.text for part in parts) == text
        assert (sequence.finish_reason, sequence.stop_reason) == ("length", None)


@pytest.mark.parametrize(
    ("text", "wanted", "shown", "reason"),
    [
        ("B", {"choice": ["A", "B"]}, "B", "B"),
        ("answer: 3.", {"choice": ["3", "4"]}, "answer: 3", "3"),
        ("```json\n{}\n``", "json", "```json\n{}", "json"),
        ("B or", {"choice": ["A", "B"]}, "B or", None),
        ("[1, 2", "json", "[1, 2", None),
    ],
)
@pytest.mark.parametrize("params", [{}, {"stop": ["``!", "B!"]}, {"stop_token_ids": [EOS]}])
def test_the_end_of_the_text_decides_what_was_undecided(
    text: str, wanted: Any, shown: str, reason: str | None, params: Any
) -> None:
    sequence, parts = answer(text + END, stop_when=wanted, **params)
    assert sequence.text.text == "".join(part.text for part in parts) == shown
    ended_by = EOS if reason is None and "stop_token_ids" in params else reason
    assert (sequence.finish_reason, sequence.stop_reason) == ("stop", ended_by)
    assert [part.finish_reason for part in parts][-1] == "stop"


@pytest.mark.parametrize("behind", ["", "\n", "\n``"])
def test_what_is_complete_when_its_tokens_are_used_up_is_complete(behind: str) -> None:
    sequence, parts = answer("```json\n{}" + behind, stop_when="json")
    assert sequence.text.text == "".join(part.text for part in parts) == "```json\n{}"
    assert (parts[-1].finish_reason, sequence.stop_reason) == ("stop", "json")


def test_what_is_complete_when_its_time_is_over_is_complete_but_a_cancelled_answer_was_cancelled() -> None:
    for overdue, why in ((True, ("stop", "json")), (False, ("cancelled", None))):
        engine, _ = make_engine()
        saying(engine, "```json\n{}\n\n\n")
        (sequence,) = engine.add([1, 2], SamplingParams(temperature=0, max_tokens=99, stop_when=StopWhen(json=True)))
        while sequence.num_output_tokens < len("```json\n{}\n"):
            engine.step()
        ((_, last),) = engine._end([sequence], "deadline") if overdue else engine.cancel([sequence])
        assert (last.finish_reason, sequence.stop_reason) == (sequence.finish_reason, sequence.stop_reason) == why
        assert sequence.text.text == "```json\n{}"


THOUGHT = 'Is the answer B? {"a": 0} says so.'


@pytest.mark.parametrize(
    ("wanted", "said", "reason"), [("json", '{"b": 1}', "json"), ({"choice": ["A", "B"]}, "Answer: A.", "A")]
)
def test_reasoning_ends_nothing(wanted: Any, said: str, reason: str) -> None:
    for text, reasons in ((f"\n<think>{THOUGHT}</think>\n\n{said}", False), (f"{THOUGHT}</think>{said}", True)):
        sequence, parts = answer(text + " and so on", stop_when=wanted, reasons=reasons)
        assert sequence.text.text == "".join(part.text for part in parts) == text.removesuffix(".")
        assert (sequence.finish_reason, sequence.stop_reason) == ("stop", reason)


@pytest.mark.parametrize("end", ["", END])
def test_reasoning_without_end_is_followed_by_no_answer(end: str) -> None:
    for text, reasons in ((f"<think>{THOUGHT}</th", False), (THOUGHT, True)):
        for wanted in ("json", {"choice": ["A", "B"]}):
            sequence, _ = answer(text + end, stop_when=wanted, reasons=reasons)
            assert sequence.text.text == text
            assert (sequence.finish_reason, sequence.stop_reason) == ("stop" if end else "length", None)


def test_whoever_does_not_ask_gets_all_of_it() -> None:
    sequence, _ = answer(JSON + " and more")
    assert sequence.text.text == JSON + " and more"


@given(st.sampled_from(["2]", "]}", '{"', "}", "} a", ": {", "xyz"]), st.booleans(), st.integers(1, 9))
def test_whichever_is_complete_first_ends_the_text(stop: str, include: bool, size: int) -> None:
    whole = JSON + " a"
    pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    stream = TextStream(Pieces(pieces), [stop], include_stop=include, watch=end_watch(StopWhen(json=True)))
    for number in range(len(pieces)):
        stream.push(number)
        if stream.stopped_by is not None:
            break
    begin = whole.find(stop)
    if begin >= 0 and begin + len(stop) <= len(JSON):
        assert (stream.text, stream.stopped_by) == (whole[: begin + (len(stop) if include else 0)], stop)
    else:
        assert (stream.text, stream.stopped_by) == (JSON, "json")


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("xml", "must be an object of json, choice"),
        ({}, "must be .json., or have one of"),
        ({"json": False}, "must be .json., or have one of"),
        ({"json": "yes"}, "must be .json., or have one of"),
        ({"json": True, "choice": ["A"]}, "must be .json., or have one of"),
        ({"choice": []}, "1 to 64 different texts"),
        ({"choice": "AB"}, "1 to 64 different texts"),
        ({"choice": ["A", "A"]}, "1 to 64 different texts"),
        ({"choice": [str(n) for n in range(65)]}, "1 to 64 different texts"),
        ({"choice": ["A", 1]}, "each choice must have"),
        ({"choice": ["A", "(B)"]}, "each choice must have"),
        ({"choice": ["A", "B "]}, "each choice must have"),
        ({"choice": ["x" * 1025]}, "each choice must have"),
        ({"choice": [sign * 1024 for sign in "ABCD"] + ["E"]}, "choice must have at most 4096 characters in all"),
        ({"regex": "a"}, "must be an object of json, choice"),
        (5, "must be an object of json, choice"),
    ],
)  # fmt: skip
def test_what_cannot_be_watched_for_is_refused(bad: Any, why: str) -> None:
    with pytest.raises(InvalidRequestError, match=f"stop_when.*{why}"):
        SamplingParams(stop_when=bad)


def test_least_tokens_and_an_end_where_it_is_complete_contradict_each_other() -> None:
    with pytest.raises(InvalidRequestError, match="min_tokens must be 0 with stop_when"):
        SamplingParams(stop_when="json", min_tokens=3)  # type: ignore[arg-type]
