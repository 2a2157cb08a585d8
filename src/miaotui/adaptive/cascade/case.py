"""What a cascade is calibrated and measured on: prompts whose right answers are known, as both models answered them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Row
from dataclasses import dataclass

from miaotui.adaptive.cascade.answer import Answer
from miaotui.adaptive.cascade.asking import Asked, Asking, answers, prompt_for
from miaotui.adaptive.cascade.judging import is_right
from miaotui.adaptive.cascade.signals import Signal, measure
from miaotui.engine.llm import LLM
from miaotui.engine.messages import Message

Judge = Callable[[str, str], bool]
"""Whether an answer is the one that was wanted, second."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A prompt and its right answer; None: whatever the large model says is right."""

    given: str | Row[Message]
    wanted: str | None


@dataclass(frozen=True, slots=True)
class Case:
    """small_s, large_s: what each model took, in seconds. values: the small answer's signals; signal_s: their seconds.

    tokens: those that each model read and said, memory's left out, where the clock cannot be trusted.
    """

    small_right: bool
    large_right: bool
    small_s: float
    large_s: float
    values: Mapping[str, float]
    signal_s: Mapping[str, float]
    small_tokens: int = 0
    large_tokens: int = 0

    def kept_s(self, signal: str) -> float:
        """What the small answer and its signal took."""
        return self.small_s + self.signal_s.get(signal, 0.0)


def collect(
    small: LLM,
    large: LLM,
    asking: Asking,
    rows: Row[Labelled],
    signals: Row[Signal],
    *,
    together: int = 1,
    judge: Judge = is_right,
    step: Callable[[int, int], None] = lambda done, total: None,
) -> list[Case]:
    """Ask both models, so many rows at a time; each row then counts with its share of the time.

    Raises what `LLM.generate` does.
    """
    cases: list[Case] = []
    for begin in range(0, len(rows), together):
        step(begin, len(rows))
        cases += _cases(small, large, asking, rows[begin : begin + together], signals, judge)
    step(len(rows), len(rows))
    return cases


def _cases(
    small: LLM, large: LLM, asking: Asking, rows: Row[Labelled], signals: Row[Signal], judge: Judge
) -> list[Case]:
    asked, little, small_s = _ask(small, asking, rows)
    _, much, large_s = _ask(large, asking, rows)
    values: dict[str, list[float]] = {}
    signal_s = {}
    for signal in signals:
        begin_s = time.monotonic()
        values[signal.name] = measure(signal, small, asked, little)
        signal_s[signal.name] = (time.monotonic() - begin_s) / len(rows) if signal.asks_again else 0.0
    wanted = [large_one.text if row.wanted is None else row.wanted for row, large_one in zip(rows, much, strict=True)]
    return [
        Case(
            judge(little[at].text, wanted[at]),
            judge(much[at].text, wanted[at]),
            small_s,
            large_s,
            {name: some[at] for name, some in values.items()},
            signal_s,
            _num_tokens(little[at]),
            _num_tokens(much[at]),
        )
        for at in range(len(rows))
    ]


def _ask(llm: LLM, asking: Asking, rows: Row[Labelled]) -> tuple[list[Asked], list[Answer], float]:
    """Prompts, answers, and seconds for each of them."""
    asked = [prompt_for(llm, asking, row.given) for row in rows]
    begin_s = time.monotonic()
    said = answers(llm, asking, asked)
    return asked, said, (time.monotonic() - begin_s) / len(rows)


def _num_tokens(answer: Answer) -> int:
    receipt = answer.completion.receipt
    return receipt.prompt_tokens - receipt.cached_tokens + receipt.output_tokens
