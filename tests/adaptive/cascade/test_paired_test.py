"""The test of paired shares: its figures by brute force, and that it errs no more often than it says."""

from __future__ import annotations

import math
from math import comb

import pytest

from miaotui.adaptive.cascade.binomial import lower_share, upper_share
from miaotui.adaptive.cascade.paired_test import p_value

MISSED = 0.002


def score(lost: int, won: int, count: int, margin: float) -> float:
    return (lost - won - count * margin) / math.sqrt(lost + won + count * margin / 2 + 1)


def chance_of_as_good(lost: int, won: int, count: int, margin: float, rate: float) -> float:
    """All outcomes that speak as much for the claim, added up one by one."""
    b, c = (rate + margin) / 2, (rate - margin) / 2
    seen = score(lost, won, count, margin)
    return sum(
        comb(count, x) * comb(count - x, y) * b**x * c**y * (1 - b - c) ** (count - x - y)
        for x in range(count + 1)
        for y in range(count + 1 - x)
        if score(x, y, count, margin) <= seen + 1e-9
    )


def by_brute_force(lost: int, won: int, count: int, margin: float) -> float:
    low = max(lower_share(lost + won, count, MISSED / 2), margin)
    high = upper_share(lost + won, count, MISSED / 2)
    rates = [low * (high / low) ** (at / 400) for at in range(401)]
    return min(max(chance_of_as_good(lost, won, count, margin, rate) for rate in rates) + MISSED, 1.0)


@pytest.mark.parametrize(
    ("lost", "won", "margin"), [(0, 0, 0.1), (1, 0, 0.15), (0, 2, 0.05), (2, 1, 0.2), (1, 4, 0.1), (0, 5, 0.01)]
)
def test_it_is_what_adding_up_all_outcomes_gives(lost: int, won: int, margin: float) -> None:
    assert p_value(lost, won, 24, margin, MISSED) == pytest.approx(by_brute_force(lost, won, 24, margin), rel=0.02)


def test_between_the_rates_that_are_tried_it_moves_little() -> None:
    for lost, won in ((0, 0), (3, 4), (8, 9), (0, 12)):
        tried = [p_value(lost, won, 700, 0.009, MISSED)]
        assert tried[0] <= 1.0
        low, high = 0.009, upper_share(lost + won, 700, MISSED / 2)
        between = [low * (high / low) ** ((at + 0.5) / 63) for at in range(0, 63, 9)]
        for rate in between:
            assert chance_many(lost, won, 700, 0.009, rate) <= tried[0] * 1.03


def chance_many(lost: int, won: int, count: int, margin: float, rate: float) -> float:
    """The same as above, with logarithms, over outcomes that are not beyond belief."""
    b, c = (rate + margin) / 2, max((rate - margin) / 2, 1e-300)
    seen, most, total = score(lost, won, count, margin), min(count, 90), 0.0
    for x in range(most):
        for y in range(most - x):
            if score(x, y, count, margin) <= seen + 1e-9:
                ways = math.lgamma(count + 1) - math.lgamma(x + 1) - math.lgamma(y + 1) - math.lgamma(count - x - y + 1)
                total += math.exp(ways + x * math.log(b) + y * math.log(c) + (count - x - y) * math.log1p(-b - c))
    return total


@pytest.mark.parametrize("rate", [0.06, 0.1, 0.3])
def test_where_the_claim_is_false_it_is_made_no_more_often_than_stated(rate: float) -> None:
    """All outcomes on the claim's border: those on which it would be made are rare enough together."""
    count, margin, level = 60, 0.06, 0.05
    b, c = (rate + margin) / 2, (rate - margin) / 2
    wrong = 0.0
    for x in range(count + 1):
        for y in range(count + 1 - x):
            weight = comb(count, x) * comb(count - x, y) * b**x * c**y * (1 - b - c) ** (count - x - y)
            if weight > 1e-6 and p_value(x, y, count, margin, MISSED) <= level:
                wrong += weight
    assert 0.0 < wrong <= level


def test_more_lost_speaks_against_it_and_more_won_for_it() -> None:
    by_lost = [p_value(lost, 3, 500, 0.02, MISSED) for lost in range(8)]
    by_won = [p_value(6, won, 500, 0.02, MISSED) for won in range(8)]
    assert by_lost == sorted(by_lost)
    assert by_won == sorted(by_won, reverse=True)
    assert p_value(11, 0, 500, 0.02, MISSED) == 1.0


def test_without_a_margin_only_being_better_counts() -> None:
    assert p_value(0, 0, 100, 0.0, MISSED) == 1.0
    assert p_value(0, 12, 100, 0.0, MISSED) < 0.01
