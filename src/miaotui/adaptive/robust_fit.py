"""Linear least squares that goes on with every observation, and that no single one can ruin."""

from __future__ import annotations

import math
from collections.abc import Sequence as Row
from operator import mul

FORGETTING = 0.998
"""What an observation still counts with each one behind it: some hundreds count."""
CUT = 1.5
"""Residuals of more than so many times their usual size count for less: Huber's function (Ann. Math. Stat., 1964)."""
FIRST_SPREAD, LEAST_SPREAD = 0.3, 0.005
"""Usual size of residuals, as shares of what was predicted: before any was seen, and at least."""
SPREAD_GAIN, MOST_GROWTH = 0.02, 3.0
MOST_VARIANCE = 4.0
"""Of a coefficient, as a multiple of its first square: what is not seen for long is not forgotten altogether."""


class RobustFit:
    """Coefficients, none negative, of what is added up from features; residuals count as shares of what is predicted.

    Recursive least squares with exponential forgetting (Ljung, System Identification, 2nd edition, section 11.2), each
    observation weighed by Huber's function of its residual; coefficients that would become negative are set to zero.
    prior: what they are taken to be as long as nothing was seen; all positive. For a handful of features, for which
    plain numbers are quicker than arrays: an observation takes some 20 µs.
    """

    def __init__(self, prior: Row[float]) -> None:
        self.coefficients = list(map(float, prior))
        self.spread = FIRST_SPREAD
        self.num_seen = 0
        self._most = [MOST_VARIANCE * one * one for one in self.coefficients]
        size = range(len(self.coefficients))
        self._covariance = [[self._most[row] if row == column else 0.0 for column in size] for row in size]

    def predict(self, features: Row[float]) -> float:
        """What these features add up to."""
        total: float = sum(map(mul, features, self.coefficients))
        return total

    def observe(self, features: Row[float], value: float) -> None:
        """What came of these features. Nothing is learned of values that are not positive."""
        predicted = self.predict(features)
        if not (0 < value < math.inf and predicted > 0):
            return
        self.num_seen += 1
        row = [
            one / predicted for one in features
        ]  # so that residuals are shares, and small steps count like large ones
        residual = value / predicted - 1.0
        size = abs(residual)
        self._update(row, residual, min(1.0, CUT * self.spread / size) if size > 0 else 1.0)
        seen = min(size, MOST_GROWTH * self.spread)
        gain = max(SPREAD_GAIN, 1.0 / (self.num_seen + 4))
        self.spread = max(self.spread + gain * (seen - self.spread), LEAST_SPREAD)

    def _update(self, row: Row[float], residual: float, weight: float) -> None:
        shared = [sum(map(mul, line, row)) for line in self._covariance]
        per_surprise = 1.0 / (sum(map(mul, row, shared)) + self.spread**2 / weight)
        gains = [one * per_surprise for one in shared]
        self.coefficients = [
            max(one + gain * residual, 0.0) for one, gain in zip(self.coefficients, gains, strict=True)
        ]
        self._covariance = [
            [(one - gain * other) / FORGETTING for one, other in zip(line, shared, strict=True)]
            for line, gain in zip(self._covariance, gains, strict=True)
        ]
        if any(line[at] > most for at, (line, most) in enumerate(zip(self._covariance, self._most, strict=True))):
            self._limit()

    def _limit(self) -> None:
        """Shrink what has grown beyond what it was at first, correlations left as they are."""
        shrunk = [
            min(math.sqrt(most / line[at]), 1.0) if line[at] > 0 else 1.0
            for at, (line, most) in enumerate(zip(self._covariance, self._most, strict=True))
        ]
        self._covariance = [
            [one * by * other for one, other in zip(line, shrunk, strict=True)]
            for line, by in zip(self._covariance, shrunk, strict=True)
        ]
