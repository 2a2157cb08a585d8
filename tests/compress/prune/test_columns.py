"""Inputs that the others can stand in for go first, and the others do stand in for them."""

from __future__ import annotations

import numpy as np
import pytest

from miaotui.compress.prune import columns
from miaotui.compress.prune.columns import compensation, least_by_hessian, least_by_moments

RNG = np.random.default_rng(11)


@pytest.fixture(autouse=True)
def _hardly_damped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "DAMPING", 1e-6)


def correlated(count: int, width: int) -> np.ndarray:
    """Inputs [count, width] that tell of one another."""
    return (RNG.normal(size=(count, width // 2)) @ RNG.normal(size=(width // 2, width))).astype(np.float32) + 0.1 * (
        RNG.normal(size=(count, width)).astype(np.float32)
    )


def hessian_of(x: np.ndarray) -> np.ndarray:
    return (x.T.astype(np.float64) @ x / len(x)).astype(np.float32)


def least_squares_error(x: np.ndarray, weight: np.ndarray, kept: np.ndarray) -> float:
    """The smallest mean |W x - V x_kept|² of any V."""
    y = (x @ weight.T).astype(np.float64)
    fitted = np.linalg.lstsq(x[:, kept].astype(np.float64), y, rcond=None)[0]
    return float(np.square(y - x[:, kept] @ fitted).sum(axis=1).mean())


@pytest.mark.parametrize("group", [1, 3])
def test_costs_are_what_least_squares_cannot_make_up_for(group: int) -> None:
    x, weight = correlated(400, 12), RNG.normal(size=(5, 12)).astype(np.float32)
    inverse = np.linalg.inv(hessian_of(x).astype(np.float64)).astype(np.float32)
    every = np.arange(12)
    expected = [
        least_squares_error(x, weight, np.setdiff1d(every, every[at : at + group])) for at in range(0, 12, group)
    ]
    np.testing.assert_allclose(columns._costs(weight, inverse, np.ones(12 // group, np.bool_)), expected, rtol=1e-2)


@pytest.mark.parametrize("group", [1, 2])
def test_groups_go_one_after_another_by_their_cost(group: int) -> None:
    x, weight = correlated(400, 12), RNG.normal(size=(5, 12)).astype(np.float32)
    left = list(range(12 // group))
    while len(left) > 3:
        error = {
            at: least_squares_error(x, weight, columns._columns(np.array([g for g in left if g != at]), group))
            for at in left
        }
        left.remove(min(error, key=error.__getitem__))
    np.testing.assert_array_equal(least_by_hessian(weight, hessian_of(x), group, 3), left)


def test_compensation_is_least_squares() -> None:
    x, weight = correlated(400, 12), RNG.normal(size=(5, 12)).astype(np.float32)
    kept = np.array([0, 3, 4, 7, 10, 11])
    mixed = weight @ compensation(hessian_of(x), kept)
    error = float(np.square(x @ weight.T - x[:, kept] @ mixed.T).sum(axis=1).mean())
    assert error == pytest.approx(least_squares_error(x, weight, kept), rel=1e-2)
    without = float(np.square(x @ weight.T - x[:, kept] @ weight[:, kept].T).sum(axis=1).mean())
    assert error < 0.5 * without


def test_a_twin_costs_nothing_and_is_replaced() -> None:
    x, weight = RNG.normal(size=(300, 8)).astype(np.float32), RNG.normal(size=(4, 8)).astype(np.float32)
    x[:, 5] = x[:, 2]
    kept = least_by_hessian(weight, hessian_of(x), 1, 7)
    assert set(range(8)) - set(kept.tolist()) <= {2, 5}
    np.testing.assert_allclose(x[:, kept] @ (weight @ compensation(hessian_of(x), kept)).T, x @ weight.T, atol=1e-2)
    moments = np.square(x).mean(axis=0)
    assert len(least_by_moments(weight, moments, 1, 7)) == 7


@pytest.mark.parametrize("group", [1, 4])
def test_what_is_not_read_goes_first(group: int) -> None:
    x, weight = correlated(300, 16), RNG.normal(size=(4, 16)).astype(np.float32)
    weight[:, 4:8] = 0
    x[:, 8:12] = 0
    expected = np.arange(8)[:4].tolist() + np.arange(12, 16).tolist() if group == 1 else [0, 3]
    moments = np.square(x).mean(axis=0)
    keep = 8 // group
    np.testing.assert_array_equal(least_by_moments(weight, moments, group, keep), expected)
    np.testing.assert_array_equal(least_by_hessian(weight, hessian_of(x), group, keep), expected)
