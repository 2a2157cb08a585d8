"""A draft model's pages hold what its texts are, whatever was guessed, rolled back, dropped and found again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from adaptive.drafters.small_model import make_model, text_of
from engine.fakes import VOCAB, greedy_tokens, logits_after
from miaotui.adaptive.drafters.model import DraftModel
from miaotui.adaptive.shares import sureness
from miaotui.engine.sequence import Sequence

LONG = 400
TENANTS = st.sampled_from("ab")
PROMPT = [(7 * at) % 61 for at in range(40)]


def guessed(model: DraftModel, sequence: Sequence, count: int, window: int = LONG) -> list[int]:
    """What the model guesses behind a text, read as far as need be."""
    model.begin_step()
    while model.follow(sequence, window) > 1 and sum(model.read([sequence], 16)):
        pass
    found = []
    for _ in range(count):
        (guess,) = model.guess([sequence])
        assert guess is not None
        found.append(guess.token_id)
    model.check_integrity()
    return found


def test_it_guesses_what_the_small_model_would_say() -> None:
    model, _ = make_model()
    assert guessed(model, text_of(PROMPT), 5) == greedy_tokens(PROMPT, 5)


def test_the_probability_is_the_model_s_own() -> None:
    model, _ = make_model()
    model.begin_step()
    sequence = text_of(PROMPT)
    model.follow(sequence, LONG)
    (guess,) = model.guess([sequence])
    logits = logits_after(PROMPT).astype(np.float64)
    assert guess is not None
    assert guess.probability == pytest.approx(np.exp(logits.max()) / np.exp(logits).sum(), rel=1e-5)


def test_guesses_that_came_are_not_read_again_and_others_are_forgotten() -> None:
    model, program = make_model()
    sequence = text_of(PROMPT)
    first, second, third = guessed(model, sequence, 3)
    sequence.token_ids += [first, second, (third + 1) % VOCAB]
    before = len(program.runs)
    model.begin_step()
    assert model.follow(sequence, LONG) == 1
    assert guessed(model, sequence, 2) == greedy_tokens(sequence.token_ids, 2)
    assert [run["tokens"] for run in program.runs[before:]] == [1, 1]


def test_a_text_that_did_not_go_on_can_be_guessed_behind_again() -> None:
    model, _ = make_model()
    sequence = text_of(PROMPT)
    assert guessed(model, sequence, 3) == guessed(model, sequence, 3) == guessed(model, sequence, 3)


def test_all_texts_of_a_step_are_guessed_in_one_run() -> None:
    model, program = make_model()
    texts = [text_of(PROMPT[at:]) for at in range(4)]
    model.begin_step()
    for text in texts:
        model.follow(text, LONG)
    model.read(texts, 64)
    model.read(texts, 64)
    model.read(texts, 64)
    before = len(program.runs)
    guesses = model.guess(texts)
    assert [guess and guess.token_id for guess in guesses] == [greedy_tokens(text.token_ids, 1)[0] for text in texts]
    assert len(program.runs) == before + 1


def test_a_long_text_is_read_in_parts_and_only_its_end() -> None:
    model, program = make_model()
    text = text_of(PROMPT * 20)
    model.begin_step()
    assert model.follow(text, 100) == 100
    assert model.read([text], 30) == [30]
    assert model.follow(text, 100) == 70
    assert guessed(model, text, 2, window=100) == greedy_tokens((PROMPT * 20)[-100:], 2)
    assert max(run["tokens"] for run in program.runs) <= 30


def test_a_text_that_outgrows_the_context_begins_anew() -> None:
    model, _ = make_model(context=128)
    text = text_of(PROMPT)
    for _ in range(60):
        text.token_ids += guessed(model, text, 2)
    assert len(text.token_ids) > 128
    model.begin_step()
    assert model.follow(text, LONG) <= 128


def test_a_beginning_that_was_read_before_is_found_by_the_same_tenant_only() -> None:
    model, _ = make_model()
    first = text_of(PROMPT, "a")
    guessed(model, first, 1)
    model.forget(first)
    assert model.pool.num_free == model.pool.num_blocks
    model.begin_step()
    same, other = text_of([*PROMPT, 5], "a"), text_of([*PROMPT, 5], "b")
    assert model.follow(same, LONG) == len(PROMPT) + 1 - 32
    assert model.follow(other, LONG) == len(PROMPT) + 1
    assert guessed(model, same, 2) == guessed(model, other, 2)


def test_pages_of_a_text_that_was_not_read_from_its_beginning_are_not_taken_for_it() -> None:
    model, _ = make_model()
    text = text_of(PROMPT * 3, "a")
    guessed(model, text, 1, window=40)
    model.forget(text)
    same = text_of((PROMPT * 3)[:50], "a")
    assert guessed(model, same, 2) == greedy_tokens(same.token_ids, 2)


def test_without_pages_the_text_asked_for_longest_ago_loses_its_own() -> None:
    model, _ = make_model(num_blocks=9)
    texts = [text_of([number, *PROMPT]) for number in range(3)]  # three pages each
    for text in texts:
        guessed(model, text, 1)
    guessed(model, texts[0], 1)
    fresh = text_of([9, *PROMPT])
    guessed(model, fresh, 1)
    model.begin_step()
    assert [model.follow(text, LONG) for text in (texts[0], texts[2], fresh)] == [1, 1, 1]
    assert model.follow(texts[1], LONG) > 1
    model.check_integrity()


def test_nobody_of_the_same_step_loses_pages_and_no_error_comes_of_it() -> None:
    model, _ = make_model(num_blocks=4)
    first, second = text_of([1, *PROMPT]), text_of([2, *PROMPT])
    model.begin_step()
    model.follow(first, LONG)
    model.follow(second, LONG)
    assert model.read([first], 64) == [40]
    assert sum(model.read([second], 64)) <= 16
    assert model.read([second], 64) == [0]
    guesses = model.guess([first, second])
    assert guesses[0] is not None
    assert guesses[1] is None
    model.check_integrity()
    model.forget(first)
    assert guessed(model, second, 1) == greedy_tokens(second.token_ids, 1)


def test_tokens_that_only_the_large_model_has_are_neither_guessed_nor_a_problem() -> None:
    model, _ = make_model(num_common=5)
    text = text_of([*PROMPT, 3 * VOCAB, 1])
    known = [*PROMPT, 0, 1]
    assert guessed(model, text, 1) == [int(np.argmax(logits_after(known)[:5]))]


def test_logits_that_are_no_numbers_make_an_unsure_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    model, program = make_model()
    run = program.run

    def damaged(*arguments: Any) -> None:
        run(*arguments)
        program.logits[:] = float("nan")

    monkeypatch.setattr(program, "run", damaged)
    model.begin_step()
    text = text_of([1, 2])
    model.follow(text, LONG)
    (guess,) = model.guess([text])
    assert guess is not None
    assert 0 <= guess.token_id < VOCAB
    assert sureness(guess.probability) == 0


class Texts(RuleBasedStateMachine):
    """Texts come, go on with or against their guesses, are read, guessed for and leave; some begin alike."""

    def __init__(self) -> None:
        super().__init__()
        self.model, _ = make_model(num_blocks=8, max_tokens=24, max_sequences=3, context=96)
        self.texts: list[Sequence] = []
        self.guesses: dict[Sequence, list[int]] = {}

    @rule(alike=st.integers(0, 40), own=st.lists(st.integers(0, 3), min_size=1, max_size=30), tenant=TENANTS)
    def comes(self, alike: int, own: list[int], tenant: str) -> None:
        self.texts.append(text_of([*PROMPT[:alike], *own], tenant))

    @precondition(lambda self: self.texts)
    @rule(data=st.data(), num_right=st.integers(0, 4), more=st.lists(st.integers(0, VOCAB - 1), max_size=12))
    def goes_on(self, data: st.DataObject, num_right: int, more: list[int]) -> None:
        text = data.draw(st.sampled_from(self.texts))
        text.token_ids += [*self.guesses.pop(text, [])[:num_right], *more]

    @precondition(lambda self: self.texts)
    @rule(data=st.data(), most=st.integers(1, 24), window=st.integers(1, 60), num_guesses=st.integers(0, 4))
    def is_guessed_for(self, data: st.DataObject, most: int, window: int, num_guesses: int) -> None:
        asked = data.draw(st.lists(st.sampled_from(self.texts), min_size=1, max_size=4, unique=True))
        self.model.begin_step()
        for text in asked:
            assert 1 <= self.model.follow(text, window) <= window
            self.guesses[text] = []
        assert sum(self.model.read(asked, most)) <= most
        for _ in range(num_guesses):
            for text, guess in zip(asked, self.model.guess(asked), strict=True):
                if guess is not None:
                    reader = self.model._readers[text]
                    whole = [*text.token_ids[reader.origin :], *self.guesses[text]]
                    assert guess.token_id == int(np.argmax(logits_after(whole)))
                    self.guesses[text].append(guess.token_id)

    @precondition(lambda self: self.texts)
    @rule(data=st.data())
    def leaves(self, data: st.DataObject) -> None:
        text = data.draw(st.sampled_from(self.texts))
        self.texts.remove(text)
        self.guesses.pop(text, None)
        self.model.forget(text)

    @invariant()
    def pages_are_sound(self) -> None:
        self.model.check_integrity()

    def teardown(self) -> None:
        for text in self.texts:
            self.model.forget(text)
        assert self.model.pool.num_free == self.model.pool.num_blocks


TestTexts = Texts.TestCase
TestTexts.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
