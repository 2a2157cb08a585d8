"""What a run of a draft model costs by the tokens that it reads, learned while it runs."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from statistics import median_low

TOKENS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
"""Sizes of runs that are told apart."""
KEPT = 7
"""So many observations of a size count, by their median."""
WEIGHTS_TOKENS = 10.0
"""A run of any size is taken to cost as much as so many tokens more, where nothing better is known: its weights have to
be read."""


class RunCost:
    """Seconds of runs, at the speed that `StepCost.scaled` gives.

    share: what a run of one token is taken to cost before any was seen, in steps of the large model.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._seen: dict[int, deque[float]] = {}

    def of(self, num_tokens: int, alone: float) -> float:
        """A run of so many tokens. alone: a step of the large model without drafts."""
        at = bisect_left(TOKENS, num_tokens, hi=len(TOKENS) - 1)
        below = max((seen for seen in self._seen if seen <= at), default=None)
        above = min((seen for seen in self._seen if seen >= at), default=None)
        nearest = above if below is None else below
        if nearest is None:
            return alone * self._share * _relative(num_tokens, 1)
        if below is None or above is None:
            return self._cost(nearest) * _relative(num_tokens, TOKENS[nearest])
        if below == above:
            return self._cost(at)
        part = (num_tokens - TOKENS[below]) / (TOKENS[above] - TOKENS[below])
        return self._cost(below) + part * (self._cost(above) - self._cost(below))

    def observe(self, num_tokens: int, seconds: float) -> None:
        """A run took so long."""
        at = bisect_left(TOKENS, num_tokens, hi=len(TOKENS) - 1)
        self._seen.setdefault(at, deque(maxlen=KEPT)).append(seconds * _relative(TOKENS[at], num_tokens))

    def tokens_within(self, seconds: float, alone: float) -> int:
        """The largest of TOKENS that a run takes at most so long for; 0: none."""
        return max((count for count in TOKENS if self.of(count, alone) <= seconds), default=0)

    def _cost(self, at: int) -> float:
        return median_low(self._seen[at])


def _relative(num_tokens: int, others: int) -> float:
    return (WEIGHTS_TOKENS + num_tokens) / (WEIGHTS_TOKENS + others)
