"""Two models on the same cases: by how much they differ, and whether chance alone would do that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from miaotui.compress.divergence import Z

ALPHA = 0.05
"""Differences that chance alone makes more rarely than this are called real."""


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


@dataclass(frozen=True, slots=True)
class Paired:
    """Two models' answers to the same questions: `lost` that only the first had right, `won` only the second.

    difference: of the shares that are right, second minus first. p_value: of McNemar's exact test.
    """

    lost: int
    won: int
    difference: Difference
    p_value: float

    @property
    def is_real(self) -> bool:
        """Whether the difference is more than chance would do in all but 5 % of cases."""
        return self.p_value < ALPHA


def compare_answers(first: Sequence[bool], second: Sequence[bool]) -> Paired:
    """Right or wrong, question by question, of two models.

    The test is McNemar's (1947) in its exact form: were both alike, questions that only one has right would fall to
    either by the toss of a coin. The interval is Bonett and Price's (2012), which holds for small counts, too.
    """
    lost = sum(a and not b for a, b in zip(first, second, strict=True))
    won = sum(b and not a for a, b in zip(first, second, strict=True))
    count = len(first) + 2
    p_won, p_lost = (won + 1) / count, (lost + 1) / count
    half = Z * math.sqrt((p_won + p_lost - (p_won - p_lost) ** 2) / count)
    low, high = max(p_won - p_lost - half, -1.0), min(p_won - p_lost + half, 1.0)
    return Paired(lost, won, Difference((won - lost) / len(first), low, high), _toss(lost, won))


def _toss(lost: int, won: int) -> float:
    """How often a fair coin is so far or farther from even, either way."""
    tosses, fewer = lost + won, min(lost, won)
    log_half = tosses * math.log(0.5)
    tail = math.fsum(math.exp(_log_choose(tosses, k) + log_half) for k in range(fewer + 1))
    return min(2 * tail, 1.0)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


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
