"""How far figures are off of late: a ratio that is learned from pairs of what was predicted and what came."""

from __future__ import annotations

import math

from miaotui.adaptive.step_cost import MOST_SURPRISE

FIRST_GAIN, LAST_GAIN = 0.5, 0.1
"""Share of a surprise that is taken for lasting: of the first one, and of those behind many others."""


class Drift:
    """What predictions are to be multiplied with, learned in logarithms.

    No single surprise counts for more than MOST_SURPRISE (a factor of 1.5), so that a hiccup shifts little; one that
    lasts is followed within about ten observations per factor of two. gain: the least share of a surprise that is
    followed; the first ones count for more, as in a mean.
    """

    __slots__ = ("_gain", "_log", "factor", "num_seen")

    def __init__(self, gain: float = LAST_GAIN) -> None:
        self._gain = gain
        self._log = 0.0
        self.factor = 1.0
        self.num_seen = 0

    def observe(self, predicted: float, actual: float) -> None:
        """So much was predicted without this factor, and so much came. Nothing is learned of what is not positive."""
        if not (predicted > 0 and 0 < actual < math.inf):
            return
        self.num_seen += 1
        surprise = math.log(actual / predicted) - self._log
        gain = max(FIRST_GAIN / self.num_seen, self._gain)
        self._log += gain * min(max(surprise, -MOST_SURPRISE), MOST_SURPRISE)
        self.factor = math.exp(self._log)
