"""Nobody is frozen by somebody else's long prompt, many requests or low number."""

from __future__ import annotations

from typing import Any

import pytest

from engine.fakes import drain, make_engine
from miaotui.core import SamplingParams
from miaotui.engine.engine import Engine
from miaotui.engine.scheduler import QUANTUM_TOKENS
from miaotui.engine.sequence import Sequence
from miaotui.engine.step_budget import (
    CROWDED_S,
    CROWDED_SLOWDOWN,
    LEAST_TOKENS,
    SLOWDOWN,
    STEPS_BETWEEN_LOOKS,
    StepBudget,
)

TALK = SamplingParams(temperature=0.0, ignore_eos=True, max_tokens=16)
READ = SamplingParams(temperature=0.0, max_tokens=1)


def finished_order(names: dict[int, str], updates: list) -> list[str]:  # type: ignore[type-arg]
    return [names[s.request.id] for s, part in updates if part.finish_reason is not None]


def test_a_tenant_with_many_requests_does_not_hold_up_one_with_few() -> None:
    engine, _ = make_engine(max_sequences=1, max_tokens=16)
    names = {engine.add([k] * 20, READ, tenant="many")[0].request.id: "many" for k in range(6)}
    for k in range(2):
        names[engine.add([40 + k] * 20, READ, tenant="few")[0].request.id] = "few"
    assert finished_order(names, drain(engine))[:4] == ["many", "few", "many", "few"]


def test_a_tenant_who_comes_late_has_saved_nothing_up() -> None:
    engine, _ = make_engine(max_sequences=1, max_tokens=16)
    names = {engine.add([k] * 20, READ, tenant="early")[0].request.id: "early" for k in range(8)}
    for _ in range(8):
        engine.step()
    for k in range(4):
        names[engine.add([40 + k] * 20, READ, tenant="late")[0].request.id] = "late"
    order = finished_order(names, drain(engine))
    assert order[:4].count("late") <= 2


def test_urgent_requests_go_first_whoever_asks() -> None:
    engine, _ = make_engine(max_sequences=1, max_tokens=16)
    names = {engine.add([1] * 20, READ)[0].request.id: "first"}
    names[engine.add([2] * 20, READ)[0].request.id] = "second"
    names[engine.add([3] * 20, READ, priority=-5)[0].request.id] = "urgent"
    assert finished_order(names, drain(engine)) == ["urgent", "first", "second"]


def test_a_short_prompt_is_not_behind_a_long_one() -> None:
    engine, _ = make_engine(max_tokens=16, context=512)
    (long,) = engine.add([1] * 300, READ)
    engine.step()
    (short,) = engine.add([2] * 20, READ)
    for _ in range(4):
        engine.step()
    assert short.finish_reason == "length"
    assert long.finish_reason is None


def test_a_prompt_that_is_a_little_longer_than_those_that_keep_coming_is_read_all_the_same() -> None:
    engine, _ = make_engine(max_sequences=8, max_tokens=16, context=512)
    (longer,) = engine.add([1] * 60, READ)
    others = [engine.add([2 + k] * 50, READ)[0] for k in range(6)]
    for _ in range(60):
        engine.step()
        while sum(one.finish_reason is None for one in others) < 6:
            others.append(engine.add([10 + len(others) % 40] * 50, READ)[0])
        if longer.finish_reason is not None:
            break
    num_before = sum(one.finish_reason is not None for one in others)
    assert longer.finish_reason == "length", f"{num_before} others were read before it"
    assert num_before <= 7, "the six that were there, and no more than one that came later"


def test_what_short_prompts_leave_of_a_step_long_ones_take() -> None:
    engine, program = make_engine(max_tokens=32, context=512)
    engine.add([1] * 300, READ)
    engine.add([2] * 4, READ)
    engine.step()
    assert program.runs[0]["tokens"] == 32


def learned(num_running: int, alone_s: float, per_token_s: float) -> StepBudget:
    """What is left of a budget after some steps with prompts, as a busy server makes them."""
    budget = StepBudget(512)
    for _ in range(STEPS_BETWEEN_LOOKS // 2):
        tokens = budget.prompt_tokens(num_running)
        budget.observe(num_running, tokens, alone_s + tokens * per_token_s)
    return budget


def test_prompts_slow_running_answers_down_by_no_more_than_agreed() -> None:
    alone_s, per_token_s = 4e-3, 1e-4
    budget = learned(3, alone_s, per_token_s)
    tokens = budget.prompt_tokens(3, 1)
    assert LEAST_TOKENS < tokens < 512
    assert alone_s + tokens * per_token_s <= SLOWDOWN * alone_s * 1.01
    assert tokens >= (SLOWDOWN - 1) * alone_s / per_token_s * 0.9


def test_where_several_wait_steps_are_longer_but_bounded() -> None:
    least_s, most_s = CROWDED_S
    quick, middling, slow = learned(3, 4e-3, 1e-4), learned(3, 20e-3, 1e-3), learned(3, 100e-3, 2e-3)
    assert 4e-3 + quick.prompt_tokens(3, 2) * 1e-4 == pytest.approx(least_s, rel=0.05)
    assert 20e-3 + middling.prompt_tokens(3, 2) * 1e-3 == pytest.approx(CROWDED_SLOWDOWN * 20e-3, rel=0.05)
    assert 100e-3 + slow.prompt_tokens(3, 20) * 2e-3 == pytest.approx(most_s, rel=0.05)


def test_one_long_prompt_is_no_crowd() -> None:
    budget = learned(3, 4e-3, 1e-4)
    assert budget.prompt_tokens(3, 1) < budget.prompt_tokens(3, 2)
    assert budget.prompt_tokens(3, 1) == budget.prompt_tokens(3, 0)


def test_what_a_step_takes_without_prompts_is_learned_under_steady_load_too() -> None:
    budget = learned(3, 4e-3, 1e-4)
    before = budget.prompt_tokens(3, 1)
    for _ in range(30 * STEPS_BETWEEN_LOOKS):  # answers have become longer, and steps with them
        tokens = budget.prompt_tokens(3, 1)
        budget.observe(3, tokens, 8e-3 + tokens * 1e-4)
    after = [budget.prompt_tokens(3, 1) for _ in range(2)]
    assert max(after) == pytest.approx(2 * before, rel=0.1)


def test_without_running_answers_prompts_have_the_whole_step() -> None:
    budget = StepBudget(512)
    assert budget.prompt_tokens(0) == 512
    budget.observe(1, 0, 1e-6)
    budget.observe(1, 8, 1.0)
    assert [budget.prompt_tokens(1) for _ in range(3)] == [0, LEAST_TOKENS, LEAST_TOKENS]
    assert budget.prompt_tokens(0) == 512


def test_a_long_prompt_beside_an_answer_still_ends() -> None:
    engine, _ = make_engine(context=256)
    engine.scheduler.budget.observe(1, 0, 1e-6)
    engine.scheduler.budget.observe(1, 8, 10.0)
    engine.add([1], TALK.changed(max_tokens=200))
    engine.add([2] * 200, READ)
    drain(engine)


def test_equal_prompts_are_answered_one_after_the_other_not_all_at_the_end() -> None:
    engine, _ = make_engine(num_blocks=64, max_tokens=16)
    prompts = [engine.add([number + 1] * 32, SamplingParams(temperature=0.0, max_tokens=1))[0] for number in range(4)]
    ended: list[int] = []
    steps = 0
    while engine.scheduler.has_work:
        steps += 1
        ended += [steps for sequence, part in engine.step() if part.finish_reason is not None]
    assert len(ended) == len(prompts)
    assert steps == 8  # 128 tokens, 16 a step
    assert ended[0] <= 3
    assert ended[1] <= 5
    assert sum(ended) / 4 <= 6  # in equal shares, all would end in the last two steps


def test_a_long_prompt_gets_on_while_short_ones_keep_coming() -> None:
    engine, _ = make_engine(num_blocks=64, max_tokens=16)
    long = engine.add([1] * 200, SamplingParams(temperature=0.0, max_tokens=1))[0]
    steps = 0
    while long.finish_reason is None:
        steps += 1
        assert steps < 80
        engine.add([2 + steps % 50] * 12, SamplingParams(temperature=0.0, max_tokens=1))
        engine.step()


LONG = SamplingParams(temperature=0.0, ignore_eos=True, max_tokens=400)


def crowded(num_requests: int = 8, tenant: str = "many", **options: int) -> tuple[Engine, list[Sequence]]:
    """An engine with four places, all of which one tenant has had for a while; more of its requests wait."""
    engine, _ = make_engine(num_blocks=256, max_sequences=4, context=512, **options)
    greedy = [engine.add([number] * 20, LONG, tenant=tenant)[0] for number in range(num_requests)]
    for _ in range(QUANTUM_TOKENS + 4):
        engine.step()
    assert [len(engine.scheduler.running), engine.scheduler.num_preemptions] == [4, 0]
    return engine, greedy


def steps_until(engine: Engine, sequence: Sequence) -> int:
    steps = 0
    while sequence.finish_reason is None and steps < 100:
        steps += 1
        engine.step()
        engine.check_integrity()
    return steps


def said(sequence: Sequence) -> list[int]:
    return sequence.token_ids[sequence.num_prompt_tokens :]


@pytest.mark.parametrize("asked", [{"tenant": "few"}, {"tenant": "many", "priority": -5}, {"priority": -5}])
def test_who_holds_all_places_gives_one_up_for_whose_turn_it_is(asked: dict[str, Any]) -> None:
    engine, greedy = crowded()
    (one,) = engine.add([50] * 20, READ, **asked)
    assert steps_until(engine, one) <= 4
    drain(engine)
    assert engine.scheduler.num_preemptions == 1
    for number, sequence in enumerate(greedy):
        alone, _ = make_engine(num_blocks=256, context=512)
        (want,) = alone.add([number] * 20, LONG)
        drain(alone)
        assert said(sequence) == said(want)


def test_a_place_is_kept_until_some_tokens_have_come_of_it() -> None:
    engine, _ = make_engine(num_blocks=256, max_sequences=4, context=512)
    for number in range(4):
        engine.add([number] * 20, LONG, tenant="many")
    engine.step()
    (one,) = engine.add([50] * 20, READ, tenant="few")
    assert QUANTUM_TOKENS - 20 <= steps_until(engine, one) <= QUANTUM_TOKENS


def test_nobody_gives_a_place_up_within_a_tenant_or_the_last_one_a_tenant_has() -> None:
    engine, _ = crowded()
    engine.add([50] * 20, READ, tenant="many")
    for _ in range(100):
        engine.step()
    assert engine.scheduler.num_preemptions == 0
    engine, _ = make_engine(num_blocks=256, max_sequences=4, context=512)
    for number in range(5):
        engine.add([number] * 20, LONG, tenant=f"tenant {number}")
    for _ in range(QUANTUM_TOKENS + 4):
        engine.step()
    engine.add([6] * 20, LONG, tenant="urgent", priority=-5)
    for _ in range(300):
        engine.step()
    assert engine.scheduler.num_preemptions == 0


def test_two_who_both_want_all_places_share_them_without_coming_and_going_for_nothing() -> None:
    engine, greedy = crowded()
    others = [engine.add([40 + number] * 20, LONG, tenant="others")[0] for number in range(8)]
    updates = drain(engine)
    scheduler, num_tokens = engine.scheduler, sum(len(said(s)) + 20 for s in (*greedy, *others))
    assert 2 <= scheduler.num_preemptions <= num_tokens // QUANTUM_TOKENS
    order = [s.request.tenant for s, part in updates if part.finish_reason is not None]
    assert 3 <= order[:8].count("others") <= 5
    assert all(len(said(sequence)) == 400 for sequence in (*greedy, *others))


def test_what_is_read_again_is_earned_before_a_place_is_given_up_again() -> None:
    """Where pages do not last until a sequence comes back, it must not spend its turns reading."""
    engine, program = make_engine(num_blocks=256, max_sequences=3, context=512)
    engine.scheduler._reuse_prefixes = False
    for number in range(4):
        engine.add([number] * 100, LONG, tenant="many")
        engine.add([40 + number] * 100, LONG, tenant="others")
    needed = 8 * 499  # the last token of each is never read
    # Once, once more at most for what was earned, and once more at most where a sequence ended after reading again.
    while engine.scheduler.has_work and sum(run["tokens"] for run in program.runs) <= 3 * needed:
        engine.step()
    assert not engine.scheduler.has_work
    assert engine.scheduler.num_preemptions > 4
