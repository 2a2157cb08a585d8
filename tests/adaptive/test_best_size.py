"""As many of the likeliest tokens are taken as make the most of them per millisecond."""

from __future__ import annotations

import math

import pytest

from miaotui.adaptive.best_size import BESIDE_OTHERS, best_size
from miaotui.adaptive.step_cost import SIZES, StepCost, ratio_of

RATIOS = [1 + 0.2 * size for size in SIZES]


def test_sure_tokens_are_taken_and_unsure_ones_left() -> None:
    count, gain = best_size(1, [0.9, 0.8, 0.7, 0.1, 0.1, 0.1], RATIOS)
    assert count == 3
    assert gain == pytest.approx(3.4 / 1.6)
    assert best_size(1, [0.1] * 10, RATIOS) == (0, 1.0)


def test_what_guessing_took_is_spent_whether_tokens_are_taken_or_not() -> None:
    assert best_size(1, [], RATIOS, spent=0.5) == (0, pytest.approx(1 / 1.5))
    count, gain = best_size(1, [0.3], RATIOS, spent=0.5)
    assert (count, gain) == (1, pytest.approx(1.3 / 1.7))  # more than none, once it is spent
    assert best_size(1, [0.15], RATIOS, spent=0.5)[0] == 0


def test_others_wait_for_guessing_as_for_drafts() -> None:
    chances = [0.9] * 12
    assert best_size(2, chances, RATIOS)[0] == 4
    assert best_size(2, chances, RATIOS, spent=0.5)[0] == 1
    assert best_size(2, chances, RATIOS, spent=BESIDE_OTHERS)[0] == 0


def test_sizes_in_between_cost_something_in_between_and_unknown_ones_everything() -> None:
    ratios = RATIOS[:7]
    assert ratio_of(ratios, 0) == 1.0
    assert ratio_of(ratios, 5) == pytest.approx(2.0)
    assert ratio_of(ratios, 8) == ratios[6]
    assert ratio_of(ratios, 9) == math.inf


def test_other_times_are_compared_at_the_speed_of_now() -> None:
    costs = StepCost()
    assert costs.alone(1) is None
    for seconds in [1.0] * 20 + [2.0] * 60:
        costs.observe(1, 0, seconds)
    alone = costs.alone(1)
    assert alone is not None
    assert costs.scaled(0.5) / alone == pytest.approx(0.25, rel=0.02)
