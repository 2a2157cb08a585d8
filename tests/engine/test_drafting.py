"""Whatever is drafted, the same comes out; what is drafted rightly takes fewer steps."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Row
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.fakes import GREEDY, VOCAB, drain, greedy_tokens, ignore_time, make_engine
from miaotui import LLM, SamplingParams
from miaotui.adaptive import AdaptiveDrafter
from miaotui.core import StructuredOutputs
from miaotui.engine.results import Completion
from miaotui.engine.sequence import Sequence

PROMPTS = [[1, 2, 3], [7, 8], [9] * 20, [5, 6, 7, 8]]


class Guesses:
    """Drafts what a function of the tokens so far says; keeps what it is told."""

    def __init__(self, guess: Callable[[list[int], int], list[int]], length: int = 5) -> None:
        self._guess, self._length = guess, length
        self.judged: list[tuple[int, int]] = []
        self.observed: list[tuple[int, int]] = []
        self.gone: list[tuple[str | None, int]] = []

    def draft(self, answering: Row[Sequence], num_spare: int) -> Mapping[Sequence, Row[int]]:
        found: dict[Sequence, Row[int]] = {}
        for sequence in answering:
            count = min(self._length, num_spare)
            if count:
                found[sequence] = self._guess(list(sequence.token_ids), count)
                num_spare -= count
        return found

    def judge(self, sequence: Sequence, num_drafted: int, num_accepted: int) -> None:
        self.judged.append((num_drafted, num_accepted))

    def observe(self, num_answers: int, num_drafted: int, seconds: float) -> None:
        self.observed.append((num_answers, num_drafted))

    def ended(self, sequence: Sequence) -> None:
        self.gone.append((sequence.finish_reason, sequence.num_output_tokens))


def right(tokens: list[int], count: int) -> list[int]:
    return (greedy_tokens(tokens, count) + [0] * count)[:count]


def wrong(tokens: list[int], count: int) -> list[int]:
    return [(token + 1) % VOCAB for token in right(tokens, count)]


def mixed(tokens: list[int], count: int) -> list[int]:
    rng = random.Random(len(tokens))
    return [token if rng.random() < 0.7 else (token + 1) % VOCAB for token in right(tokens, count)]


def said(guess: Callable[[list[int], int], list[int]] | None, params: SamplingParams) -> tuple[object, int]:
    engine, program = make_engine()
    engine.scheduler.drafter = None if guess is None else Guesses(guess)
    ignore_time(engine.scheduler)
    groups = [engine.add(prompt, params) for prompt in PROMPTS]
    drain(engine)
    done = [sequence.completion() for group in groups for sequence in group]
    return [(d.text, d.token_ids, d.finish_reason, d.stop_reason, d.logprobs) for d in done], len(program.runs)


ASKS = {
    "greedy": GREEDY,
    "sampled": SamplingParams(temperature=1.0, seed=3, max_tokens=30),
    "penalties": SamplingParams(temperature=0.8, seed=4, max_tokens=30, frequency_penalty=1.0, repetition_penalty=1.3),
    "logprobs": replace(GREEDY, logprobs=2),
    "several": SamplingParams(temperature=1.0, seed=5, max_tokens=20, n=3),
    "one token": replace(GREEDY, max_tokens=1),
    "goes on": replace(GREEDY, max_tokens=40, ignore_eos=True),
}


@pytest.mark.parametrize("guess", [right, wrong, mixed], ids=lambda guess: guess.__name__)
@pytest.mark.parametrize("name", ASKS)
def test_the_same_comes_out(name: str, guess: Callable[[list[int], int], list[int]]) -> None:
    plain, num_steps = said(None, ASKS[name])
    drafted, num_drafted_steps = said(guess, ASKS[name])
    assert drafted == plain
    assert num_drafted_steps <= num_steps


def test_a_stop_string_inside_a_draft_ends_the_text() -> None:
    whole = greedy_tokens(PROMPTS[0], 20)
    stop = "".join(chr(ord("A") + token) for token in whole[4:6])
    params = replace(GREEDY, stop=stop)
    assert said(right, params)[0] == said(None, params)[0]


def test_right_drafts_save_steps_and_the_receipt_tells() -> None:
    engine, program = make_engine()
    engine.scheduler.drafter = drafting = Guesses(right)
    (sequence,) = engine.add(PROMPTS[1], replace(GREEDY, max_tokens=24, ignore_eos=True))
    drain(engine)
    assert len(program.runs) == 1 + 4  # the prompt and its token, then five and the one behind them, and what is left
    receipt = sequence.completion().receipt
    assert receipt.output_tokens == 24
    assert receipt.accepted_tokens == receipt.drafted_tokens == sum(count for count, _ in drafting.judged)
    assert drafting.judged[:3] == [(5, 5)] * 3
    assert all(answers == 1 for answers, _ in drafting.observed)


def test_wrong_drafts_are_told() -> None:
    engine, _ = make_engine()
    engine.scheduler.drafter = drafting = Guesses(wrong)
    (sequence,) = engine.add(PROMPTS[1], replace(GREEDY, max_tokens=10, ignore_eos=True))
    drain(engine)
    assert set(drafting.judged) == {(1, 0)}
    assert sequence.completion().receipt.accepted_tokens == 0
    assert sequence.completion().receipt.drafted_tokens > 0


def test_what_was_said_before_logits_are_no_numbers_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, program = make_engine()
    engine.scheduler.drafter = Guesses(right)
    (sequence,) = engine.add(PROMPTS[1], replace(GREEDY, max_tokens=24, ignore_eos=True))
    updates = engine.step()
    whole = greedy_tokens(PROMPTS[1], 24)
    run = program.run

    def damaged(*arguments: Any) -> None:
        run(*arguments)
        program.logits[3] = float("nan")

    monkeypatch.setattr(program, "run", damaged)
    updates += engine.step()
    assert sequence.error is not None
    assert [token for _, delta in updates for token in delta.token_ids] == whole[:4]
    assert "".join(delta.text for _, delta in updates) == "".join(chr(ord("A") + token) for token in whole[:4])
    assert not engine.scheduler.has_work
    engine.check_integrity()


def test_nobody_gives_pages_up_for_a_draft() -> None:
    """A draft would reach into a new page while another answer is about to need the last one that is left."""
    engine, _ = make_engine(num_blocks=3, max_logit_rows=16)
    engine.scheduler.drafter = Guesses(wrong)
    asked = [([1] * 11, 12), ([2] * 14, 5)]
    sequences = [engine.add(prompt, replace(GREEDY, max_tokens=count, ignore_eos=True))[0] for prompt, count in asked]
    drain(engine)
    assert engine.scheduler.num_preemptions == 0
    for sequence, (prompt, count) in zip(sequences, asked, strict=True):
        assert list(sequence.completion().token_ids) == plain_tokens(prompt, count)


def plain_tokens(prompt: list[int], count: int) -> list[int]:
    engine, _ = make_engine()
    (sequence,) = engine.add(prompt, replace(GREEDY, max_tokens=count, ignore_eos=True))
    drain(engine)
    return list(sequence.completion().token_ids)


def test_nothing_is_drafted_while_somebody_waits_to_be_read() -> None:
    engine, _ = make_engine(max_tokens=16)
    engine.scheduler.drafter = drafting = Guesses(wrong)
    engine.add([1, 2], replace(GREEDY, max_tokens=60, ignore_eos=True))
    engine.step()
    engine.add([3] * 100, replace(GREEDY, max_tokens=1))
    while any(not s.is_answering for s in engine.scheduler.unfinished()):
        before = len(drafting.judged)
        engine.step()
        assert len(drafting.judged) == before
    drain(engine)
    assert len(drafting.judged) > 0


def test_pages_filled_by_drafts_serve_later_requests() -> None:
    engine, _ = make_engine()
    engine.scheduler.drafter = Guesses(right)
    params = replace(GREEDY, max_tokens=40, ignore_eos=True)
    (first,) = engine.add([1, 2, 3], params)
    drain(engine)
    longer = [1, 2, 3, *first.completion().token_ids]
    (second,) = engine.add(longer, params)
    drain(engine)
    assert second.completion().receipt.cached_tokens == 32
    assert list(second.completion().token_ids) == plain_tokens(longer, 40)


def completions(llm: LLM, params: SamplingParams) -> list[Completion]:
    texts = ["the cat and the dog in the house and the cat and the dog in the", "the house " * 20, "a dog"]
    return llm.generate(texts, params)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_prompt_lookup_says_the_same(temperature: float, tiny_model: Path) -> None:
    params = SamplingParams(temperature=temperature, seed=1, max_tokens=100, ignore_eos=True, logprobs=1)
    with LLM(tiny_model) as llm:
        plain = completions(llm, params)
    drafter = AdaptiveDrafter()
    learn = drafter.observe  # from a clock of our own: steps of a busy machine may say that drafting does not pay
    drafter.observe = lambda answers, drafted, _: learn(answers, drafted, 1e-3 + 1e-5 * drafted)  # type: ignore[method-assign]
    with LLM(tiny_model, drafter=drafter) as llm:
        drafted = completions(llm, params)
    assert [(d.text, d.token_ids, d.logprobs) for d in drafted] == [(d.text, d.token_ids, d.logprobs) for d in plain]
    if temperature == 0.0:  # a tiny model repeats itself
        assert sum(d.receipt.accepted_tokens for d in drafted) > 0


def test_a_grammar_allows_no_draft_against_it(tiny_model: Path) -> None:
    params = SamplingParams(
        temperature=0, max_tokens=60, structured_outputs=StructuredOutputs(regex="(the |cat |dog )+")
    )
    with LLM(tiny_model) as llm:
        plain = completions(llm, params)
        drafting = Guesses(lambda tokens, count: (tokens[-6:] * count)[:count])
        llm.loaded.engine.scheduler.drafter = drafting
        drafted = completions(llm, params)
    assert [(d.text, d.token_ids, d.finish_reason) for d in drafted] == [
        (p.text, p.token_ids, p.finish_reason) for p in plain
    ]
    assert sum(accepted for _, accepted in drafting.judged) > 0
