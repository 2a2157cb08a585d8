"""Whether one way to answer is nearly as often right as another one, on the same questions: an exact test.

With b the probability that only the other one is right and c that only this one is, the claim is b - c < margin. The
test rejects its contrary from the numbers of such questions among n. It is unconditional, as Hsueh, Liu and Chen
(Biometrics 57, 2001) and Sidik (Statistics in Medicine 22, 2003) do for paired shares: the largest
probability, over all d = b + c that the contrary allows, of numbers that speak as much for the claim as those seen.
After Berger and Boos (JASA 89, 1994) d is only looked for in a confidence interval; what that may miss is added.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from miaotui.adaptive.cascade.binomial import at_most, lower_share, probabilities, upper_share

NUM_RATES = 64
"""Values of d that are tried, evenly spaced by their logarithm: the probability moves little between two of them."""
DEVIATIONS, UNLIKELY = 8, 1e-14
"""Numbers farther from what is expected, or less likely, count as if they spoke for the claim."""


def p_value(lost: int, won: int, count: int, margin: float, missed: float) -> float:
    """The probability of such numbers, or better ones, if the claim were false; at most 1.

    lost, won: questions of `count` that only the other one, or only this one, had right. margin: from 0 to 1. missed:
    probability that d lies outside of the interval where it is looked for.
    """
    parted = lost + won
    if lost - won >= count * margin:
        return 1.0
    low = max(lower_share(parted, count, missed / 2), margin, 1e-9)
    high = min(upper_share(parted, count, missed / 2), 1.0 - 1e-9)
    if high < low:
        return missed
    most = min(count, math.ceil(count * high + DEVIATIONS * math.sqrt(count * high) + 20))
    passing = _passing(lost, parted, count, margin, most)
    rates = np.geomspace(low, high, NUM_RATES)
    return min(float(_chances(rates, count, margin, passing).max()) + missed, 1.0)


def _passing(lost: int, parted: int, count: int, margin: float, most: int) -> NDArray[np.int64]:
    """For 0 … most parted questions, the largest number lost that speaks as much for the claim as the one seen.

    By the distance from the claim's border, in standard deviations: estimated from the numbers, and a little from the
    margin, which of some such orders rejected most often where the claim was true.
    """
    numbers = np.arange(most + 1)
    deviations = np.sqrt(numbers + count * margin / 2 + 1.0)
    seen = (2 * lost - parted - count * margin) / deviations[parted]
    return np.asarray(np.floor((numbers + count * margin + seen * deviations) / 2 + 1e-9), np.int64)


def _chances(rates: NDArray[np.float64], count: int, margin: float, passing: NDArray[np.int64]) -> NDArray[np.float64]:
    """[rates]: probability of what passes for each d on the claim's border, and of numbers that are not looked at."""
    shares = np.minimum((rates + margin) / (2 * rates), 1.0)
    parted = probabilities(count, rates)[:, : len(passing)]
    rate, number = np.nonzero(parted > UNLIKELY)
    looked_at = parted[rate, number]
    passed = looked_at * at_most(passing[number], number, shares[rate])
    left = 1.0 - np.bincount(rate, looked_at, len(rates))
    return np.asarray(np.bincount(rate, passed, len(rates)) + np.maximum(left, 0.0))
