"""What a step of the engine takes, in milliseconds, by what it reads; learned while steps run.

`step_cost` tells how many times as long as an undrafted step one with drafts takes, for a handful of sizes; this tells
how long any step takes, so that whole requests can be added up from steps.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence as Row

from miaotui.adaptive.drift import Drift
from miaotui.adaptive.robust_fit import RobustFit
from miaotui.engine.step_work import StepWork

FEW_TOKENS, SOME_TOKENS = 4, 32
"""A token more costs least where weights are waited for, more where they are computed with, and less again where many
tokens share what was unpacked: its price is learned apart in each of these ranges."""
PRIOR_MS = (6.0, 1.0, 1.5, 1.2, 0.3, 0.2)
"""Milliseconds of a step, of each of its tokens in the three ranges, of a row of logits, and of a thousand pairs in
attention, for a small model; only their proportions count, for the first steps seen set their size."""
FIRST_STEPS = 5
"""So many steps set the size of PRIOR_MS, by the median: of one alone, as often a process's slowest, it would be
taken up as the machine's speed and never be learned away."""
SPEED_GAIN = 0.05
"""Share of a step's surprise that is put down to how fast the machine is now."""


class StepTime:
    """A sum of prices that are learned apart, times the machine's present speed; see `RobustFit` and `Drift`."""

    def __init__(self) -> None:
        self._fit = RobustFit(PRIOR_MS)
        self._speed = Drift(SPEED_GAIN)
        self._first: list[tuple[Row[float], float]] | None = []

    @property
    def num_seen(self) -> int:
        """Steps it was told of."""
        return self._fit.num_seen

    @property
    def spread(self) -> float:
        """By how much steps differ from what is expected of them, as a share; the mean."""
        return self._fit.spread

    @property
    def prices_ms(self) -> list[float]:
        """As PRIOR_MS, as they are now."""
        return [float(price) * self._speed.factor for price in self._fit.coefficients]

    def ms(self, work: StepWork) -> float:
        """How long a step that does this takes."""
        return self.ms_of(work.num_tokens, work.num_logit_rows, work.num_pairs)

    def ms_of(self, num_tokens: int, num_logit_rows: int, num_pairs: float) -> float:
        """The same, of a step with so many of these, as `StepWork` counts them."""
        one, few, some, many, row, pair = self._fit.coefficients
        ms = one + row * num_logit_rows + pair * num_pairs + few * min(num_tokens, FEW_TOKENS)
        if num_tokens > FEW_TOKENS:
            ms += some * (min(num_tokens, SOME_TOKENS) - FEW_TOKENS) + many * max(num_tokens - SOME_TOKENS, 0)
        return ms * self._speed.factor

    def observe(self, work: StepWork, seconds: float) -> None:
        """A step took so long, what guessing took before it included."""
        features, ms = _features(work), (seconds - work.drafting_s) * 1e3
        if ms <= 0 or not work.num_tokens:
            return
        if self._first is None:
            self._learn(features, ms)
            return
        self._first.append((features, ms))
        self._begin(self._first)
        if len(self._first) == FIRST_STEPS:
            self._first = None

    def _begin(self, first: list[tuple[Row[float], float]]) -> None:
        """Learn from these anew, with prices of the size of most of them."""
        prior = RobustFit(PRIOR_MS)
        size = statistics.median_low(ms / prior.predict(features) for features, ms in first)
        self._fit, self._speed = RobustFit([price * size for price in PRIOR_MS]), Drift(SPEED_GAIN)
        for features, ms in first:
            self._learn(features, ms)

    def _learn(self, features: Row[float], ms: float) -> None:
        speed = self._speed.factor
        self._speed.observe(self._fit.predict(features), ms)
        self._fit.observe(features, ms / speed)

    @classmethod
    def of_prices(cls, prices_ms: list[float]) -> StepTime:
        """One that begins with prices that were learned before."""
        begun = cls()
        begun._fit = RobustFit([max(price, 1e-6) for price in prices_ms])
        begun._fit.num_seen = 1
        begun._first = None
        return begun


def _features(work: StepWork) -> Row[float]:
    tokens = work.num_answers + work.num_prompt_tokens + work.num_drafted
    few = min(tokens, FEW_TOKENS)
    some = min(max(tokens - FEW_TOKENS, 0), SOME_TOKENS - FEW_TOKENS)
    return 1.0, few, some, max(tokens - SOME_TOKENS, 0), work.num_logit_rows, work.num_pairs
