"""Thresholds: the floor holds as often as stated, and exits that do not pay are left out."""

from __future__ import annotations

import numpy as np
import pytest

from miaotui.adaptive.exits.choosing import THRESHOLDS, calibrate, choose_exits
from miaotui.adaptive.exits.seen import ASKING_LAYERS, Seen
from miaotui.errors import InvalidRequestError

DEPTHS = (1, 2, 4)


def drawn(count: int, seed: int, gain: float = 0.1) -> Seen:
    """Rows whose exits are right as often as they say, and whole depths a little oftener, independently."""
    rng = np.random.default_rng(seed)
    sure = np.sort(0.5 + 0.5 * rng.random((count, 2)), axis=1)
    whole = np.minimum(sure[:, 1] + gain, 1.0)
    right = rng.random((count, 3)) < np.column_stack([sure, whole])
    return Seen(DEPTHS, sure, right, rng.integers(5, 30, count))


def accuracies(threshold: float | None) -> tuple[float, float]:
    """Of leaving by a threshold, and of the whole depth, over all rows there could be."""
    seen = drawn(400_000, 12345)
    return float(seen.early_right(threshold).mean()), float(seen.whole_right.mean())


@pytest.mark.parametrize(("floor", "confidence"), [(0.97, 0.9), (0.93, 0.8)])
def test_the_floor_is_broken_no_more_often_than_stated(floor: float, confidence: float) -> None:
    """120 calibrations on rows of their own; each is judged by all rows there could be."""
    draws, broken, used = 120, 0, 0
    known: dict[float | None, bool] = {}
    for seed in range(draws):
        found = calibrate(drawn(400, seed), floor, confidence).threshold
        if found not in known:
            early, whole = accuracies(found)
            known[found] = early < floor * whole
        used += found is not None
        broken += known[found]
    assert used > draws / 2
    error = (1 - confidence) * draws
    assert broken <= error + 2 * error**0.5


def test_a_lower_floor_lets_more_leave_earlier() -> None:
    seen = drawn(4000, 1)
    found = [calibrate(seen, floor, 0.95) for floor in (0.99, 0.97, 0.9)]
    assert [one.mean_layers for one in found] == sorted((one.mean_layers for one in found), reverse=True)
    assert found[0].work > found[2].work
    assert sum(found[2].leaving) == pytest.approx(1.0)


def test_figures_are_those_of_the_rows() -> None:
    sure = np.array([[0.9, 0.95], [0.6, 0.97], [0.5, 0.6]])
    right = np.array([[True, True, False], [False, True, True], [False, False, True]])
    seen = Seen(DEPTHS, sure, right, np.array([10, 20, 30]))
    assert seen.leaving(0.9).tolist() == [0, 1, 2]
    assert seen.leaving(None).tolist() == [2, 2, 2]
    assert seen.early_right(0.9).tolist() == [True, True, True]
    assert seen.lost_and_won(0.9) == (0, 1)
    assert seen.lost_and_won(0.0) == (2, 1)
    assert seen.work(None).tolist() == [40, 80, 120]
    asking = ASKING_LAYERS * np.array([1, 2, 2])
    np.testing.assert_allclose(seen.work(0.9), np.array([10, 20, 30]) * (np.array([1, 2, 4]) + asking))
    only = seen.only([1])
    assert (only.depths, only.leaving(0.9).tolist()) == ((2, 4), [0, 0, 1])
    assert only.right.tolist() == right[:, 1:].tolist()


def test_an_exit_that_knows_nothing_is_left_out() -> None:
    rng = np.random.default_rng(0)
    count = 2000
    good = rng.random(count) < 0.9
    whole = np.where(rng.random(count) < 0.99, good, ~good)
    sure = np.column_stack([np.full(count, 0.5), np.full(count, 0.9)])
    right = np.column_stack([rng.random(count) < 0.5, good, whole])
    assert choose_exits(Seen(DEPTHS, sure, right, np.full(count, 10)), 0.95) == [1]
    bad = np.column_stack([rng.random((count, 2)) < 0.5, whole])
    assert choose_exits(Seen(DEPTHS, sure, bad, np.full(count, 10)), 0.99) == []


def test_without_a_safe_threshold_it_says_why_and_nothing_leaves() -> None:
    found = calibrate(drawn(60, 0), 0.99, 0.95)
    assert (found.threshold, found.work, found.mean_layers) == (None, 1.0, 4.0)
    assert "60 rows show too little, at least" in found.why
    assert found.leaving == (0.0, 0.0, 1.0)
    assert "lower the floor" in calibrate(drawn(60, 0), 1.0, 0.95).why
    sure = np.full((3000, 2), 0.99999)
    right = np.column_stack([np.zeros((3000, 2), bool), np.ones(3000, bool)])
    wrong = Seen(DEPTHS, sure, right, np.full(3000, 9))
    assert "wrong too often" in calibrate(wrong, 0.99, 0.95).why
    assert "no exit before the last layer" in calibrate(wrong.only([]), 0.99, 0.95).why


def test_thresholds_are_surest_first_and_end_with_everything() -> None:
    assert list(THRESHOLDS) == sorted(set(THRESHOLDS), reverse=True)
    assert (THRESHOLDS[0], THRESHOLDS[-1]) == (0.9999, 0.0)


@pytest.mark.parametrize(("floor", "confidence"), [(0.0, 0.9), (1.1, 0.9), (0.9, 0.4), (0.9, 1.0), (float("nan"), 0.9)])
def test_floors_and_confidences_are_shares(floor: float, confidence: float) -> None:
    with pytest.raises(InvalidRequestError, match="floor must be"):
        calibrate(drawn(30, 0), floor, confidence)
