"""Nobody on the frontier is beaten, and everybody else is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from miaotui.compress.compare.frontier import frontier

POINTS = st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=12)


@given(POINTS)
def test_each_point_is_on_the_frontier_or_beaten_by_one_that_is(points: list[tuple[int, ...]]) -> None:
    best = {point for point, is_best in zip(points, frontier(points), strict=True) if is_best}
    assert best
    for point in points:
        beaten = any(other != point and all(x <= y for x, y in zip(other, point, strict=True)) for other in best)
        assert beaten != (point in best)
