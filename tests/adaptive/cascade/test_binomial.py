"""Probabilities of hits are those that adding up fractions gives."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import numpy as np
import pytest

from miaotui.adaptive.cascade.binomial import at_most, lower_share, probabilities, upper_share


def exact_at_most(hits: int, count: int, share: Fraction) -> float:
    return float(sum(comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(hits + 1)))


@pytest.mark.parametrize("count", [1, 2, 7, 40, 150])
@pytest.mark.parametrize("share", [Fraction(1, 1000), Fraction(1, 7), Fraction(1, 2), Fraction(99, 100)])
def test_sums_are_those_of_fractions(count: int, share: Fraction) -> None:
    hits = np.arange(-1, count + 2)
    found = at_most(hits, count, float(share))
    wanted = [0.0, *(exact_at_most(k, count, share) for k in range(count + 1)), 1.0]
    assert found == pytest.approx(wanted, abs=1e-11)
    assert np.cumsum(probabilities(count, float(share))) == pytest.approx(wanted[1:-1], abs=1e-11)


def test_shares_at_their_ends() -> None:
    assert at_most([0, 3, 5], 5, 0.0).tolist() == [1.0, 1.0, 1.0]
    assert at_most([0, 4, 5], 5, 1.0).tolist() == [0.0, 0.0, 1.0]


def test_many_trials_neither_overflow_nor_lose_their_digits() -> None:
    assert at_most(500, 1000, 0.5) == pytest.approx(0.5 + float(Fraction(comb(1000, 500), 2**1001)), abs=1e-10)
    assert at_most(50_000, 100_000, 0.5) == pytest.approx(0.5012615, abs=1e-6)


@pytest.mark.parametrize(("hits", "count"), [(0, 30), (3, 30), (29, 30), (30, 30)])
def test_a_bound_is_where_so_few_hits_are_just_so_improbable(hits: int, count: int) -> None:
    bound = upper_share(hits, count, 0.05)
    if hits == count:
        assert bound == 1.0
    else:
        assert at_most(hits, count, bound) == pytest.approx(0.05, abs=1e-6)
    assert lower_share(count - hits, count, 0.05) == pytest.approx(1 - bound)


def test_no_hits_give_the_rule_of_three() -> None:
    assert upper_share(0, 300, 0.05) == pytest.approx(1 - 0.05 ** (1 / 300), abs=1e-8)
