"""A draft model is asked as far as that pays, in a world whose costs and chances are known."""

from __future__ import annotations

import random
from collections.abc import Sequence as Row
from dataclasses import dataclass, field

import pytest

from adaptive.drafters.small_model import text_of
from miaotui.adaptive import AdaptiveDrafter
from miaotui.adaptive.best_size import BESIDE_OTHERS
from miaotui.adaptive.drafters.candidate import Candidate, Moment
from miaotui.adaptive.drafters.hopes import Hopes
from miaotui.adaptive.drafters.model import Guess
from miaotui.adaptive.drafters.run_cost import RunCost
from miaotui.adaptive.drafters.whom import who_goes_on, whom_to_ask
from miaotui.adaptive.model_drafting import LEAST_READ, READ_S, SHORT_WINDOW, WINDOW, ModelDrafting
from miaotui.adaptive.shares import Shares
from miaotui.adaptive.step_cost import SIZES
from miaotui.engine.sequence import Sequence

SURE, UNSURE = 0.97, 0.2
RATIOS = [1.0, 1.2, 1.4, 1.6, 1.8, 2.2, 2.6, 3.4, 4.2]


def words(count: int) -> list[int]:
    """So many tokens of a prompt."""
    return [100 + at % 150 for at in range(count)]


def next_token(sequence: Sequence, at: int) -> int:
    """What a sequence says at a position: never the same twice, so that nothing is found by looking it up."""
    return hash((sequence.request.prompt_token_ids[0], at)) % 10**9


@dataclass
class Small:
    """Stands for a `DraftModel` that guesses rightly with a known chance, tells so, and takes known times.

    share: of the tokens that it is sure of.
    """

    run_s: float
    token_s: float
    share: float
    dice: random.Random = field(default_factory=lambda: random.Random(3))
    now_s: float = 0.0
    num_read: dict[Sequence, int] = field(default_factory=dict)
    num_guessed: dict[Sequence, int] = field(default_factory=dict)
    longest_s: float = 0.0
    windows: list[int] = field(default_factory=list)

    def begin_step(self) -> None:
        self.num_guessed.clear()

    def follow(self, sequence: Sequence, window: int) -> int:
        known = self.num_read.setdefault(sequence, 0)
        if len(sequence.token_ids) - known > window:
            self.windows.append(window)
            self.num_read[sequence] = len(sequence.token_ids) - window
        return len(sequence.token_ids) - self.num_read[sequence]

    def read(self, sequences: Row[Sequence], most: int) -> list[int]:
        counts = []
        for sequence in sequences:
            count = min(most - sum(counts), len(sequence.token_ids) - self.num_read[sequence] - 1)
            self.num_read[sequence] += count
            counts.append(count)
        if sum(counts):
            self._pass(sum(counts))
        return counts

    def guess(self, sequences: Row[Sequence]) -> list[Guess | None]:
        found: list[Guess | None] = []
        self._pass(len(sequences))
        for sequence in sequences:
            self.num_read[sequence] = len(sequence.token_ids)
            ahead = self.num_guessed.get(sequence, 0)
            self.num_guessed[sequence] = ahead + 1
            chance = SURE if self.dice.random() < self.share else UNSURE
            token = next_token(sequence, len(sequence.token_ids) + ahead)
            found.append(Guess(token if self.dice.random() < chance else -1, chance))
        return found

    def forget(self, sequence: Sequence) -> None:
        self.num_read.pop(sequence, None)

    def _pass(self, num_tokens: int) -> None:
        seconds = self.run_s + self.token_s * num_tokens
        self.now_s += seconds
        self.longest_s = max(self.longest_s, seconds)


@dataclass
class World:
    """A large model whose step takes a second, and more for each drafted token; and a small one beside it."""

    small: Small
    row_s: float = 0.2
    num_answers: int = 1
    prompt: int = 20
    drafter: AdaptiveDrafter = field(default_factory=AdaptiveDrafter)
    longest_s: float = 0.0

    def __post_init__(self) -> None:
        share = self.small.run_s + self.small.token_s
        self.model = ModelDrafting(self.small, share, clock=lambda: self.small.now_s)  # type: ignore[arg-type]
        self.drafter.model = self.model
        self.sequences = [text_of([number + 1, *words(self.prompt - 1)]) for number in range(self.num_answers)]

    def run(self, steps: int) -> float:
        """Tokens per second of each answer; without drafts it is 1."""
        begin_s, begin, others_s = self.small.now_s, self.num_tokens, 0.0
        for _ in range(steps):
            before_s = self.small.now_s
            drafts = self.drafter.draft(self.sequences, 48)
            count = sum(map(len, drafts.values()))
            took_s = 1 + self.row_s * count
            self.drafter.observe(self.num_answers, count, took_s)
            others_s += took_s
            self.longest_s = max(self.longest_s, self.small.now_s - before_s + took_s)
            for sequence in self.sequences:
                self.go_on(sequence, drafts.get(sequence, ()))
        return (self.num_tokens - begin) / self.num_answers / (others_s + self.small.now_s - begin_s)

    def go_on(self, sequence: Sequence, draft: Row[int]) -> None:
        num_right = 0
        for token in draft:
            if token != next_token(sequence, len(sequence.token_ids)):
                break
            sequence.token_ids.append(token)
            num_right += 1
        if draft:
            self.drafter.judge(sequence, min(num_right + 1, len(draft)), num_right)
        sequence.token_ids.append(next_token(sequence, len(sequence.token_ids)))

    @property
    def num_tokens(self) -> int:
        return sum(len(sequence.token_ids) for sequence in self.sequences)


def test_a_cheap_model_that_is_right_speeds_answers_up() -> None:
    world = World(Small(0.05, 0.01, share=0.95))
    world.run(200)
    assert world.run(1500) > 2.0


@pytest.mark.parametrize(
    ("run_s", "share", "row_s"), [(0.45, 0.3, 0.25), (0.45, 0.6, 0.5), (0.9, 0.95, 0.3), (0.3, 0.0, 0.2)]
)
def test_one_that_does_not_pay_costs_a_fiftieth_at_most_and_is_asked_ever_more_seldom(
    run_s: float, share: float, row_s: float
) -> None:
    world = World(Small(run_s, 0.02, share), row_s)
    assert world.run(5_000) >= 0.98
    early = world.model.told.num_asked
    assert world.run(10_000) >= 0.99
    assert world.model.told.num_asked - early < early


def test_one_that_just_pays_is_not_given_up() -> None:
    world = World(Small(0.3, 0.01, share=0.8), row_s=0.15)
    world.run(1_000)
    assert world.run(10_000) > 1.05


def test_where_the_text_repeats_itself_nobody_is_asked() -> None:
    world = World(Small(0.05, 0.01, share=0.9))
    (sequence,) = world.sequences
    sequence.token_ids[:] = list(range(1, 11)) * 30
    world.go_on = lambda one, draft: goes_round(world, one, draft)  # type: ignore[method-assign]
    world.run(300)
    before = world.model.told.num_asked
    world.run(300)
    assert world.model.told.num_asked - before < 25


def goes_round(world: World, sequence: Sequence, draft: Row[int]) -> None:
    num_right = 0
    for token in draft:
        if token != sequence.token_ids[-1] % 10 + 1:
            break
        sequence.token_ids.append(token)
        num_right += 1
    if draft:
        world.drafter.judge(sequence, min(num_right + 1, len(draft)), num_right)
    sequence.token_ids.append(sequence.token_ids[-1] % 10 + 1)


def test_several_answers_are_guessed_for_together_and_nobody_waits_long() -> None:
    world = World(Small(0.05, 0.005, share=0.95), row_s=0.04, num_answers=6)
    world.run(200)
    world.longest_s = 0.0
    assert world.run(800) > 1.15
    assert world.longest_s <= BESIDE_OTHERS + 0.35  # costs are known no better


def test_a_long_prompt_is_read_in_short_parts_and_its_end_only_before_anything_was_gained() -> None:
    world = World(Small(0.005, 0.001, share=0.95), prompt=3_000)
    world.run(2)
    assert set(world.small.windows) == {SHORT_WINDOW}
    world.run(300)
    assert world.model.account.is_proven
    world.small.longest_s = 0.0
    world.sequences[:] = [text_of([7, *words(2_900)])]
    world.run(100)
    assert max(world.small.windows) == WINDOW
    assert world.small.longest_s <= max(READ_S, 0.005 + 0.001 * LEAST_READ) * 1.2


def test_nothing_is_read_for_an_answer_that_soon_ends() -> None:
    world = World(Small(0.2, 0.05, share=0.95))
    world.run(400)
    before = world.model.told.num_read
    world.sequences[:] = [text_of([7, *words(500)], max_tokens=6)]
    world.run(3)
    assert world.model.told.num_read == before


def test_those_that_want_no_drafts_are_not_read() -> None:
    world = World(Small(0.05, 0.01, share=0.95))
    world.sequences[0].may_draft = False
    world.run(100)
    assert world.model.told.num_asked == world.model.told.num_read == 0
    assert not world.small.num_read


def test_an_answer_that_ended_is_forgotten_and_what_reading_it_cost_is_told() -> None:
    world = World(Small(0.05, 0.01, share=0.95), prompt=40)
    world.run(3)
    assert world.model.told.num_read > 0
    (sequence,) = world.sequences
    balance = world.model.account.balance
    sequence.finish_reason = "cancelled"
    world.drafter.ended(sequence)
    assert world.model.account.balance < balance
    assert not world.small.num_read


def candidate(chances: list[float], **more: object) -> Candidate:
    one = Candidate(text_of([1, 2, 3]), Shares(), 20, **more)  # type: ignore[arg-type]
    one.tokens, one.chances = [5] * len(chances), chances
    return one


@pytest.mark.parametrize(("chance", "goes_on"), [(0.95, True), (0.25, False)])
def test_guessing_ends_where_the_model_is_unsure(chance: float, goes_on: bool) -> None:
    cost, moment, one = RunCost(0.2), Moment(1, 1.0, RATIOS, 48), candidate([chance])
    assert (who_goes_on([one], [one], moment, Hopes(), cost, 0.2) == [one]) == goes_on


def test_in_company_only_the_sure_ones_go_on() -> None:
    cost, moment = RunCost(0.02), Moment(2, 1.0, [1 + 0.1 * size for size in SIZES[:9]], 48)
    sure, unsure = candidate([0.95]), candidate([0.2])
    assert who_goes_on([sure, unsure], [sure, unsure], moment, Hopes(), cost, 0.1) == [sure]


def test_what_is_offered_for_nothing_goes_first_where_it_promises_as_much() -> None:
    cost, moment = RunCost(0.05), Moment(1, 1.0, RATIOS, 48)
    assert whom_to_ask([one := candidate([])], [one], moment, Hopes(), cost)[0] == [one]
    rich = candidate([], free=[0.95**at for at in range(1, 20)])
    assert whom_to_ask([rich], [rich], moment, Hopes(), cost)[0] == []


def test_a_dear_model_is_not_asked() -> None:
    moment, one = Moment(1, 1.0, RATIOS, 48), candidate([])
    assert whom_to_ask([one], [one], moment, Hopes(), RunCost(0.8))[0] == []


def test_what_a_plain_step_takes_is_learned_where_the_small_model_did_not_disturb_it() -> None:
    world = World(Small(0.05, 0.01, share=0.5), row_s=0.1)
    seen: list[tuple[int, bool]] = []
    observe = world.drafter.costs.observe

    def noted(num_answers: int, num_drafted: int, seconds: float) -> None:
        seen.append((num_drafted, world.model.left_alone))
        observe(num_answers, num_drafted, seconds)

    world.drafter.costs.observe = noted  # type: ignore[method-assign]
    world.run(400)
    assert sum(num_drafted > 0 and not alone for num_drafted, alone in seen) > 100
    plain = [alone for num_drafted, alone in seen if num_drafted == 0]
    assert len(plain) >= 2 * 400 // 48
    assert all(plain)
