"""As many tokens are drafted as pay, by what steps cost and how often drafts are right."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace

import pytest

from adaptive.test_drafts_from_past import Free
from engine.fakes import GREEDY, drain, make_engine
from miaotui.adaptive import AdaptiveDrafter, adaptive_drafter
from miaotui.adaptive.adaptive_drafter import BESIDE_OTHERS, FIRST_ALLOWANCE
from miaotui.adaptive.drafters.lookup import PromptLookup
from miaotui.adaptive.step_cost import SIZES, StepCost
from miaotui.engine.sequence import Sequence

REPEATING = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] * 12
LONG = 10**9


def sequence_of(token_ids: list[int], max_tokens: int = LONG) -> Sequence:
    (sequence,) = make_engine()[0].add(token_ids, replace(GREEDY, max_tokens=20))
    sequence.max_tokens = max_tokens
    return sequence


def goes_on(sequence: Sequence, num_tokens: int) -> None:
    """It says what comes next in REPEATING, so many tokens."""
    for _ in range(num_tokens):
        sequence.token_ids.append(sequence.token_ids[-1] % 10 + 1)


def surprises(sequence: Sequence) -> None:
    """It says a token that it said before, and then always something new."""
    at = len(sequence.token_ids) % 2
    sequence.token_ids.append((1, 1000 + len(sequence.token_ids))[at])


def told(
    cost: Callable[[int, int], float], *, steps: int = 400, num_answers: int = 1, is_right: bool = True
) -> list[int]:
    """How many tokens are drafted at each step, where that with n of them costs cost(step, n)."""
    drafter, sequences = AdaptiveDrafter(), [sequence_of(REPEATING) for _ in range(num_answers)]
    counts = []
    for step in range(steps):
        drafts = drafter.draft(sequences, 56)
        count = sum(map(len, drafts.values()))
        drafter.observe(num_answers, count, cost(step, count))
        for sequence in sequences:
            if is_right:
                goes_on(sequence, 1 + len(drafts.get(sequence, ())))
            else:
                surprises(sequence)
        counts.append(count)
    return counts


def usual(counts: list[int]) -> int:
    return sorted(counts[-100:])[50]


def test_cheap_tokens_that_come_are_drafted_as_far_as_allowed() -> None:
    counts = told(lambda step, n: 1 + 0.02 * n)
    assert usual(counts) == SIZES[-1]
    assert 0 in counts[-100:]  # now and then it looks what none would take


def test_tokens_as_dear_as_a_step_are_tried_within_an_allowance() -> None:
    counts = told(lambda step, n: 1.0 + 1.1 * n, steps=1000)
    assert usual(counts) == 0
    assert any(counts[-400:])
    spent = sum(1.1 * count for count in counts[200:])
    assert spent / len(counts[200:]) < 0.015


def test_wrong_drafts_end_soon_and_cost_little() -> None:
    counts = told(lambda step, n: 1.0 + 0.1 * n, is_right=False, steps=600)
    assert sum(count > 0 for count in counts[:50]) < 15
    assert sum(0.1 * count for count in counts[100:]) / len(counts[100:]) < 0.02


def test_a_few_are_drafted_where_further_ones_are_dear() -> None:
    assert usual(told(lambda step, n: 1.0 + (0.02 * n if n <= 4 else 1.5 * n), steps=2000)) == 4


@pytest.mark.parametrize("unlucky", [0, 1, 2, 5])
def test_one_step_that_was_disturbed_decides_nothing(unlucky: int) -> None:
    counts = told(lambda step, n: (1 + 0.02 * n) * (10.0 if step == unlucky else 1.0), steps=1500)
    assert usual(counts) == SIZES[-1]
    counts = told(lambda step, n: (1 + 1.1 * n) * (10.0 if step == unlucky else 1.0), steps=3000)
    assert usual(counts) == 0


@pytest.mark.parametrize("num_answers", [1, 3])
def test_steps_that_are_disturbed_again_and_again_make_no_size_dearer_that_nobody_sees(num_answers: int) -> None:
    costs = StepCost()
    for count in (0, 4, 0, 4, 0, 4, 0, 4):
        costs.observe(num_answers, count, 1 + 0.1 * count)
    assert costs.ratios(num_answers)[SIZES.index(4)] == pytest.approx(1.4)
    for step in range(1000):
        costs.observe(num_answers, 0, 1.8 if step % 10 == 0 else 1.0)
    assert costs.ratios(num_answers)[SIZES.index(4)] == pytest.approx(1.4, rel=0.02)
    for _ in range(30):  # as the machine has become slower
        costs.observe(num_answers, 0, 2.5)
    costs.observe(num_answers, 4, 2.5 * 1.4)
    assert costs.ratios(num_answers)[SIZES.index(4)] == pytest.approx(1.4, rel=0.02)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_machine_that_changes_its_speed_is_followed(factor: float) -> None:
    def cost(step: int, count: int) -> float:
        return (1 + 0.05 * count) * (factor if step >= 500 else 1.0)

    counts = told(cost, steps=1000)
    assert usual(counts[:500]) == SIZES[-1]
    assert usual(counts) >= SIZES[-2]  # 13 % below the best, which was seen while the speed changed


def test_others_do_not_wait_long_for_somebodys_drafts() -> None:
    def cost(step: int, count: int) -> float:
        return 1 + 0.125 * count

    assert usual(told(cost)) == SIZES[-1]
    counts = told(cost, num_answers=2)
    assert cost(0, usual(counts)) <= BESIDE_OTHERS + 0.1
    assert usual(counts) > 0


def test_those_likeliest_to_come_go_first() -> None:
    drafter = AdaptiveDrafter()
    sure, doubtful = sequence_of(REPEATING), sequence_of([1, 2, 3, 4, 1, 2])
    for _ in range(60):
        drafter.observe(2, 0, 1.0)
        drafter.observe(2, 4, 1.05)
    drafts = drafter.draft([doubtful, sure], 4)
    assert {sequence: len(draft) for sequence, draft in drafts.items()} == {sure: 4}


def test_no_more_is_drafted_than_may_be_said() -> None:
    drafter = AdaptiveDrafter()
    sequence = sequence_of(REPEATING, max_tokens=4)
    for _ in range(60):
        drafter.observe(1, 0, 1.0)
        drafter.observe(1, 4, 1.05)
    assert len(drafter.draft([sequence], 16)[sequence]) == 3
    assert drafter.draft([sequence_of(REPEATING, max_tokens=1)], 16) == {}
    assert drafter.draft([sequence], 0) == {}


def test_sequences_that_have_ended_are_forgotten() -> None:
    engine, _ = make_engine()
    engine.scheduler.drafter = drafter = AdaptiveDrafter()
    held = []
    for start in range(30):
        held += engine.add([start, start + 1] * 8, GREEDY)
        drain(engine)
    gc.collect()
    assert len(drafter._states) == 0


def test_costs_of_sizes_not_seen_follow_the_next_smaller_one() -> None:
    costs = StepCost()
    assert costs.ratios(1) == []
    for _ in range(50):
        for count, seconds in ((0, 2.0), (4, 2.4), (8, 4.0)):
            costs.observe(1, count, seconds)
    known = dict(zip(SIZES, costs.ratios(1), strict=False))
    assert (known[4], known[8]) == pytest.approx((1.2, 2.0), rel=0.02)
    assert known[1] == pytest.approx(1.1)
    assert known[6] == pytest.approx(known[4] + 2 * 0.05, rel=0.02)
    assert costs.least_seen(1, 3, 9.0) in (1, 2, 3)
    assert costs.least_seen(1, 16, 1.15) in (1, 2)
    assert costs.least_seen(1, 16, 1.0) == 0
    assert costs.ratios(8) == []


def test_sizes_far_above_those_that_were_seen_are_not_tried_yet() -> None:
    costs = StepCost()
    for count, largest in ((0, 2), (1, 3), (8, 16), (2, 16)):
        costs.observe(1, count, 1.0)
        assert SIZES[len(costs.ratios(1)) - 1] == largest
        assert costs.least_seen(1, 48, 9.0) <= largest
    drafter = AdaptiveDrafter()
    drafter.observe(1, 0, 1.0)
    assert len(next(iter(drafter.draft([sequence_of(REPEATING)], 48).values()))) <= 2


def test_what_a_step_of_as_many_rows_cost_counts_for_any_number_of_answers() -> None:
    costs = StepCost()
    for _ in range(5):
        costs.observe(1, 0, 1.0)
        costs.observe(1, 8, 5.0)
        costs.observe(3, 0, 2.0)
    known = dict(zip(SIZES, costs.ratios(3), strict=False))
    assert known[6] == pytest.approx(2.5, rel=0.01)
    assert known[8] > known[6]
    assert costs.least_seen(3, 16, 1.05) == 1  # what nobody saw may still be cheap
    assert costs.least_seen(3, 16, 2.4) != 6
    assert costs.ratio(3, 3.0) == pytest.approx(1.5, rel=0.01)
    assert costs.ratio(2, 3.0) == 1.0


def test_a_trial_is_charged_what_it_took() -> None:
    drafter, sequences = AdaptiveDrafter(), [sequence_of(REPEATING) for _ in range(3)]
    allowance = []
    for _ in range(12):
        count = sum(map(len, drafter.draft(sequences, 24).values()))
        drafter.observe(3, count, 1.0 + 0.5 * count)
        for sequence in sequences:
            if count:
                drafter.judge(sequence, 1, 0)
        allowance.append(drafter._allowance)
    assert min(allowance) < FIRST_ALLOWANCE - 0.5


def test_texts_that_are_looked_up_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who begins when there is no room has no drafts from its own text; who begins later may."""
    sequences = [sequence_of(REPEATING, max_tokens=200) for _ in range(4)]
    one_bytes = PromptLookup().most_bytes(len(REPEATING) + 199)
    monkeypatch.setattr(adaptive_drafter, "LOOKUP_BYTES", 2 * one_bytes)
    drafter = AdaptiveDrafter()
    drafter.costs = Free()

    def drafted(some: list[Sequence]) -> set[Sequence]:
        found: set[Sequence] = set()
        for _ in range(50):
            found |= set(drafter.draft(some, 56))
            drafter.observe(len(some), 0, 1.0)
        return found

    assert drafted(sequences[:3]) == set(sequences[:2])
    drafter.ended(sequences[0])
    assert drafted(sequences[1:]) == {sequences[1], sequences[3]}
    lookup = PromptLookup()
    for end in range(1000, 60_000, 1000):
        lookup.read(list(range(end)))
        assert lookup._automaton.nbytes <= PromptLookup().most_bytes(10**9) < 5 << 20
