"""Tests and intervals are those of the textbooks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from miaotui.compress.evaluate.paired import compare_answers
from miaotui.compress.intervals import clustered_mean


def answers(both: int, lost: int, won: int, none: int) -> tuple[list[bool], list[bool]]:
    first = [True] * (both + lost) + [False] * (won + none)
    second = [True] * both + [False] * lost + [True] * won + [False] * none
    return first, second


def test_mcnemar_is_the_toss_of_a_coin() -> None:
    found = compare_answers(*answers(40, 9, 1, 10))
    assert (found.lost, found.won) == (9, 1)
    assert found.p_value == pytest.approx(2 * (1 + 10) / 2**10)  # heads at most once in ten, either way
    assert found.is_real
    assert found.difference.value == pytest.approx(-8 / 60)
    assert found.difference.low < -8 / 60 < found.difference.high < 0
    assert not compare_answers(*answers(40, 6, 4, 10)).is_real
    assert compare_answers(*answers(5, 0, 0, 5)).p_value == 1.0
    many = compare_answers(*answers(0, 30_000, 31_000, 0))  # no overflow
    assert 0 < many.p_value < 0.001


def test_chance_alone_is_called_real_no_more_often_than_stated() -> None:
    rng = np.random.default_rng(5)
    called = covered = 0
    for _ in range(1000):
        first, second = rng.random((2, 200)) < 0.6  # two models alike
        found = compare_answers(first.tolist(), second.tolist())
        called += found.is_real
        covered += found.difference.low <= 0 <= found.difference.high
    assert called <= 50 + 3 * math.sqrt(1000 * 0.05 * 0.95)
    assert covered >= 950 - 3 * math.sqrt(1000 * 0.05 * 0.95)


@pytest.mark.parametrize(("groups", "point"), [(2, 12.706), (3, 4.303), (4, 3.182), (6, 2.571), (16, 2.131), (61, 2.0)])
def test_groups_of_one_size_have_students_interval(groups: int, point: float) -> None:
    values = np.random.default_rng(groups).normal(3, 1, groups)
    got = clustered_mean((values * 10).tolist(), [10] * groups)
    assert got.value == pytest.approx(values.mean())
    half = point * values.std(ddof=1) / math.sqrt(groups)
    assert (got.low, got.high) == (
        pytest.approx(values.mean() - half, rel=2e-3),
        pytest.approx(values.mean() + half, rel=2e-3),
    )


def test_one_group_tells_nothing_of_the_spread() -> None:
    assert clustered_mean([4.0], [2]).low == -math.inf
    assert not clustered_mean([4.0], [2]).is_real
