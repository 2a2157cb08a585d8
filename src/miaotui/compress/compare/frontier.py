"""Which models nobody beats: for each of the others there is one that is at least as good in all, and better in one."""

from __future__ import annotations

from collections.abc import Sequence


def frontier(points: Sequence[Sequence[float]]) -> list[bool]:
    """Whether each point is on the Pareto frontier; all coordinates are better the smaller they are."""
    return [not any(_beats(other, point) for other in points) for point in points]


def _beats(a: Sequence[float], b: Sequence[float]) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))
