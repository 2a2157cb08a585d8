"""Sums over steps are the sums over all rows, in matrices of any width."""

from __future__ import annotations

import numpy as np
import pytest

from miaotui.compress.calibrate.moments import STRIP_COLUMNS, HessianSum, InfluenceSum


@pytest.mark.parametrize("columns", [1, STRIP_COLUMNS, 2 * STRIP_COLUMNS + 7])
def test_hessians_of_several_strips_are_whole(columns: int) -> None:
    rng = np.random.default_rng(1)
    rows = [rng.normal(size=(count, columns)).astype(np.float32) for count in (5, 1, 40)]
    sums = HessianSum(columns)
    for x in rows:
        sums.add(x)
    got, x = sums.result(), np.concatenate(rows).astype(np.float64)
    np.testing.assert_allclose(got, x.T @ x / len(x), atol=1e-5)
    np.testing.assert_array_equal(got, got.T)
    with pytest.raises(ValueError, match="read-only"):
        got[0, 0] = 1


def test_a_row_of_zeros_has_no_direction() -> None:
    rows = np.array([[3, 4], [0, 0]], np.float32)
    sums = InfluenceSum()
    sums.add(rows, 2 * rows)
    assert sums.influence() == pytest.approx(0.5)
