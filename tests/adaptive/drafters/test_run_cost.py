"""Runs of sizes that were seen cost what they took; others something in between."""

from __future__ import annotations

import pytest

from miaotui.adaptive.drafters.run_cost import RunCost


def test_before_any_was_seen_a_run_costs_its_share_of_the_large_model() -> None:
    cost = RunCost(0.25)
    assert cost.of(1, alone=2.0) == pytest.approx(0.5)
    assert 0.5 < cost.of(4, alone=2.0) < 1.0


def test_one_disturbed_run_decides_nothing() -> None:
    cost = RunCost(0.25)
    for seconds in (0.1, 5.0, 0.1, 0.1):
        cost.observe(1, seconds)
    assert cost.of(1, alone=9.0) == pytest.approx(0.1)


def test_sizes_in_between_cost_something_in_between() -> None:
    cost = RunCost(0.25)
    cost.observe(1, 0.1)
    cost.observe(8, 0.4)
    assert cost.of(1, 1.0) < cost.of(2, 1.0) < cost.of(6, 1.0) < cost.of(8, 1.0)
    assert cost.of(64, 1.0) > cost.of(32, 1.0) > cost.of(8, 1.0)


def test_as_many_tokens_as_a_time_allows() -> None:
    cost = RunCost(0.25)
    cost.observe(16, 0.1)
    cost.observe(64, 0.4)
    assert cost.tokens_within(0.4, alone=1.0) == 64
    assert cost.tokens_within(0.25, alone=1.0) == 32
    assert cost.tokens_within(0.0001, alone=1.0) == 0
