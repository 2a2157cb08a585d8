"""Whose time is over ends with what was said by then, wherever it is; who is refused leaves nothing behind."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest

from engine.fakes import GREEDY, drain, greedy_tokens, make_engine
from miaotui.core import Plan
from miaotui.engine.engine import Engine
from miaotui.engine.grammar import Constraint
from miaotui.engine.prospect import Admission, Admit, Prospect
from miaotui.engine.scheduler import Slice
from miaotui.engine.sequence import Sequence
from miaotui.engine.step_work import work_of_step
from miaotui.errors import DeadlineError

PROMPT = list(range(1, 21))
LONG = replace(GREEDY, max_tokens=40, ignore_eos=True)


class Clock:
    """The engine's time, a second a look."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        self.now_s += 1.0
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("miaotui.engine.engine.time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


def until(deadline_s: float | None) -> Admit:
    return lambda prospect: Admission(deadline_s=deadline_s)


def add(engine: Engine, deadline_s: float | None, prompt: list[int] = PROMPT) -> Sequence:
    (sequence,) = engine.add(prompt, LONG, admit=until(deadline_s))
    return sequence


def test_an_answer_ends_at_its_deadline_with_what_it_has_said(clock: Clock) -> None:
    engine, _ = make_engine()
    timed, other = add(engine, 25.0), add(engine, None, PROMPT[::-1])
    updates = drain(engine)
    said = timed.num_output_tokens
    assert (timed.finish_reason, other.finish_reason) == ("deadline", "length")
    assert 0 < said < 40
    assert timed.token_ids == PROMPT + greedy_tokens(PROMPT, said)
    assert other.token_ids == PROMPT[::-1] + greedy_tokens(PROMPT[::-1], 40), "nobody else loses anything"
    completion = timed.completion()
    assert len(completion.text) == said
    assert completion.receipt.why.endswith("its deadline ended it")
    last = [part for sequence, part in updates if sequence is timed][-1]
    assert last.finish_reason == "deadline"
    assert engine._timed == []


def test_one_that_waits_or_is_being_read_ends_at_its_deadline_too(clock: Clock) -> None:
    engine, _ = make_engine(max_sequences=1, max_tokens=4)
    reading, waiting = add(engine, 14.0, PROMPT * 5), add(engine, 14.0)
    drain(engine)
    for one in (reading, waiting):
        assert (one.finish_reason, one.num_output_tokens) == ("deadline", 0)
        assert one.receipt().output_tokens == 0


def test_a_deadline_that_is_not_reached_changes_nothing(clock: Clock) -> None:
    engine, _ = make_engine()
    sequence = add(engine, 1e9)
    drain(engine)
    assert sequence.finish_reason == "length"
    assert sequence.token_ids == PROMPT + greedy_tokens(PROMPT, 40)


def test_what_refuses_a_request_leaves_the_engine_as_it_was() -> None:
    engine, program = make_engine()

    def refuse(prospect: Prospect) -> Admission:
        raise DeadlineError(900.0, 10.0, 0)

    with pytest.raises(DeadlineError):
        engine.add(PROMPT, LONG, admit=refuse)
    assert not engine.scheduler.has_work
    assert engine.step() == []
    assert program.runs == []
    engine.check_integrity()


def test_who_decides_is_told_how_things_stand() -> None:
    engine, _ = make_engine(max_sequences=2)
    seen: list[Prospect] = []

    def look(prospect: Prospect) -> Admission:
        seen.append(prospect)
        return Admission(Plan("model", 1.0, ""))

    engine.add(PROMPT * 2, LONG, admit=look)
    engine.step()
    engine.step()
    engine.add(PROMPT * 3, LONG, admit=look)
    engine.step()
    (third,) = engine.add(PROMPT * 2, replace(LONG, ignore_eos=False, max_tokens=7), admit=look)
    first, second, last = seen
    assert (first.num_cached_tokens, first.load.num_unfinished, first.will_fill) == (0, 0, True)
    assert (second.load.num_answering, second.load.num_reading, second.num_tokens_before) == (1, 0, 0)
    assert second.num_cached_tokens == 32, "the pages that hold its first 40 tokens are found but for the last"
    assert last.num_cached_tokens == 32
    assert last.load.num_running == 2
    assert (last.max_tokens, last.will_fill, last.can_draft) == (7, False, False)
    assert last.num_tokens_before <= last.num_prompt_tokens - last.num_cached_tokens
    assert third.receipt().plan == Plan("model", 1.0, "")


def test_only_those_who_may_be_drafted_are() -> None:
    engine, _ = make_engine()
    (plain,) = engine.add(PROMPT, LONG, admit=lambda prospect: Admission(may_draft=False))
    (free,) = engine.add(PROMPT, LONG)
    assert plain.num_draftable_tokens == 0
    assert free.num_draftable_tokens == 39


def test_a_step_s_work_is_what_its_slices_read() -> None:
    engine, _ = make_engine()
    (answering,), (reading,) = engine.add([1, 2, 3], LONG), engine.add(PROMPT, LONG)
    answering.num_computed_tokens, reading.num_computed_tokens = 10, 8
    answering.may_draft = False
    work = work_of_step([Slice(answering, 3, 3, (7, 8)), Slice(reading, 8, 0)], 2)
    assert (work.num_answers, work.num_drafted, work.num_prompt_tokens, work.num_logit_rows) == (1, 2, 8, 3)
    assert (work.num_tokens, work.num_draftable, work.num_said) == (11, 0, 2)
    assert work.num_pairs * 1024 == sum(range(7, 10)) + 1.5 + sum(range(8)) + 4


def test_what_a_grammar_forces_is_no_gain_of_drafts() -> None:
    engine, _ = make_engine()
    (bound,), (free,) = engine.add(PROMPT, LONG), engine.add(PROMPT, LONG)
    bound.num_computed_tokens = free.num_computed_tokens = 5
    bound.constraint = cast(Constraint, object())  # only that there is one counts
    work = work_of_step([Slice(bound, 1, 1), Slice(free, 1, 1)], num_said=1)
    assert (work.num_answers, work.num_draftable, work.num_said) == (2, 1, 2)
