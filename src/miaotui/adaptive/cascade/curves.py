"""Accuracy against cost on labelled rows: of a gate at all thresholds, of routing by chance, of a gate that knows."""

from __future__ import annotations

from collections.abc import Sequence as Row

import numpy as np

from miaotui.adaptive.cascade.case import Case
from miaotui.adaptive.cascade.signals import Signal

Point = tuple[float, float]
"""Seconds in those of the large model alone, and accuracy."""
NUM_STEPS = 20


def by_gate(cases: Row[Case], signal: Signal) -> list[Point]:
    """A point for each threshold, from asking the large model always on."""
    return [_gated(cases, signal.name, [case.values[signal.name] >= t for case in cases]) for t in signal.thresholds]


def by_chance(cases: Row[Case]) -> list[Point]:
    """Either model alone, drawn with some probability: nobody asks both, and nothing has to be decided."""
    large_s, large = np.mean([case.large_s for case in cases]), np.mean([case.large_right for case in cases])
    small_s, small = np.mean([case.small_s for case in cases]), np.mean([case.small_right for case in cases])
    shares = np.linspace(0, 1, NUM_STEPS + 1)
    return [(float(1 + (small_s / large_s - 1) * one), float(large + (small - large) * one)) for one in shares]


def by_oracle(cases: Row[Case]) -> list[Point]:
    """A gate that asks the large model only where it is right and the small one wrong, some of those at least."""
    needed = [at for at, case in enumerate(cases) if case.large_right and not case.small_right]
    points = []
    for share in np.linspace(1, 0, NUM_STEPS + 1):
        asked = set(needed[: round(share * len(needed))])
        points.append(_gated(cases, "", [at not in asked for at in range(len(cases))]))
    return points


def _gated(cases: Row[Case], signal: str, kept: Row[bool]) -> Point:
    large_s = np.mean([case.large_s for case in cases])
    cost_s = np.mean(
        [case.kept_s(signal) + (0 if own else case.large_s) for own, case in zip(kept, cases, strict=True)]
    )
    right = np.mean([case.small_right if own else case.large_right for own, case in zip(kept, cases, strict=True)])
    return float(cost_s / large_s), float(right)
