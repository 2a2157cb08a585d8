from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miaotui import _native
from miaotui.errors import ModelFileError
from native.matrices import TIERS

KERNELS = {"dot_rows_i8"}


@given(rows=st.integers(0, 40), columns=st.integers(1, 24), seed=st.integers(0, 2**32 - 1))
def test_dot_products_of_codes_are_exact_on_every_tier(rows: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(-128, 128, (rows, 32 * columns), dtype=np.int8)
    query = rng.integers(-128, 128, 32 * columns, dtype=np.int8)
    want = codes.astype(np.int64) @ query.astype(np.int64)
    for tier in TIERS:
        assert np.array_equal(_native.dot_rows_i8(codes, query, tier), want)


@pytest.mark.parametrize("tier", TIERS)
def test_the_largest_sum_does_not_overflow(tier: str) -> None:
    codes = np.full((1, 65536), -128, np.int8)
    assert _native.dot_rows_i8(codes, codes[0], tier).tolist() == [2**30]


@pytest.mark.parametrize(("width", "query"), [(31, 31), (64, 32), (65568, 65568)])
def test_rows_that_do_not_fit_the_query_are_refused(width: int, query: int) -> None:
    with pytest.raises(ModelFileError, match="multiple of 32"):
        _native.dot_rows_i8(np.zeros((1, width), np.int8), np.zeros(query, np.int8))
