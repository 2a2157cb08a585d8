"""How many of the likeliest tokens are worth being checked: as many as make the most tokens per millisecond."""

from __future__ import annotations

from collections.abc import Sequence as Row

from miaotui.adaptive.step_cost import SIZES

WORTH_IT = 1.05
"""A draft is to be so many times faster than none: costs are known no better, and looking for one takes time, too."""
LARGER = 1.04
"""A larger number of tokens is to be so many times better than a smaller one, for the same reason."""
BESIDE_OTHERS = 1.8
"""With several answers, a step may take at most so many times as long for drafts: as long as for prompts."""


def best_size(num_answers: int, chances: Row[float], ratios: Row[float], spent: float = 0.0) -> tuple[int, float]:
    """How many tokens to draft (0 included), and how many times as many tokens per millisecond that makes as none.

    chances: of tokens to come, the likeliest first. ratios: as `StepCost.ratios`. spent: what guessing takes beside the
    step, in steps without drafts; with it, the second value may be below 1.
    """
    best, count, at, expected = WORTH_IT / (1 + spent), 0, 1, float(num_answers)
    for number, chance in enumerate(chances, 1):
        if at == len(ratios):
            break
        expected += chance
        if number < SIZES[at]:
            continue
        took = ratios[at] + spent
        gain = expected / num_answers / took
        at += 1
        if gain > best * (LARGER if count else 1.0) and (num_answers == 1 or took <= BESIDE_OTHERS):
            best, count = gain, number
    return count, best if count else 1 / (1 + spent)
