"""How many times as fast answers are with drafts as without, by how many run together; learned from steps.

A request's own time says little about it: other things vary more. A step tells exactly how many tokens came beside
those that would have come anyway; what it would have taken without drafts follows from the prices of steps.
"""

from __future__ import annotations

from dataclasses import dataclass

from miaotui.adaptive.step_time import StepTime
from miaotui.engine.step_work import StepWork

FIRST_GAIN, FIRST_STEPS = 1.1, 50.0
"""What is expected before anything was seen, and what that counts in steps."""
FORGETTING = 0.999
"""What a step still counts with each one behind it."""


@dataclass(slots=True)
class _Sums:
    """said: tokens of answers that may be drafted; steps: how many of these had a token at least, in all steps; ms,
    plain_ms: of these steps, and as they would have been without drafts."""

    said: float = FIRST_GAIN * FIRST_STEPS
    steps: float = FIRST_STEPS
    ms: float = 0.0
    plain_ms: float = 0.0


class DraftGain:
    """Tokens a millisecond with drafts over those without, apart for each power of two of answers."""

    def __init__(self) -> None:
        self._sums: dict[int, _Sums] = {}

    def of(self, num_answers: int) -> float:
        """Where so many answers run together."""
        sums = self._sums.get(num_answers.bit_length())
        if sums is None:
            return FIRST_GAIN
        per_step = sums.said / sums.steps
        return per_step * (sums.plain_ms / sums.ms if sums.ms > 0 else 1.0)

    def observe(self, work: StepWork, prices: StepTime) -> None:
        """A step has been made. Those that read prompts draft nothing, and those in which nobody may tell nothing."""
        if not work.num_draftable or work.num_prompt_tokens:
            return
        sums = self._sums.setdefault(work.num_answers.bit_length(), _Sums())
        plain = StepWork(work.num_answers, num_logit_rows=work.num_answers, num_pairs=work.num_pairs)
        plain_ms = prices.ms(plain)
        others = work.num_answers - work.num_draftable  # who has one token each
        for name, value in (
            ("said", work.num_said - others),
            ("steps", work.num_draftable),
            ("ms", (prices.ms(work) if work.num_drafted else plain_ms) + work.drafting_s * 1e3),
            ("plain_ms", plain_ms),
        ):
            setattr(sums, name, FORGETTING * getattr(sums, name) + value)
