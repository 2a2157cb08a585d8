"""Answers end where they are complete, show nothing behind that, and say what completed them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.fakes import drain, make_engine
from engine.test_text import Pieces
from miaotui.core import SamplingParams, StopWhen
from miaotui.engine.end_watch import end_watch
from miaotui.engine.engine import Engine
from miaotui.engine.results import Delta
from miaotui.engine.sequence import Sequence
from miaotui.engine.text import TextStream
from miaotui.errors import InvalidRequestError


class Spoken:
    """A decoder for which token i is the i-th of these signs."""

    def __init__(self, signs: str) -> None:
        self._signs = signs

    def push(self, token_id: int) -> str:
        return self._signs[token_id]

    def finish(self) -> str:
        return ""


def saying(engine: Engine, text: str) -> None:
    """Have the model say this, a sign each step, and its last sign for ever."""
    signs = sorted(set(text))
    engine.vocabulary = type(engine.vocabulary)(
        engine.vocabulary.size, engine.vocabulary.eos_ids, lambda: Spoken("".join(signs).ljust(64, "~"))
    )
    step = engine.runner.run

    def run(slices: Any) -> np.ndarray:
        logits = step(slices)
        at = slices[0].sequence.num_output_tokens
        logits[:] = -10
        logits[:, signs.index(text[min(at, len(text) - 1)])] = 10
        return logits

    engine.runner.run = run  # type: ignore[method-assign]


def answer(text: str, **params: Any) -> tuple[Sequence, list[Delta]]:
    engine, _ = make_engine()
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
