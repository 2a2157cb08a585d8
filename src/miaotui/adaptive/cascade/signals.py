"""What tells that an answer is right: numbers, larger where the model is surer.

What the log-probabilities of an answer tell costs nothing: margin, mean and least log-probability, entropy (as in
Chen et al., "FrugalGPT", arXiv:2305.05176, and Gupta et al., arXiv:2404.10136, compare for cascades). Agreement of
samples (Wang et al., arXiv:2203.11171; Yue et al., arXiv:2310.03094) and a question to the model about its own answer
(Kadavath et al., arXiv:2207.05221, P(True)) ask it again.

Thresholds are fixed here, surest first, and look at no data: calibration's statement needs that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Row
from dataclasses import dataclass
from statistics import fmean

from miaotui.adaptive.cascade.answer import Answer
from miaotui.adaptive.cascade.asking import Asked
from miaotui.adaptive.cascade.choosing import choosing
from miaotui.adaptive.cascade.judging import normalized
from miaotui.adaptive.cascade.work import Asks, Work, done_by
from miaotui.core import SamplingParams
from miaotui.engine.llm import LLM
from miaotui.engine.messages import Message
from miaotui.errors import InvalidRequestError, brief

LEAST = -1e6
"""No signal is below this: a threshold of so little lets every answer pass."""
NUM_SAMPLES = 5
SAMPLE_TEMPERATURE = 0.7
SAMPLE_SEED = 0
VERIFYING = "Is this answer right? Answer yes or no."
CHAT_VERDICTS, TEXT_VERDICTS = ("Yes", "No"), (" yes", " no")

Measure = Callable[[LLM, Row[Asked], Row[Answer]], Asks[list[float]]]
"""Values for the answers that a model gave to its prompts. Of the model only its tokens and template are used."""


@dataclass(frozen=True, slots=True)
class Signal:
    """One way to tell. thresholds: those that calibration tries, surest first; the last one lets everything pass."""

    name: str
    meaning: str
    thresholds: tuple[float, ...]
    measure: Measure
    asks_again: bool = False
    for_choices: bool = True


def measure(signal: Signal, llm: LLM, asked: Row[Asked], said: Row[Answer], tenant: str = "") -> list[float]:
    """As `measuring`, done by this model. Raises what `LLM.generate` does where it is asked again."""
    return done_by(llm, measuring(signal, llm, asked, said), tenant)


def measuring(signal: Signal, llm: LLM, asked: Row[Asked], said: Row[Answer]) -> Asks[list[float]]:
    """The signal of each answer, a finite number."""
    if not said:
        return []
    values = yield from signal.measure(llm, asked, said)
    return [LEAST if math.isnan(value) else min(max(value, LEAST), -LEAST) for value in values]


def find_signal(name: str) -> Signal:
    """The signal of that name. Raises InvalidRequestError for another name."""
    if name not in SIGNALS:
        raise InvalidRequestError(f"there is no signal {brief(name)}; there are {', '.join(SIGNALS)}.")
    return SIGNALS[name]


def _of_each(value: Callable[[Answer], float]) -> Measure:
    def measure(llm: LLM, asked: Row[Asked], said: Row[Answer]) -> Asks[list[float]]:
        yield from ()  # the model is not asked again
        return [value(one) if one.positions else LEAST for one in said]

    return measure


def _agreement(llm: LLM, asked: Row[Asked], said: Row[Answer]) -> Asks[list[float]]:
    """Share of samples that say the same."""
    found = []
    for prompt, answer in zip(asked, said, strict=True):
        most = max(len(answer.completion.token_ids) + 16, 32)  # what goes on for longer says something else
        params = SamplingParams(temperature=SAMPLE_TEMPERATURE, seed=SAMPLE_SEED, n=NUM_SAMPLES, max_tokens=most)
        (samples,) = yield Work([prompt.ids], params)
        same = [normalized(one.text) == normalized(answer.text) for one in (samples, *samples.others)]
        found.append(sum(same) / NUM_SAMPLES)
    return found


def _verdict(llm: LLM, asked: Row[Asked], said: Row[Answer]) -> Asks[list[float]]:
    """Log-odds of yes against no, asked behind the answer: what was read of the prompt is in memory."""
    yes = (TEXT_VERDICTS if asked[0].messages is None else CHAT_VERDICTS)[0]
    prompts = [_verifying(llm, prompt, answer.text) for prompt, answer in zip(asked, said, strict=True)]
    verdicts = yield from choosing(llm.tokenizer, prompts, TEXT_VERDICTS if yes == TEXT_VERDICTS[0] else CHAT_VERDICTS)
    return [sum(p.margin for p in one.positions) * (1 if one.text == yes else -1) for one in verdicts]


def _verifying(llm: LLM, prompt: Asked, answer: str) -> list[int]:
    if prompt.messages is None:
        return llm.encode_prompt(f"{prompt.text}{answer}\n{VERIFYING}")
    asked: list[Message] = [*prompt.messages, {"role": "assistant", "content": answer}]
    return llm.encode_chat([*asked, {"role": "user", "content": VERIFYING}])


def _steps(first: float, last: float, step: float) -> Iterator[float]:
    """From first to last, in steps downwards, and then all the rest."""
    yield from (first - step * number for number in range(round((first - last) / step) + 1))
    yield LEAST


_MARGINS = (*(16.0 * 0.9**number for number in range(72)), LEAST)
_NEGATIVES = (*(-1e-4 * 1.1**number for number in range(122)), LEAST)

SIGNALS = {
    signal.name: signal
    for signal in (
        Signal(
            "margin",
            "how much likelier than the next the least sure token was, in nats",
            _MARGINS,
            _of_each(lambda answer: min(position.margin for position in answer.positions)),
        ),
        Signal(
            "mean-logprob",
            "the tokens' mean log-probability, in nats",
            _NEGATIVES,
            _of_each(lambda answer: fmean(position.said for position in answer.positions)),
        ),
        Signal(
            "min-logprob",
            "the least sure token's log-probability, in nats",
            _NEGATIVES,
            _of_each(lambda answer: min(position.said for position in answer.positions)),
        ),
        Signal(
            "entropy",
            "the mean entropy over the likeliest tokens, in nats, with a minus",
            _NEGATIVES,
            _of_each(lambda answer: -fmean(position.entropy for position in answer.positions)),
        ),
        Signal(
            "agreement",
            f"share of {NUM_SAMPLES} samples that say the same",
            tuple((NUM_SAMPLES - number) / NUM_SAMPLES for number in range(NUM_SAMPLES + 1)),
            _agreement,
            asks_again=True,
            for_choices=False,
        ),
        Signal(
            "verifier",
            "log-odds of yes when the model is asked whether its answer is right, in nats",
            tuple(_steps(16.0, -16.0, 0.25)),
            _verdict,
            asks_again=True,
        ),
    )
}
