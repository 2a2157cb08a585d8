from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miaotui import _native
from native import oracles
from native.budgets import FLOOR, allowed
from native.matrices import TIERS, Floats, assert_same_bits, assert_within, make_activations, some_activations

KERNELS = {"quantize_groups"}
DTYPES = {False: "q8", True: "q16"}
wide_or_not = pytest.mark.parametrize("wide", [False, True], ids=["int8", "int16"])


def some_rows() -> st.SearchStrategy[Floats]:
    return st.integers(1, 12).flatmap(lambda groups: some_activations(32 * groups, max_tokens=9))


@wide_or_not
@given(x=some_rows())
def test_codes_are_the_nearest_and_all_tiers_write_the_same_bytes(wide: bool, x: Floats) -> None:
    rows = _native.kernel_quantize("scalar", x, wide)
    assert rows.shape == (x.shape[0], _native.row_bytes(DTYPES[wide], x.shape[1]))
    for tier in TIERS[1:]:
        np.testing.assert_array_equal(_native.kernel_quantize(tier, x, wide), rows, err_msg=tier)
    decoded = oracles.read_rows(rows, x.shape[1], wide).values
    steps = allowed("quantize_groups", wide) * oracles.group_steps(x, wide)
    assert_within(decoded, x.astype(np.float64), steps + FLOOR)


@given(x=some_rows())
def test_int16_high_bytes_and_scales_round_as_numpy_does(x: Floats) -> None:
    rows = _native.kernel_quantize("scalar", x, True)
    codes, scales = oracles.quantize(x)
    groups = rows[:, : 2 * x.shape[1]].reshape(x.shape[0], -1, 64)[..., :32]
    np.testing.assert_array_equal(np.ascontiguousarray(groups).view(np.int8).reshape(x.shape), codes)
    assert_same_bits(oracles.read_rows(rows, x.shape[1], True).scale, scales * np.float32(2**-8))


@pytest.mark.parametrize("tier", TIERS)
@given(x=some_rows(), outlier=st.floats(0.5, 1e4), column=st.integers(0, 31))
def test_the_quad_with_the_largest_value_of_an_int8_group_has_16_bits(
    tier: str, x: Floats, outlier: float, column: int
) -> None:
    x[:, column] = outlier  # the others of its group are about as large or drowned by it
    rows, magnitudes = oracles.quantized_rows(tier, x, False), oracles.quad_magnitudes(x)
    chosen = np.take_along_axis(magnitudes, rows.high_quad.astype(np.int64)[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(chosen, magnitudes.max(axis=-1), rtol=1e-6)  # any of those as good as equal
    steps = oracles.group_steps(x, False)
    assert_within(rows.values, x.astype(np.float64), allowed("quantize_groups", False) * steps + FLOOR)


@wide_or_not
@given(x=some_rows())
def test_the_sums_beside_the_codes_are_theirs(wide: bool, x: Floats) -> None:
    rows = oracles.quantized_rows("scalar", x, wide)
    halves = rows.codes.reshape(x.shape[0], -1, 2, 16).sum(axis=3)
    groups = halves.sum(axis=2)
    np.testing.assert_array_equal(rows.negative, -groups)
    np.testing.assert_array_equal(rows.half_negative, -halves)
    assert_same_bits(rows.sum + np.float32(0), rows.scale * groups.astype(np.float32) + np.float32(0))


@wide_or_not
@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, 15, 16, 31, 40])
def test_what_is_not_finite_stays_visible(column: int, poison: float, tier: str, wide: bool) -> None:
    # Quantized to ordinary numbers it would hide a damaged model from the check of the logits.
    x = make_activations(1, 64, "normal", 0)
    x[0, column] = poison
    scale = oracles.quantized_rows(tier, x, wide).scale[0]
    assert not np.isfinite(scale[column // 32])
    assert np.isfinite(scale[1 - column // 32])


@wide_or_not
@settings(max_examples=20)
@given(x=some_rows())
def test_a_group_does_not_depend_on_its_neighbours(wide: bool, x: Floats) -> None:
    together = oracles.quantized_rows(TIERS[-1], x, wide)
    for g in range(x.shape[1] // 32):
        alone = oracles.quantized_rows(TIERS[-1], np.ascontiguousarray(x[:, 32 * g : 32 * g + 32]), wide)
        np.testing.assert_array_equal(alone.codes, together.codes[:, 32 * g : 32 * g + 32])
        assert_same_bits(alone.scale[:, 0], np.ascontiguousarray(together.scale[:, g]))
