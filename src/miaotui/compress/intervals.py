"""How far a figure that was measured on some cases may be from what other cases would give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Z = 1.96
"""Of a confidence of 95 %."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def is_real(self) -> bool:
        """Whether zero lies outside the interval."""
        return not self.low <= 0 <= self.high


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share seen in so many cases (Wilson 1927)."""
    center = (share + Z * Z / (2 * count)) / (1 + Z * Z / count)
    half = Z * math.sqrt(share * (1 - share) / count + (Z / (2 * count)) ** 2) / (1 + Z * Z / count)
    return max(center - half, 0.0), min(center + half, 1.0)


def clustered_mean(sums: Sequence[float], counts: Sequence[int]) -> Difference:
    """Sum over count, with an interval from the spread between groups: within one, cases are alike.

    It is the ratio estimator's (Cochran, Sampling Techniques, 1977, section 6.3), with Student's t for few groups; one
    group alone tells nothing of the spread, and its interval is everything.
    """
    total, groups = sum(counts), len(sums)
    mean = math.fsum(sums) / total
    if groups < 2:
        return Difference(mean, -math.inf, math.inf)
    squares = math.fsum((s - mean * n) ** 2 for s, n in zip(sums, counts, strict=True))
    half = _student(groups - 1) * math.sqrt(squares * groups / (groups - 1)) / total
    return Difference(mean, mean - half, mean + half)


def _student(freedom: int) -> float:
    """Two-sided 95 % point of Student's t, by its expansion in 1/freedom (Abramowitz and Stegun, 26.7.5)."""
    if freedom < 5:
        return (12.706, 4.303, 3.182, 2.776)[freedom - 1]
    z = Z
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + math.fsum(term / freedom ** (power + 1) for power, term in enumerate(terms))
