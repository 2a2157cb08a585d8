from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from miaotui import _native
from native.budgets import FLOOR, allowed
from native.matrices import TIERS, assert_same_bits, assert_within, make_activations

KERNELS = {"depthwise", "max_rows"}
SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=60)
@given(
    height=st.integers(1, 3),
    width=st.integers(1, 7),
    rows=st.integers(1, 21),
    columns=st.sampled_from([16, 48, 64]),
    terms=st.integers(1, 3),
    seed=SEEDS,
)
def test_depthwise_keeps_its_budget_and_its_bits(
    height: int, width: int, rows: int, columns: int, terms: int, seed: int
) -> None:
    line = rows + width - 1
    x = make_activations(height * line, columns, "mixed", seed)
    filters = make_activations(terms * height * width, columns, "normal", seed + 1)
    got = {tier: _native.kernel_depthwise(tier, x, filters, height, width, line) for tier in TIERS}
    for tier in TIERS[1:]:
        assert_same_bits(got[tier], got["scalar"], tier)
    image = x.astype(np.float64).reshape(height, line, columns)
    seen = np.lib.stride_tricks.sliding_window_view(image, (height, width), axis=(0, 1))[0]  # [rows][columns][h][w]
    kernels = filters.astype(np.float64).reshape(terms, height, width, columns)
    want = np.einsum("nchw,thwc->ntc", seen, kernels).reshape(rows, -1)
    magnitude = np.einsum("nchw,thwc->ntc", np.abs(seen), np.abs(kernels)).reshape(rows, -1)
    assert_within(got["scalar"], want, allowed("depthwise", height * width) * magnitude + FLOOR)


@given(rows=st.integers(2, 20), seed=SEEDS)
def test_a_row_has_the_same_bits_whatever_rows_are_computed_with_it(rows: int, seed: int) -> None:
    x, filters = make_activations(rows + 4, 32, "mixed", seed), make_activations(5, 32, "normal", seed + 1)
    for tier in TIERS:
        whole = _native.kernel_depthwise(tier, x, filters, 1, 5, rows + 4)
        alone = [
            _native.kernel_depthwise(tier, np.ascontiguousarray(x[i : i + 5]), filters, 1, 5, 5) for i in range(rows)
        ]
        assert_same_bits(np.concatenate(alone), whole, tier)


@given(n=st.integers(1, 70), seed=SEEDS)
def test_the_larger_value_is_taken_and_what_is_not_a_number_stays(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (make_activations(1, n, "mixed", seed + i)[0] for i in range(2))
    a[rng.random(n) < 0.1] = np.nan
    b[rng.random(n) < 0.1] = np.nan
    b[rng.random(n) < 0.1] = np.inf
    want = np.maximum(a, b)  # NumPy's is NaN where either is
    for tier in TIERS:
        np.testing.assert_array_equal(_native.kernel_max(tier, a, b), want, err_msg=tier)
