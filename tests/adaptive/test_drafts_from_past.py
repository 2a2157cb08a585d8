"""Answers are the same whatever past ones they are drafted from, and only whole ones are kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.fakes import GREEDY, drain, make_engine
from miaotui import LLM, SamplingParams
from miaotui.adaptive import AdaptiveDrafter, PastAnswers
from miaotui.adaptive.drafters.past import CONTEXT
from miaotui.adaptive.step_cost import StepCost
from miaotui.engine.engine import Engine
from miaotui.engine.results import Completion
from miaotui.engine.sequence import Sequence

MIB = 1 << 20
LONG = replace(GREEDY, max_tokens=60, ignore_eos=True)
PROMPT = list(range(30))


class Free(StepCost):
    """Whatever a step took, it is taken to have taken as long as any other."""

    def observe(self, num_answers: int, num_drafted: int, seconds: float) -> None:
        super().observe(num_answers, num_drafted, 1.0)


def eager_drafter() -> AdaptiveDrafter:
    drafter = AdaptiveDrafter(PastAnswers(MIB))
    drafter.costs = Free()
    return drafter


def drafting_engine() -> tuple[Engine, PastAnswers]:
    engine, _ = make_engine(max_tokens=64, max_logit_rows=64)
    engine.scheduler.drafter = drafter = eager_drafter()
    assert drafter.past is not None
    return engine, drafter.past


def answered(engine: Engine, prompt: list[int], params: SamplingParams = LONG, tenant: str = "") -> Sequence:
    (sequence,) = engine.add(prompt, params, tenant=tenant)
    drain(engine)
    return sequence


def test_a_repeated_request_is_drafted_from_its_last_answer() -> None:
    engine, _ = drafting_engine()
    first, second = answered(engine, PROMPT), answered(engine, PROMPT)
    assert second.token_ids == first.token_ids
    assert first.num_accepted_tokens == 0  # the fake model's answers are noise
    assert second.num_accepted_tokens >= 40


def test_other_tenants_answers_are_no_drafts() -> None:
    engine, _ = drafting_engine()
    answered(engine, PROMPT, tenant="a")
    other = answered(engine, PROMPT, tenant="b")
    assert other.num_accepted_tokens == 0
    assert answered(engine, PROMPT, tenant="b").num_accepted_tokens >= 40


def test_what_was_cancelled_or_failed_or_not_to_be_kept_is_not_kept() -> None:
    engine, past = drafting_engine()
    sequences = [*engine.add(PROMPT, LONG, keep=False), *engine.add(PROMPT[1:], LONG)]
    for _ in range(5):
        engine.step()
    engine.cancel(sequences[1:])
    drain(engine)
    assert sequences[1].finish_reason == "cancelled"
    assert sequences[0].finish_reason == "length"
    answered(engine, PROMPT, replace(LONG, max_tokens=0))
    assert past.nbytes == 0
    answered(engine, PROMPT)
    assert past.find("", PROMPT, 1)[0] == min(len(PROMPT), CONTEXT)


def test_a_failed_answer_is_not_kept() -> None:
    engine, past = drafting_engine()
    (sequence,) = engine.add(PROMPT, LONG)
    for _ in range(3):
        engine.step()
    sequence.fail("for a test", 0.0)
    assert engine.scheduler.drafter is not None
    engine.scheduler.drafter.ended(sequence)
    assert past.nbytes == 0


def test_a_request_may_ask_for_no_drafts() -> None:
    engine, _ = drafting_engine()
    first, second = answered(engine, PROMPT), answered(engine, PROMPT, replace(LONG, drafting=False))
    assert second.token_ids == first.token_ids
    assert second.num_drafted_tokens == 0


def said(llm: LLM, params: SamplingParams) -> list[Completion]:
    texts = ["the cat and the dog in the house", "the house " * 20, "the cat and the hog in the house"]
    return [done for _ in range(3) for done in (*llm.generate(texts, params), llm.generate(texts[0], params))]


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=0, max_tokens=80, ignore_eos=True, logprobs=1),
        SamplingParams(temperature=1, seed=1, max_tokens=80, ignore_eos=True),
        SamplingParams(temperature=0.8, seed=2, max_tokens=80, frequency_penalty=0.5, n=2),
    ],
    ids=["greedy", "sampled", "penalties"],
)
def test_drafts_from_past_answers_change_nothing(tiny_model: Path, params: SamplingParams) -> None:
    with LLM(tiny_model) as llm:
        plain = said(llm, params)
    with LLM(tiny_model, drafter=eager_drafter()) as llm:
        drafted = said(llm, params)

    def facts(done: Completion) -> object:
        return done.text, done.token_ids, done.logprobs, done.finish_reason, [facts(one) for one in done.others]

    assert [facts(done) for done in drafted] == [facts(done) for done in plain]
    assert sum(done.receipt.accepted_tokens for done in drafted) > 0
