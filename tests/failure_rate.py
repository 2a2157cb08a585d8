"""What a number of failures says about the rate of failure."""

from __future__ import annotations

import math


def failure_rate_bound(failures: int, cases: int) -> float:
    """Upper end of the one-sided 95 % interval (Clopper and Pearson 1934): the rate that gives so few with 5 %."""
    if failures >= cases:
        return 1.0

    def chance_of(k: int, rate: float) -> float:
        ways = math.lgamma(cases + 1) - math.lgamma(k + 1) - math.lgamma(cases - k + 1)
        return math.exp(ways + k * math.log(rate) + (cases - k) * math.log1p(-rate))

    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        chance_of_so_few = sum(chance_of(k, middle) for k in range(failures + 1))
        low, high = (middle, high) if chance_of_so_few > 0.05 else (low, middle)
    return high
