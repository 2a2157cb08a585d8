from __future__ import annotations

import numpy as np
import pytest

from miaotui import _native
from native.matrices import TIERS

KERNELS = {"peak_dot", "peak_fma", "peak_read"}
LANES = {"scalar": 1, "avx2": 8, "avx512": 16, "avx512_vnni": 16}


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("rounds", [0, 1, 37])
def test_the_ceiling_counts_the_operations_it_did(tier: str, rounds: int) -> None:
    x = np.full(1536, 3, np.uint8)
    # 12 chains of 8 quads of 4 products, each a multiplication and an addition, per lane
    # and 12 chains of one product
    assert _native.kernel_peak(tier, rounds, x) == (
        rounds * 12 * 8 * 4 * 2 * LANES[tier],
        rounds * 12 * 2 * LANES[tier],
    )
    assert np.all(x == 3)


def test_measured_ceilings_are_positive() -> None:
    ceilings = _native.measure_ceilings()
    assert set(ceilings) == {"read_gb_per_s", "int8_gops", "f32_gflops"}
    assert all(value > 0 for value in ceilings.values())
