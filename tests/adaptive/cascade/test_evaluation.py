"""What a gate does on rows apart: figures by hand, intervals that hold, curves between their ends."""

from __future__ import annotations

import numpy as np
import pytest

from adaptive.cascade.test_calibrating import MARGIN, World, case
from miaotui.adaptive.cascade import evaluate
from miaotui.adaptive.cascade.curves import by_chance, by_gate, by_oracle
from miaotui.errors import InvalidRequestError

ROWS = [case(True, True, 5.0)] * 6 + [case(False, True, 5.0)] + [case(False, True, 1.0)] * 2 + [case(True, False, 1.0)]


def test_figures_are_those_counted_by_hand() -> None:
    outcome = evaluate(ROWS, "margin", 4.0)
    found = [getattr(outcome, name).value for name in ("small", "large", "cascade", "kept_accuracy", "kept_share")]
    assert found == pytest.approx([0.7, 0.9, 0.8, 8 / 9, 0.7])
    assert outcome.cost_saved.value == pytest.approx(1 - (0.2 + 0.3))


def test_without_a_threshold_the_small_model_costs_nothing() -> None:
    outcome = evaluate(ROWS, "margin", None)
    assert (outcome.cascade.value, outcome.kept_share.value, outcome.cost_saved.value) == (0.9, 0.0, 0.0)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    held = 0
    truth = World(0).accuracy(2.0)
    for seed in range(40):
        figure = evaluate(World(seed + 1000).draw(300), "margin", 2.0).cascade
        held += figure.low <= truth <= figure.high
    assert 34 <= held <= 40


def test_that_nothing_was_lost_is_no_proof_that_nothing_is() -> None:
    """One of 200 answers is lost by the gate: hardly a draw of 300 may tell another story than its interval."""
    held = 0
    truth = (0.85 - 0.005) / 0.85
    for seed in range(100):
        draws = np.random.default_rng(seed).random(300)
        rows = [case(draw >= 0.005 and draw < 0.85, draw < 0.85, 5.0) for draw in draws]
        figure = evaluate(rows, "margin", 1.0).kept_accuracy
        held += figure.low <= truth <= figure.high
    assert held >= 95
    asked = evaluate(rows, "margin", None).kept_accuracy
    assert (asked.low, asked.value, asked.high) == (1.0, 1.0, 1.0)


def test_no_rows_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match="no rows"):
        evaluate([], "margin", 1.0)


def test_curves_go_from_the_large_model_to_the_small_one() -> None:
    rows = World(5).draw(500)
    gate, chance, oracle = by_gate(rows, MARGIN), by_chance(rows), by_oracle(rows)
    large, small = np.mean([r.large_right for r in rows]), np.mean([r.small_right for r in rows])
    assert chance[0] == pytest.approx((1.0, large))
    assert chance[-1] == pytest.approx((0.2, small))
    assert gate[-1] == pytest.approx((0.2, small))
    assert oracle[-1] == pytest.approx((0.2, small))
    assert oracle[0][1] == pytest.approx(np.mean([r.large_right or r.small_right for r in rows]))
    costs = [cost for cost, _ in gate]
    assert costs == sorted(costs, reverse=True)
    for cost, accuracy in gate:  # nothing is better than the oracle at its cost
        best = max((a for c, a in oracle if c <= cost + 0.03), default=1.0)
        assert accuracy <= best + 0.02
