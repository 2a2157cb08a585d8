"""For whom a draft model guesses, and how far: where more tokens per millisecond come of it, its own time counted.

Each further guess has to bring more than the same time brings otherwise (Dinkelbach, "On nonlinear fractional
programming", Management Science 13, 1967). So guessing ends where the model itself is unsure, as in Draft & Verify
(Zhang et al., arXiv:2309.08168, section 3.3) and SpecDec++ (Huang et al., arXiv:2405.19715), at a threshold that
follows from what was measured.
"""

from __future__ import annotations

from collections.abc import Sequence as Row

from miaotui.adaptive.best_size import BESIDE_OTHERS, best_size
from miaotui.adaptive.drafters.candidate import Candidate, Moment
from miaotui.adaptive.drafters.hopes import Hopes
from miaotui.adaptive.drafters.run_cost import RunCost
from miaotui.adaptive.shares import LEAST_CHANCE
from miaotui.adaptive.step_cost import ratio_of

MOST_GUESSES = 8
"""For one text and step."""
BETTER = 1.05
"""So many times as many tokens per millisecond are to be expected as without the model."""
USUALLY_UNREAD = 2
"""Tokens of a text that is being guessed for: the last guess, and what came behind it."""


def whom_to_ask(
    ready: Row[Candidate], candidates: Row[Candidate], moment: Moment, hopes: Hopes, cost: RunCost
) -> tuple[Row[Candidate], float]:
    """Of those that are ready, for whom to guess, and how many times as many tokens per millisecond come of it.

    Nobody whose free tokens promise as much; nobody at all where it is not worth it.
    """
    best, chosen, alone = moment.base * BETTER, list[Candidate](), moment.alone
    for count in range(1, MOST_GUESSES + 1):
        promised = {one: hopes.promise(one, count) for one in ready if one.most >= count}
        members = {one: chances for one, chances in promised.items() if sum(chances) > sum(one.free)}
        if not members:
            break
        spent = cost.of(sum(max(one.num_unread, 1) for one in members), alone)
        spent += (count - 1) * cost.of(len(members), alone)
        chances = [chance for one in candidates for chance in members.get(one, one.free)]
        chances.sort(reverse=True)
        _, gain = best_size(moment.num_answers, chances[: moment.most], moment.ratios, spent / alone)
        if gain > best:
            best, chosen = gain, list(members)
    return chosen, best if chosen else moment.base


def who_goes_on(
    guessed: Row[Candidate], asked: Row[Candidate], moment: Moment, hopes: Hopes, cost: RunCost, spent: float
) -> list[Candidate]:
    """Of those that just had a guess, for whom to make another one. spent: on guesses so far, in steps without drafts.

    asked: all that have guesses. A guess has to be worth its row of the step, and all of them the run that makes them.
    """
    num_answers, count = moment.num_answers, sum(len(one.tokens) for one in asked)
    ratio = ratio_of(moment.ratios, count)
    for_one = ratio_of(moment.ratios, count + 1) - ratio
    more: dict[Candidate, float] = {}
    for one in guessed:
        hoped = one.chances[-1] * hopes.share(one.sequence)
        is_last = len(one.tokens) >= one.most or one.tokens[-1] in one.sequence.eos_ids
        if not is_last and hoped >= LEAST_CHANCE and hoped > num_answers * for_one:
            more[one] = hoped
    if not more or count + len(more) > moment.most:
        return []
    before = ratio + spent
    longer = cost.of(len(more), moment.alone) / moment.alone + ratio_of(moment.ratios, count + len(more)) - ratio
    if num_answers > 1 and before + longer > BESIDE_OTHERS:
        return []
    expected = num_answers + sum(sum(one.chances) for one in asked)
    return list(more) if sum(more.values()) > longer * max(num_answers, expected / before) else []
