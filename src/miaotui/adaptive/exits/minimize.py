"""L-BFGS (Liu and Nocedal, Mathematical Programming 45, 1989): the least value of a smooth function of many numbers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

NUM_REMEMBERED = 10
MOST_STEPS = 300
FLAT = 1e-5
"""Slopes that are nowhere steeper than this are at the bottom."""
ENOUGH_LOWER = 1e-4
"""Share of what the slope promises that a step must bring (Armijo's condition)."""
SHORTEST = 1e-12

Floats = NDArray[np.float64]
Function = Callable[[Floats], tuple[float, Floats]]
"""Its value at a place, and its slope there."""


def minimize(function: Function, start: Floats) -> Floats:
    """Where the function is least, for a convex one; a place near it where numbers are too coarse to go on."""
    place, steps = start, deque[tuple[Floats, Floats]](maxlen=NUM_REMEMBERED)
    value, slope = function(place)
    for _ in range(MOST_STEPS):
        if np.abs(slope).max() <= FLAT:
            break
        direction = -_newton(slope, steps)
        downhill = float(direction @ slope)
        length = 1.0 if steps else min(1.0, 1.0 / float(np.abs(slope).sum()))
        while True:
            ahead = place + length * direction
            there, slope_there = function(ahead)
            if there <= value + ENOUGH_LOWER * length * downhill:
                break
            length /= 2
            if length < SHORTEST:
                return place
        step, change = ahead - place, slope_there - slope
        if step @ change > SHORTEST * (step @ step):  # curved upwards, as it is everywhere but for rounding
            steps.append((step, change))
        place, value, slope = ahead, there, slope_there
    return place


def _newton(slope: Floats, steps: deque[tuple[Floats, Floats]]) -> Floats:
    """The slope times what the steps tell of the inverse curvature (the two loops of the paper's section 2)."""
    result = slope.copy()
    shares = []
    for step, change in reversed(steps):
        shares.append(float(step @ result) / float(step @ change))
        result -= shares[-1] * change
    if steps:
        step, change = steps[-1]
        result *= float(step @ change) / float(change @ change)
    for (step, change), share in zip(steps, reversed(shares), strict=True):
        result += step * (share - float(change @ result) / float(step @ change))
    return result
