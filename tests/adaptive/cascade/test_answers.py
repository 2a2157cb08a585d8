"""What models say to a cascade's prompts: choices by brute force, signals by hand."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from miaotui import LLM
from miaotui.adaptive.cascade import Asking, signals
from miaotui.adaptive.cascade.answer import Position
from miaotui.adaptive.cascade.asking import answers, prompt_for
from miaotui.adaptive.cascade.choosing import choose
from miaotui.adaptive.cascade.judging import is_right
from miaotui.adaptive.cascade.signals import LEAST, SIGNALS, find_signal, measure
from miaotui.adaptive.cascade.work import Asks
from miaotui.core import MAX_LOGPROBS
from miaotui.errors import ContextLengthError, InvalidRequestError

PROMPTS = ["the cat in the house", "and the dog", "in"]
CHOICES = ("yes", "no", "not", "none", "the end")


def log_probabilities(llm: LLM, ids: list[int], allowed: list[int]) -> dict[int, float]:
    """Of tokens that are allowed, which sum to 1; those beyond the 20 likeliest count as the last of them."""
    row = llm.logits(ids, first=len(ids) - 1)[0].astype(np.float64)
    best, last = max(row[allowed]), np.sort(row)[-MAX_LOGPROBS]
    picked = {token_id: float(min(max(row[token_id], last), best)) for token_id in allowed}
    total = math.log(sum(map(math.exp, picked.values())))
    return {token_id: value - total for token_id, value in picked.items()}


def walk(llm: LLM, prompt: list[int], choices: tuple[str, ...]) -> tuple[str, list[float]]:
    """The likeliest branch at each parting, with all choices' tokens at hand; and how much likelier it was."""
    end = min(llm.tokenizer.eos_ids)
    left = {choice: [*llm.tokenizer.encode(choice, add_special=False), end] for choice in choices}
    path: list[int] = []
    margins = []
    while len(left) > 1:
        allowed = sorted({tokens[len(path)] for tokens in left.values()})
        if len(allowed) == 1:
            path += allowed
            continue
        found = log_probabilities(llm, prompt + path, allowed)
        best, second = sorted(found.values())[::-1][:2]
        margins.append(best - second)
        row = llm.logits(prompt + path, first=len(prompt + path) - 1)[0]
        path.append(max(allowed, key=row.__getitem__))
        left = {choice: tokens for choice, tokens in left.items() if tokens[: len(path)] == path}
    return next(iter(left)), margins


def test_the_likeliest_choice_is_taken_branch_by_branch(small: LLM) -> None:
    prompts = [small.encode_prompt(text) for text in PROMPTS]
    for prompt, answer in zip(prompts, choose(small, prompts, CHOICES), strict=True):
        wanted, margins = walk(small, prompt, CHOICES)
        assert answer.text == wanted
        assert len(answer.positions) == len(margins)
        assert len(answer.positions[0].others) == 2  # y, n and t part at the first token
        assert [position.margin for position in answer.positions] == pytest.approx(margins, abs=1e-3)


def ranked_texts(llm: LLM, ids: list[int]) -> list[tuple[int, str]]:
    """Rank and text of tokens that are their text's only one, likeliest first, behind these tokens."""
    row = llm.logits(ids, first=len(ids) - 1)[0]
    found = []
    for rank, token_id in enumerate(np.argsort(-row).tolist()):
        text = llm.tokenizer.decode([token_id])
        if text.isascii() and text.strip() and llm.tokenizer.encode(text, add_special=False) == [token_id]:
            found.append((rank, text))
    return found


def test_a_choice_beyond_the_likeliest_counts_as_the_last_of_those(small: LLM) -> None:
    ids = small.encode_prompt("the cat")
    ranked = ranked_texts(small, ids)
    (first, best), (_, near) = ranked[:2]
    far = next(text for rank, text in ranked if rank >= 2 * MAX_LOGPROBS)
    assert first < MAX_LOGPROBS / 2
    (answer,) = choose(small, [ids], (far, near, best))
    assert answer.text == best
    row = np.sort(small.logits(ids, first=len(ids) - 1)[0].astype(np.float64))[::-1]
    ranks = [ranked[0][0], ranked[1][0], MAX_LOGPROBS - 1]
    wanted = Position.among(row[ranks[0]], [row[rank] for rank in ranks[1:]])
    (position,) = answer.positions
    assert position.said == pytest.approx(wanted.said, abs=1e-4)
    assert sorted(position.others) == pytest.approx(sorted(wanted.others), abs=1e-4)


def test_choices_that_part_at_once_take_one_token_and_their_shares_sum_to_one(small: LLM) -> None:
    (answer,) = choose(small, [small.encode_prompt("the cat")], ("yes and yes", "no and no"))
    assert answer.completion.receipt.output_tokens == 1
    (position,) = answer.positions
    assert math.exp(position.said) + math.exp(position.others[0]) == pytest.approx(1.0)
    assert answer.text.startswith(("yes", "no"))
    said = small.tokenizer.encode(answer.text, add_special=False)
    assert list(answer.completion.token_ids) == [*said, min(small.tokenizer.eos_ids)]


@pytest.mark.parametrize("choices", [("same", "same"), ("only",), ()])
def test_choices_that_cannot_be_told_apart_are_refused(small: LLM, choices: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequestError, match="choice"):
        choose(small, [[1, 2]], choices)


@pytest.mark.parametrize(
    "fields",
    [{"choices": ("one",)}, {"choices": ("a", " ")}, {"choices": ("a", 3)}, {"max_tokens": 0}, {"max_tokens": True},
     {"instruction": 7}, {"instruction": "x" * (1 << 17)}],
)  # fmt: skip
def test_unusable_ways_to_ask_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError):
        Asking(**fields)  # type: ignore[arg-type]


def test_an_instruction_comes_first_and_a_conversation_is_taken_as_it_is(small: LLM) -> None:
    asked = prompt_for(small, Asking("Be brief."), "the cat")
    assert asked.ids == small.encode_chat("Be brief.\n\nthe cat")
    talk = [{"role": "system", "content": "in"}, {"role": "user", "content": "and"}]
    assert prompt_for(small, Asking("Be brief."), talk).ids == small.encode_chat(talk)


def test_a_model_without_a_template_goes_on_from_the_text(paths: dict) -> None:
    with LLM(paths["base"]) as llm:
        assert prompt_for(llm, Asking(), "the cat").ids == llm.encode_prompt("the cat")
        asked = [prompt_for(llm, Asking("Be brief.", max_tokens=4), "the cat")]
        said = answers(llm, Asking(max_tokens=4), asked)
        (verdict,) = measure(SIGNALS["verifier"], llm, asked, said)
        assert LEAST <= verdict <= -LEAST


def test_nothing_is_cut_that_is_too_long(small: LLM) -> None:
    with pytest.raises(ContextLengthError):
        answers(small, Asking(choices=("yes", "no")), [prompt_for(small, Asking(), "x" * 2000)])


def test_signals_without_a_question_are_those_of_the_log_probabilities(small: LLM) -> None:
    asking = Asking(max_tokens=12)
    asked = [prompt_for(small, asking, text) for text in PROMPTS]
    said = answers(small, asking, asked)
    values = {name: measure(SIGNALS[name], small, asked, said) for name in ("margin", "mean-logprob", "min-logprob")}
    for at, answer in enumerate(said):
        logprobs = answer.completion.logprobs or ()
        gaps = [entry.logprob - max(value for id, value in entry.top if id != entry.token_id) for entry in logprobs]
        assert values["margin"][at] == pytest.approx(min(gaps))
        assert values["min-logprob"][at] == min(entry.logprob for entry in logprobs)
        assert values["mean-logprob"][at] == pytest.approx(sum(e.logprob for e in logprobs) / len(logprobs))


def test_entropy_is_none_where_one_token_is_certain_and_most_where_all_are_alike() -> None:
    assert Position(0.0, ()).entropy == 0.0
    assert Position(math.log(0.25), (math.log(0.25),) * 3).entropy == pytest.approx(math.log(4))
    assert Position(math.log(0.5), (math.log(0.25),)).entropy == pytest.approx(1.5 * math.log(2))  # the rest is one


def test_samples_that_all_say_the_same_agree(small: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    asking = Asking(max_tokens=6)
    asked = [prompt_for(small, asking, "the cat")]
    said = answers(small, asking, asked)
    monkeypatch.setattr(signals, "SAMPLE_TEMPERATURE", 0.0)
    monkeypatch.setattr(signals, "normalized", lambda text: text[:2])
    assert measure(SIGNALS["agreement"], small, asked, said) == [1.0]
    monkeypatch.setattr(signals, "SAMPLE_TEMPERATURE", 50.0)
    assert measure(SIGNALS["agreement"], small, asked, said)[0] < 1.0


def test_a_verifier_is_asked_behind_the_answer_and_its_odds_are_those_of_yes(
    small: LLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = Asking(max_tokens=6)
    asked = [prompt_for(small, asking, "the cat")]
    said = answers(small, asking, asked)
    talk = [{"role": "user", "content": "the cat"}, {"role": "assistant", "content": said[0].text}]
    ids = small.encode_chat([*talk, {"role": "user", "content": "Is this answer right? Answer yes or no."}])
    yes, no = (text for _, text in ranked_texts(small, ids)[:2])  # what a model that was not trained would say
    row = small.logits(ids, first=len(ids) - 1)[0]
    odds = float(row[small.tokenizer.encode(yes)[0]] - row[small.tokenizer.encode(no)[0]])
    assert odds > 0.01
    for verdicts, wanted in (((yes, no), odds), ((no, yes), -odds)):
        monkeypatch.setattr(signals, "CHAT_VERDICTS", verdicts)
        assert measure(SIGNALS["verifier"], small, asked, said) == pytest.approx([wanted], abs=1e-3)


@pytest.mark.parametrize("name", SIGNALS)
def test_thresholds_fall_and_the_last_lets_everything_pass(name: str) -> None:
    thresholds = SIGNALS[name].thresholds
    assert all(first > second for first, second in pairwise(thresholds))
    assert thresholds[-1] == LEAST or name == "agreement"


def test_a_signal_that_is_no_number_is_the_least_sure(small: LLM) -> None:
    from dataclasses import replace

    def nonsense(*_: object) -> Asks[list[float]]:
        yield from ()
        return [math.nan, math.inf, -math.inf]

    asked = [prompt_for(small, Asking(), "the cat")] * 3
    odd = replace(SIGNALS["margin"], measure=nonsense)
    said = answers(small, Asking(max_tokens=1), asked)
    assert measure(odd, small, asked, said) == [LEAST, -LEAST, LEAST]
    assert measure(odd, small, [], []) == []


def test_unknown_signals_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match="there are margin"):
        find_signal("mood")


@pytest.mark.parametrize(("said", "wanted", "right"), [
    ("Positive", "positive", True), (" positive.\n", "positive", True), ('"42"', "42", True),
    ("not positive", "positive", False), ("", "positive", False), ("-4", "4", False), ("4.2", "42", False),
])  # fmt: skip
def test_answers_are_judged_without_what_changes_no_answer(said: str, wanted: str, right: bool) -> None:
    assert is_right(said, wanted) is right
