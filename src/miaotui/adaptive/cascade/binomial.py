"""The binomial distribution, exact for any number of trials."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

TINY = 1e-300
MOST_TERMS = 20_000
CLOSE = 1e-13
STEPS = 100
"""Shares that are looked at together where one is searched for."""

Floats = NDArray[np.float64]


def probabilities(count: int, shares: ArrayLike) -> Floats:
    """[shares…, count + 1]: of each number of hits in so many trials; shares are above 0 and below 1."""
    share = np.asarray(shares, float)[..., None]
    logs = _log_factorials(count)
    hits = np.arange(count + 1)
    chosen = logs[count] - logs - logs[::-1]
    return np.asarray(np.exp(chosen + hits * np.log(share) + (count - hits) * np.log1p(-share)))


def at_most(hits: ArrayLike, counts: ArrayLike, shares: ArrayLike) -> Floats:
    """Probability of at most so many hits in so many trials; the three are broadcast. Shares from 0 to 1."""
    few, many, share = np.broadcast_arrays(hits, counts, np.asarray(shares, float))
    result = np.where((few >= many) | ((share <= 0.0) & (few >= 0)), 1.0, 0.0)
    inside = (few >= 0) & (few < many) & (share > 0.0) & (share < 1.0)
    if inside.any():
        result[inside] = _beta_share((many - few)[inside], (few + 1)[inside], 1.0 - share[inside])
    return result


@lru_cache(maxsize=4096)
def upper_share(hits: int, count: int, missed: float) -> float:
    """A share that the true one exceeds with that probability at most (Clopper and Pearson, Biometrika 26, 1934)."""
    if hits >= count:
        return 1.0
    low, high = hits / count, 1.0
    while high - low > 1e-10:
        shares = np.linspace(low, high, STEPS)
        at = int(np.argmax(at_most(hits, count, shares[1:]) <= missed))
        low, high = float(shares[at]), float(shares[at + 1])
    return high


def lower_share(hits: int, count: int, missed: float) -> float:
    """The same from below."""
    return 1.0 - upper_share(count - hits, count, missed)


def _beta_share(a: NDArray[np.int64], b: NDArray[np.int64], x: Floats) -> Floats:
    """The regularized incomplete beta function (DLMF 8.17) of whole numbers, by its continued fraction.

    Where that converges slowly, it is taken of what is left to 1.
    """
    turned = x > (a + 1) / (a + b + 2)
    first, second = np.where(turned, b, a), np.where(turned, a, b)
    places = np.where(turned, 1 - x, x)
    logs = _log_factorials(int((a + b).max()))
    scale = logs[a + b - 1] - logs[a - 1] - logs[b - 1]
    front = np.exp(scale + first * np.log(places) + second * np.log1p(-places)) / first
    share: Floats = front * _fraction(first.astype(float), second.astype(float), places)
    return np.asarray(np.clip(np.where(turned, 1 - share, share), 0.0, 1.0))


def _fraction(a: Floats, b: Floats, x: Floats) -> Floats:
    """DLMF 8.17(v) by the modified method of Lentz (Thompson and Barnett, 1986)."""
    c, d = np.ones_like(x), 1.0 / _apart(1.0 - (a + b) * x / (a + 1))
    value = d.copy()
    for m in range(1, MOST_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1.0 / _apart(1.0 + term * d)
            c = _apart(1.0 + term / c)
            value *= c * d
        if np.abs(c * d - 1.0).max() < CLOSE:
            break
    return value


def _apart(value: Floats) -> Floats:
    """Away from zero, for it is divided by."""
    return np.where(np.abs(value) < TINY, TINY, value)


def _log_factorials(most: int) -> Floats:
    return np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, most + 1)))])
