"""Nothing is read twice that still lies in the pages; sharing, eviction and preemption never change an answer."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from engine.fakes import EOS, GREEDY, drain, greedy_tokens, ignore_time, make_engine
from miaotui.core import SamplingParams
from miaotui.engine.block_pool import BlockPool
from miaotui.engine.engine import Engine
from miaotui.engine.pages import BLOCK_TOKENS
from miaotui.engine.prefix_tree import PrefixTree, extend_keys, root_key
from miaotui.engine.scheduler import Scheduler
from miaotui.engine.sequence import Sequence

PROMPT = [i % 60 for i in range(70)]


def ask(engine: Engine, prompt: list[int], **options: Any) -> Sequence:
    (sequence,) = engine.add(prompt, GREEDY, **options)
    drain(engine)
    return sequence


def test_a_repeated_prompt_reads_only_what_is_not_in_full_pages() -> None:
    engine, program = make_engine(max_tokens=128)
    first = ask(engine, PROMPT)
    before = len(program.runs)
    again = ask(engine, PROMPT)
    assert program.runs[before]["tokens"] == 70 - 64
    assert (first.receipt().cached_tokens, again.receipt().cached_tokens) == (0, 64)
    assert "first 64" in again.receipt().why
    assert "every token" in first.receipt().why
    assert again.token_ids == first.token_ids == PROMPT + greedy_tokens(PROMPT, 20)


def test_a_prompt_of_full_pages_still_reads_its_last_token() -> None:
    engine, _ = make_engine()
    ask(engine, PROMPT[:64])
    assert ask(engine, PROMPT[:64]).receipt().cached_tokens == 48


def test_the_next_turn_of_a_conversation_finds_the_answer_before() -> None:
    engine, _ = make_engine()
    first = ask(engine, PROMPT[:40])
    longer = [*first.token_ids, 1, 2, 3]
    computed = len(first.token_ids) - 1  # the last token was never read
    assert ask(engine, longer).receipt().cached_tokens == computed // BLOCK_TOKENS * BLOCK_TOKENS


def test_tenants_never_find_each_others_prefixes() -> None:
    engine, _ = make_engine()
    ask(engine, PROMPT, tenant="a")
    assert ask(engine, PROMPT, tenant="b").receipt().cached_tokens == 0
    assert ask(engine, PROMPT).receipt().cached_tokens == 0
    assert ask(engine, PROMPT, tenant="a").receipt().cached_tokens == 64


def test_scored_positions_are_always_computed() -> None:
    engine, _ = make_engine()
    params = SamplingParams(max_tokens=0, prompt_logprobs=0)
    scores = []
    for _ in range(2):
        (sequence,) = engine.add(PROMPT, params, first_scored=40)
        drain(engine)
        scores.append(sequence.completion().prompt_logprobs)
    assert scores[0] == scores[1]
    assert sequence.receipt().cached_tokens == 32


def test_the_longest_unused_prefix_makes_room_from_its_end() -> None:
    engine, _ = make_engine(num_blocks=12)
    short = SamplingParams(temperature=0.0, max_tokens=1)
    prompts = [[k] * 64 for k in range(3)]  # four pages each
    for prompt in prompts:
        engine.add(prompt, short)
        drain(engine)
    engine.add([9] * 32, short)  # two pages: the last ones of the oldest prompt
    drain(engine)
    cached = []
    for prompt in (prompts[0], prompts[2]):
        (sequence,) = engine.add([*prompt, 5], short)
        drain(engine)
        cached.append(sequence.receipt().cached_tokens)
    assert cached == [32, 64]


def test_sequences_that_outgrow_the_pages_take_turns_and_say_the_same() -> None:
    engine, _ = make_engine(num_blocks=6, context=96)
    params = SamplingParams(temperature=0.0, max_tokens=60, ignore_eos=True, stop_token_ids=())
    sequences = [engine.add([k] * 30, params)[0] for k in range(4)]
    drain(engine)
    assert engine.scheduler.num_preemptions > 0
    for k, sequence in enumerate(sequences):
        alone, _ = make_engine(num_blocks=6, context=96)
        (want,) = alone.add([k] * 30, params)
        drain(alone)
        assert sequence.token_ids == want.token_ids


def test_a_prompt_that_gives_its_pages_up_half_scored_is_scored_once() -> None:
    params = SamplingParams(max_tokens=0, prompt_logprobs=0)
    alone, _ = make_engine(num_blocks=8)
    (want,) = alone.add([7] * 60, params)
    drain(alone)
    engine, _ = make_engine(num_blocks=7, max_sequences=2, max_logit_rows=2)  # one token scored a step
    talker = SamplingParams(temperature=0.0, max_tokens=90, ignore_eos=True)
    engine.add([1] * 14, talker)
    engine.step()
    engine.step()
    (scored,) = engine.add([7] * 60, params)
    lengths = [len(scored.prompt_logprobs)]
    while scored.finish_reason is None:
        engine.step()
        lengths.append(len(scored.prompt_logprobs))
    assert engine.scheduler.num_preemptions > 0
    assert any(later < earlier for earlier, later in pairwise(lengths))
    assert scored.completion().prompt_logprobs == want.completion().prompt_logprobs
    drain(engine)


def test_keys_name_the_whole_prefix() -> None:
    keys = [root_key("a")]
    extend_keys(keys, PROMPT, 4)
    other = [root_key("a")]
    extend_keys(other, [PROMPT[0] + 1, *PROMPT[1:]], 4)
    assert not set(keys[1:]) & set(other[1:])
    partly = [root_key("a")]
    extend_keys(partly, PROMPT[:40], 2)
    assert partly == keys[:3]


def test_a_page_is_remembered_for_one_prefix_and_forgotten_with_it() -> None:
    tree = PrefixTree()
    tree.remember(b"1", 7)
    tree.remember(b"1", 8)
    assert tree.find([b"1", b"2"]) == [7]
    assert 8 not in tree
    tree.forget(7)
    assert not tree.find([b"1"])
    with pytest.raises(KeyError):
        tree.forget(7)


class HalfRight:
    """Drafts what the fake program will say, with a wrong token now and then."""

    def draft(self, answering: list[Sequence], num_spare: int) -> dict[Sequence, list[int]]:
        drafts = {}
        for sequence in answering:
            rng = random.Random(len(sequence.token_ids))
            draft = greedy_tokens(sequence.token_ids, min(rng.randrange(6), num_spare))
            num_spare -= len(draft)
            drafts[sequence] = [token if rng.random() < 0.7 else (token + 1) % 60 for token in draft]
        return drafts

    def judge(self, sequence: Sequence, num_judged: int, num_accepted: int) -> None:
        assert num_accepted <= num_judged <= num_accepted + 1

    def observe(self, num_answers: int, num_drafted: int, seconds: float) -> None:
        assert num_answers > 0

    def ended(self, sequence: Sequence) -> None:
        assert sequence.finish_reason is not None


class CountingScheduler(Scheduler):
    """Counts, over all that are ever made, how often somebody was sent back, and why."""

    sent_back: ClassVar[Counter[str]] = Counter()

    def _get_pages(self, sequence: Sequence) -> bool:
        before = self.num_preemptions
        has_pages = super()._get_pages(sequence)
        self.sent_back["no page was left"] += self.num_preemptions - before
        return has_pages

    def _make_way(self, sequence: Sequence) -> bool:
        made_way = super()._make_way(sequence)
        self.sent_back["another's turn had come"] += made_way
        return made_way


class Company(RuleBasedStateMachine):
    """Requests come, go and crowd each other out; every answer is what it would have been alone."""

    def __init__(self) -> None:
        super().__init__()
        self.engine, _ = make_engine(num_blocks=9, max_tokens=24, max_sequences=4, context=80)
        self.engine.scheduler = CountingScheduler(BlockPool(9), self.engine.scheduler.limits)
        self.engine.scheduler.quantum_tokens = 4  # so that places are given up, too
        self.engine.scheduler.drafter = HalfRight()
        ignore_time(self.engine.scheduler)  # hypothesis plays a case several times
        self.asked: list[Sequence] = []

    @initialize(is_crowded=st.booleans())
    def begin(self, is_crowded: bool) -> None:
        """Half of the time with more to say than there are pages for, so that some are sent back."""
        for start in range(4 * is_crowded):  # a page each at first, four in the end
            self.ask(start, length=12, output=48, n=1, tenant="", priority=0)

    @rule(
        start=st.integers(0, 2), length=st.integers(1, 60), output=st.integers(1, 20), n=st.integers(1, 2),
        tenant=st.sampled_from(["", "a"]), priority=st.integers(-1, 1),
    )  # fmt: skip
    def ask(self, start: int, length: int, output: int, n: int, tenant: str, priority: int) -> None:
        prompt = [(start + i) % 60 for i in range(length)]
        params = SamplingParams(temperature=0.0, max_tokens=output, n=n)
        self.asked += self.engine.add(prompt, params, tenant=tenant, priority=priority)

    @rule(steps=st.integers(1, 6))
    def step(self, steps: int) -> None:
        for _ in range(steps):
            self.engine.step()

    @precondition(lambda self: self.asked)
    @rule(number=st.integers(0, 50))
    def cancel(self, number: int) -> None:
        self.engine.cancel([self.asked[number % len(self.asked)]])

    @precondition(lambda self: self.engine.scheduler.running)
    @rule(number=st.integers(0, 3))
    def preempt(self, number: int) -> None:
        """At any moment, not only at those at which pages happen to run out."""
        running = self.engine.scheduler.running
        self.engine.scheduler._send_back(running[number % len(running)])

    @invariant()
    def every_page_is_accounted_for(self) -> None:
        self.engine.check_integrity()

    def teardown(self) -> None:
        drain(self.engine)
        for sequence in self.asked:
            prompt = list(sequence.request.prompt_token_ids)
            said = sequence.token_ids[len(prompt) :]
            want = greedy_tokens(prompt, sequence.max_tokens)
            assert said == (want[: len(said)] if sequence.finish_reason == "cancelled" else want)
            assert EOS not in said[:-1]


def test_answers_in_company_are_what_they_are_alone() -> None:
    CountingScheduler.sent_back.clear()
    several = settings(
        max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    run_state_machine_as_test(Company, settings=several)
    sent_back = CountingScheduler.sent_back
    assert sent_back["no page was left"] > 0, "beside those whom a rule sent back"
    assert sent_back["another's turn had come"] > 0
