"""Who is in a step, and that what is admitted can always finish."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.fakes import GREEDY, drain, make_engine
from miaotui.core import SamplingParams
from miaotui.engine.sequence import Sequence
from miaotui.errors import CapacityError, ContextLengthError, InvalidRequestError

FULL = SamplingParams(temperature=0.0, ignore_eos=True, max_tokens=16)


def test_requests_are_admitted_in_order_even_if_a_later_one_would_fit() -> None:
    engine, _ = make_engine(num_blocks=4, max_tokens=64)
    big, too_big_now, small = (engine.add([1] * 16 * k, FULL.changed(max_tokens=1))[0] for k in (3, 2, 1))
    engine.step()
    assert engine.scheduler.running == []  # the big one has finished; nothing had jumped the queue
    assert (big.started_s, too_big_now.started_s, small.started_s) == (big.started_s, None, None)
    drain(engine)
    assert too_big_now.started_s is not None
    assert small.started_s is not None


def test_decoding_sequences_have_a_token_in_every_step_beside_a_long_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, program = make_engine(max_tokens=8)
    monkeypatch.setattr(engine.scheduler.budget, "observe", lambda *_: None)  # what steps take here says nothing
    (talker,) = engine.add([1], FULL)
    engine.step()
    engine.add([2] * 60, FULL)
    before = talker.num_output_tokens
    for _ in range(8):
        engine.step()
    assert talker.num_output_tokens == before + 8
    assert [run["tokens"] for run in program.runs[1:9]] == [8] * 8


def test_a_prompt_longer_than_a_step_is_read_in_chunks_with_logits_of_its_end_only() -> None:
    engine, program = make_engine(max_tokens=10)
    engine.add([1] * 25, FULL.changed(max_tokens=1))
    drain(engine)
    assert [(run["tokens"], run["rows"]) for run in program.runs] == [(10, 0), (10, 0), (5, 1)]


def test_scored_prompts_are_read_as_fast_as_logit_rows_allow() -> None:
    engine, program = make_engine(max_tokens=32, max_logit_rows=8)
    engine.add([1] * 40, SamplingParams(max_tokens=0, prompt_logprobs=0), first_scored=21)
    drain(engine)
    assert [(run["tokens"], run["rows"]) for run in program.runs] == [(28, 8), (8, 8), (4, 4)]


@given(st.integers(1, 70), st.integers(1, 90), st.integers(1, 4))
def test_a_request_runs_or_its_error_leads_to_one_that_does(prompt_tokens: int, max_tokens: int, n: int) -> None:
    def error_of(count: int) -> str | None:
        engine, _ = make_engine(num_blocks=7, context=128)
        try:
            engine.add([1] * prompt_tokens, FULL.changed(max_tokens=count, n=n))
        except (ContextLengthError, CapacityError) as error:
            return str(error)
        drain(engine)
        return None

    while (text := error_of(max_tokens)) is not None:
        advice = re.findall(r"lower max_tokens to at most (\d+)", text)
        if not advice:
            assert error_of(1) is not None
            return
        assert error_of(int(advice[0]) + 1) is not None
        assert int(advice[0]) < max_tokens
        max_tokens = int(advice[0])


def test_context_error_names_both_counts_and_every_option() -> None:
    engine, _ = make_engine(context=64)
    with pytest.raises(ContextLengthError) as caught:
        engine.add([1] * 50, FULL.changed(max_tokens=15))
    text = str(caught.value)
    for part in ("50 tokens", "15 more", "holds 64", "lower max_tokens to at most 14", "shorten", "allows 128"):
        assert part in text
    with pytest.raises(ContextLengthError, match="shorten the prompt"):
        engine.add([1] * 64, FULL.changed(max_tokens=None))
    engine.add([1] * 50, FULL.changed(max_tokens=14))
    drain(engine)


def test_without_max_tokens_the_context_or_the_pages_set_the_limit() -> None:
    engine, _ = make_engine(context=64, num_blocks=6)
    (one,) = engine.add([1] * 10, FULL.changed(max_tokens=None))
    two = engine.add([1] * 10, FULL.changed(max_tokens=None, n=2))
    drain(engine)
    assert one.num_output_tokens == 54
    assert [s.num_output_tokens for s in two] == [39, 39]


def test_more_completions_than_fit_a_step_are_refused() -> None:
    engine, _ = make_engine(max_sequences=2)
    with pytest.raises(CapacityError, match="at most 2 sequences run together; lower n"):
        engine.add([1], GREEDY.changed(n=3))


@pytest.mark.parametrize("bad", [[], [-1], [64], [1.5], [True], ["1"], [2**70]], ids=str)
def test_prompts_must_hold_token_ids_of_the_vocabulary(bad: list[object]) -> None:
    engine, _ = make_engine()
    with pytest.raises(InvalidRequestError, match="prompt"):
        engine.add(bad, GREEDY)  # type: ignore[arg-type]
    assert not engine.scheduler.has_work


def test_stop_tokens_and_biases_outside_the_vocabulary_are_refused() -> None:
    engine, _ = make_engine()
    for bad in ({"stop_token_ids": [64]}, {"logit_bias": {64: 1.0}}):
        with pytest.raises(InvalidRequestError, match="0 to 63"):
            engine.add([1], GREEDY.changed(**bad))


class Counted(list[Sequence]):
    """A list that counts how often somebody looks through it for an entry."""

    num_looks = 0

    def __contains__(self, entry: object) -> bool:
        self.num_looks += 1
        return super().__contains__(entry)


def test_a_step_of_answers_does_not_look_through_those_that_run_for_each_of_them() -> None:
    engine, _ = make_engine(max_sequences=16, max_logit_rows=16)
    scheduler = engine.scheduler
    scheduler.running = running = Counted()
    for number in range(16):
        engine.add([number], FULL.changed(max_tokens=40))
    engine.step()
    running.num_looks = 0
    for _ in range(20):  # which take pages, too
        engine.step()
    assert [len(engine.slices), running.num_looks] == [16, 0]
    engine.check_integrity()


@pytest.mark.parametrize("has_place", [False, True])
def test_who_has_a_place_is_who_runs(has_place: bool) -> None:
    engine, _ = make_engine(max_sequences=1)
    (first,) = engine.add([1], FULL)
    (second,) = engine.add([2], FULL)
    engine.step()
    assert [first.has_place, second.has_place] == [True, False]
    engine.check_integrity()
    first.has_place = second.has_place = has_place
    with pytest.raises(RuntimeError, match="place"):
        engine.check_integrity()


def test_who_had_a_place_before_everything_was_emptied_may_still_be_taken_out() -> None:
    engine, _ = make_engine()
    (sequence,) = engine.add([1, 2, 3], GREEDY)
    engine.step()
    fresh = engine.scheduler.emptied()
    fresh.finish(sequence)
    fresh.check_integrity()
