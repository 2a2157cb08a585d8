"""Two models on the same cases: by how much they differ, and whether chance alone would do that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from miaotui.compress.intervals import Difference, Z

ALPHA = 0.05
"""Differences that chance alone makes more rarely than this are called real."""


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
