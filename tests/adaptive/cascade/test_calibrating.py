"""Thresholds: the floor holds as often as stated, a lower one saves more, and nothing is claimed that is not shown."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np
import pytest

from miaotui.adaptive.cascade import Case, calibrate
from miaotui.adaptive.cascade.calibrating import least_cases, safe_thresholds
from miaotui.adaptive.cascade.signals import SIGNALS
from miaotui.errors import InvalidRequestError

MARGIN, ENTROPY = SIGNALS["margin"], SIGNALS["entropy"]


def case(small: bool, large: bool, margin: float, **changes: Any) -> Case:
    return replace(Case(small, large, 0.2, 1.0, {"margin": margin, "entropy": -1.0}, {}), **changes)


class World:
    """Rows drawn at random: the surer the small model is, the likelier it is right."""

    def __init__(self, seed: int, *, large_right: float = 0.9) -> None:
        self._rng = np.random.default_rng(seed)
        self._large_right = large_right

    def draw(self, count: int) -> list[Case]:
        margins = self._rng.exponential(2.0, count)
        small = self._rng.random(count) < self.small_right(margins)
        large = self._rng.random(count) < self._large_right
        return [case(bool(one), bool(other), m) for one, other, m in zip(small, large, margins.tolist(), strict=True)]

    @staticmethod
    def small_right(margins: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-0.5 - margins))

    def accuracy(self, threshold: float | None) -> float:
        """Of the cascade, over all rows there could be."""
        margins = np.random.default_rng(0).exponential(2.0, 400_000)
        kept = margins >= (np.inf if threshold is None else threshold)
        return float(np.where(kept, self.small_right(margins), self._large_right).mean())


@pytest.mark.parametrize(("floor", "confidence"), [(0.95, 0.9), (0.9, 0.8)])
def test_the_floor_is_broken_no_more_often_than_stated(floor: float, confidence: float) -> None:
    """150 calibrations on rows of their own; each is judged by all rows there could be."""
    draws, broken, used = 150, 0, 0
    for seed in range(draws):
        world = World(seed)
        found = calibrate(world.draw(250), [MARGIN], floor, confidence)
        used += found.threshold is not None
        broken += world.accuracy(found.threshold) < floor * 0.9
    assert used > draws / 2  # or there would be nothing to break
    error = (1 - confidence) * draws
    assert broken <= error + 2 * error**0.5


def test_a_lower_floor_and_more_rows_keep_more_small_answers() -> None:
    rows = World(1).draw(3000)
    kept = [calibrate(rows, [MARGIN], floor, 0.95).kept_share for floor in (0.99, 0.97, 0.9)]
    assert kept == sorted(kept)
    assert kept[0] < kept[-1]
    few = [calibrate(rows[at : at + 250], [MARGIN], 0.97, 0.95).kept_share for at in range(0, 3000, 250)]
    assert fmean(few) < kept[1] - 0.1


def test_without_enough_rows_it_says_how_many_are_needed() -> None:
    rows = [case(True, True, 9.0)] * 100
    found = calibrate(rows, [MARGIN], 0.99, 0.95)
    assert (found.threshold, found.kept_share, found.cost_ratio) == (None, 0.0, 1.0)
    needed = least_cases(0.99, 0.95, 1.0)
    assert needed is not None
    assert f"at least {needed} are needed" in found.why
    assert calibrate([case(True, True, 9.0)] * (needed + 60), [MARGIN], 0.99, 0.95).threshold is not None


def test_a_small_model_that_is_sure_and_wrong_is_never_let_pass() -> None:
    rows = [case(number % 4 > 0, True, 99.0) for number in range(2000)]
    found = calibrate(rows, [MARGIN], 0.99, 0.95)
    assert found.threshold is None
    assert "wrong too often" in found.why
    assert found.cascade_accuracy == found.large_accuracy


def test_a_gate_that_costs_more_than_it_saves_is_none() -> None:
    found = calibrate([case(True, True, 9.0, small_s=1.5)] * 1000, [MARGIN], 0.9, 0.95)
    assert found.threshold is None
    assert "1.50 times" in found.why


def test_a_small_model_that_is_better_always_suffices() -> None:
    rows = [case(True, number % 5 > 0, 0.0) for number in range(500)]
    found = calibrate(rows, [MARGIN], 0.99, 0.95)
    assert found.threshold == MARGIN.thresholds[-1]
    assert (found.kept_share, found.cascade_accuracy) == (1.0, 1.0)
    assert found.cost_ratio == pytest.approx(0.2)


def test_no_rows_can_show_that_nothing_at_all_is_lost() -> None:
    found = calibrate([case(True, number % 5 > 0, 0.0) for number in range(500)], [MARGIN], 1.0, 0.95)
    assert found.threshold is None
    assert "lower the floor" in found.why


def test_several_signals_share_the_error_and_the_cheapest_gate_is_taken() -> None:
    rows = World(3).draw(800)
    both = calibrate(rows, [ENTROPY, MARGIN], 0.95, 0.9)
    assert both.signal == "margin"  # entropy is the same for all rows here
    assert both.threshold == safe_thresholds(rows, MARGIN, 0.95, 0.05)[-1]
    assert both.kept_share <= calibrate(rows, [MARGIN], 0.95, 0.9).kept_share


def test_safe_thresholds_end_at_the_first_that_fails() -> None:
    rows = [case(True, True, 5.0)] * 500 + [case(False, True, 3.0)] * 100 + [case(True, False, 1.0)] * 400
    safe = safe_thresholds(rows, MARGIN, 0.98, 0.05)
    assert safe[0] == MARGIN.thresholds[0]
    assert safe[-1] == min(
        threshold for threshold in MARGIN.thresholds if threshold > 3.0
    )  # although all answers together would be better than the large model's


@pytest.mark.parametrize(("floor", "confidence"), [(0.0, 0.9), (1.1, 0.9), (0.9, 0.4), (0.9, 1.0), (float("nan"), 0.9)])
def test_floors_and_confidences_are_shares(floor: float, confidence: float) -> None:
    with pytest.raises(InvalidRequestError, match="floor must be"):
        calibrate([case(True, True, 1.0)], [MARGIN], floor, confidence)


def test_nothing_to_calibrate_on_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="labelled rows"):
        calibrate([], [MARGIN], 0.9, 0.9)
