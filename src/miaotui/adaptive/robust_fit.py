"""Linear least squares that goes on with every observation, and that no single one can ruin."""

from __future__ import annotations

import math
from collections.abc import Sequence as Row

import numpy as np
from numpy.typing import NDArray

FORGETTING = 0.998
"""What an observation still counts with each one behind it: some hundreds count."""
CUT = 1.5
"""Residuals of more than so many times their usual size count for less: Huber's function (Ann. Math. Stat., 1964)."""
FIRST_SPREAD, LEAST_SPREAD = 0.3, 0.005
"""Usual size of residuals, as shares of what was predicted: before any was seen, and at least."""
SPREAD_GAIN, MOST_GROWTH = 0.02, 3.0
MOST_VARIANCE = 4.0
"""Of a coefficient, as a multiple of what it was at first: what is not seen for long is not forgotten altogether."""


class RobustFit:
    """Coefficients, none negative, of what is added up from features; residuals count as shares of what is predicted.

    Recursive least squares with exponential forgetting (Ljung, System Identification, 2nd edition, section 11.2), each
    observation weighed by Huber's function of its residual; coefficients that would become negative are set to zero.
    prior: what they are taken to be as long as nothing was seen.
    """

    def __init__(self, prior: Row[float]) -> None:
        self.coefficients: NDArray[np.float64] = np.array(prior, np.float64)
        self.spread = FIRST_SPREAD
        self.num_seen = 0
        self._most = MOST_VARIANCE * (self.coefficients**2)
        self._covariance: NDArray[np.float64] = np.diag(self._most)

    def predict(self, features: NDArray[np.float64]) -> float:
        """What these features add up to."""
        return float(features @ self.coefficients)

    def observe(self, features: NDArray[np.float64], value: float) -> None:
        """What came of these features. Nothing is learned of values that are not positive."""
        predicted = self.predict(features)
        if not (0 < value < math.inf and predicted > 0):
            return
        self.num_seen += 1
        row = features / predicted  # so that residuals are shares, and small steps count as much as large ones
        residual = value / predicted - 1.0
        size = abs(residual)
        weight = min(1.0, CUT * self.spread / size) if size > 0 else 1.0
        self._update(row, residual, weight)
        seen = min(size, MOST_GROWTH * self.spread)
        gain = max(SPREAD_GAIN, 1.0 / (self.num_seen + 4))
        self.spread = max(self.spread + gain * (seen - self.spread), LEAST_SPREAD)

    def _update(self, row: NDArray[np.float64], residual: float, weight: float) -> None:
        noise = self.spread**2 / weight
        shared = self._covariance @ row
        gain = shared / (float(row @ shared) + noise)
        self.coefficients = np.maximum(self.coefficients + gain * residual, 0.0)
        covariance = (self._covariance - np.outer(gain, shared)) / FORGETTING
        too_large = np.diag(covariance) > self._most
        if too_large.any():
            scale = np.where(too_large, np.sqrt(self._most / np.maximum(np.diag(covariance), 1e-300)), 1.0)
            covariance = covariance * np.outer(scale, scale)
        self._covariance = covariance
