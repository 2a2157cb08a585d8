from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miaotui import _native
from native import oracles
from native.budgets import allowed
from native.matrices import TIERS, Floats, assert_same_bits, assert_within

KERNELS = {"encoder_attention"}


def head(seed: int, num_tokens: int, head_dim: int, spread: float) -> tuple[Floats, Floats, Floats]:
    rng = np.random.default_rng(seed)
    q, k, v = (rng.standard_normal((num_tokens, head_dim)).astype(np.float32) for _ in range(3))
    return (q * np.float32(spread)), k, v


@settings(max_examples=60)
@given(
    num_tokens=st.one_of(st.integers(1, 40), st.integers(1, 300)),
    head_dim=st.sampled_from([16, 32, 48, 64, 128]),
    spread=st.sampled_from([0.0, 0.3, 1.0, 4.0]),  # of the scores: from all alike to one that takes all
    seed=st.integers(0, 2**32 - 1),
)
def test_encoder_attention_keeps_its_budget_and_its_bits(
    num_tokens: int, head_dim: int, spread: float, seed: int
) -> None:
    q, k, v = head(seed, num_tokens, head_dim, spread)
    scale = float(np.float32(head_dim**-0.5))
    got = {tier: _native.kernel_encoder_attention(tier, q, k, v, scale, 0, num_tokens) for tier in TIERS}
    for tier in TIERS[1:]:
        assert_same_bits(got[tier], got["scalar"], tier)
    want, largest = oracles.encoder_attention(*(x.astype(np.float64) for x in (q, k, v)), scale)
    bound = allowed("encoder_attention", head_dim, num_tokens) * (1 + largest) * np.abs(v).max()
    assert_within(got["scalar"], want, np.full_like(want, bound))


@pytest.mark.parametrize("tier", TIERS)
def test_a_row_has_the_same_bits_whatever_rows_are_computed_with_it(tier: str) -> None:
    num_tokens = 45
    q, k, v = head(1, num_tokens, 32, 1.0)
    whole = _native.kernel_encoder_attention(tier, q, k, v, 0.2, 0, num_tokens)
    for first, end in ((0, 1), (3, 4), (3, 10), (40, 45), (7, 40)):
        part = _native.kernel_encoder_attention(tier, q, k, v, 0.2, first, end)
        assert_same_bits(part, whole[first:end], f"rows {first} to {end}")


@pytest.mark.parametrize("tier", TIERS)
def test_a_token_that_is_not_a_number_stays_visible(tier: str) -> None:
    q, k, v = head(2, 9, 16, 1.0)
    k[4, 3] = np.nan
    assert np.isnan(_native.kernel_encoder_attention(tier, q, k, v, 0.25, 0, 9)).all()
