from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from miaotui import _native
from native import oracles
from native.budgets import U, allowed
from native.matrices import TIERS, Doubles, Floats, assert_same_bits, assert_within
from native.oracles import AttentionShape

KERNELS = {"attention", "attention_split", "attention_merge"}
KV_DTYPES = ["f32", "f16", "bf16", "int16", "int8"]


@dataclass(frozen=True, slots=True)
class Case:
    """Queries [tokens][heads][head_dim] that share one KV head with keys and values [positions][head_dim]."""

    q: Floats
    k: Floats
    v: Floats
    blocks: NDArray[np.int32]
    shape: AttentionShape

    def run(self, tier: str, kv_dtype: str, tile: int, *, first: int = 0, shared: bool = False) -> Floats:
        """Attention of the tokens from `first` on."""
        q = self.q.reshape(len(self.q), -1)[first:]
        out: Floats = _native.kernel_attention(
            tier,
            kv_dtype,
            q,
            self.k,
            self.v,
            self.blocks,
            tile,
            self.shape.scale,
            self.shape.window,
            self.shape.softcap,
            shared,
        )
        return out.reshape(-1, *self.q.shape[1:])


@st.composite
def some_cases(draw: st.DrawFn, *, head_dims: list[int], max_positions: int = 600) -> Case:
    """Contexts within one split and past several, pages in any order."""
    head_dim, group = draw(st.sampled_from(head_dims)), draw(st.integers(1, 8))
    num_positions = draw(st.one_of(st.integers(1, 40), st.integers(240, 280), st.integers(1, max_positions)))
    num_tokens = draw(st.integers(1, min(num_positions, 24)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = draw(st.sampled_from([0.0, 0.3, 1.0, 4.0]))  # of the scores: from all alike to one that takes all
    pages = -(-num_positions // 16)
    return Case(
        (rng.standard_normal((num_tokens, group, head_dim)) * spread).astype(np.float32),
        rng.standard_normal((num_positions, head_dim)).astype(np.float32),
        rng.standard_normal((num_positions, head_dim)).astype(np.float32),
        rng.permutation(pages + 3)[:pages].astype(np.int32),
        AttentionShape(
            float(np.float32(head_dim**-0.5)),
            draw(st.sampled_from([0, 0, 1, 7, 16, 100, 300])),
            draw(st.sampled_from([0.0, 0.0, 5.0, 50.0])),
        ),
    )


def queries_of_page(case: Case, kv_dtype: str) -> Doubles:
    """Queries as the kernel uses them: integer pages are multiplied with queries of 8191 steps."""
    if kv_dtype not in oracles.STEPS:
        return case.q.astype(np.float64)
    scale = np.float32(case.shape.scale)
    codes, scales = oracles.quantize(case.q * scale, case.q.shape[-1], 8191)
    return codes * scales.astype(np.float64) / np.float64(scale)


def weight_rounding(case: Case, k: Doubles, v: Doubles) -> float:
    """Bound what rounding weights, each times its value's scale, to 8191 steps of their split's largest may move."""
    weights, _ = oracles.attention_weights(case.q.astype(np.float64), k, case.shape)
    starts = np.arange(0, weights.shape[-1], 256)
    step = np.maximum.reduceat(weights, starts, axis=-1) / 8191
    counts = np.add.reduceat(weights > 0, starts, axis=-1)
    worst = ((step / 2 * counts).sum(axis=-1) / weights.sum(axis=-1)).max()
    return 1.01 * float(worst) * float(np.abs(v).max())


def budget(case: Case, largest: float) -> float:
    head_dim, cap = case.q.shape[2], case.shape.softcap
    return allowed("attention", head_dim, len(case.k)) * (1 + largest + cap) * float(np.abs(case.v).max())


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
@settings(max_examples=30)
@given(data=st.data())
def test_attention_keeps_its_budget_and_its_bits(kv_dtype: str, data: st.DataObject) -> None:
    case = data.draw(some_cases(head_dims=[16, 32, 64, 80, 128, 256]))
    scalar = case.run("scalar", kv_dtype, 1)
    tile = data.draw(st.integers(1, 64 // case.q.shape[1]))
    for tier in TIERS:
        assert_same_bits(case.run(tier, kv_dtype, tile), scalar, f"{tier}, tiles of {tile}")
        assert_same_bits(case.run(tier, kv_dtype, tile, shared=True), scalar, f"{tier}, shared, tiles of {tile}")
    k, v = oracles.through_page(case.k, kv_dtype), oracles.through_page(case.v, kv_dtype)
    want, largest = oracles.attention(queries_of_page(case, kv_dtype), k, v, case.shape)
    rounding = weight_rounding(case, k, v) if kv_dtype in oracles.STEPS else 0.0
    assert_within(scalar, want, budget(case, largest) + rounding)


@pytest.mark.parametrize("kv_dtype", oracles.STEPS)
@settings(max_examples=20)
@given(case=some_cases(head_dims=[32, 64, 128]))
def test_integer_pages_stay_within_the_error_of_their_codes(kv_dtype: str, case: Case) -> None:
    # A score moves by at most half a step of every query and key; a weight by twice that; a value by half a step.
    page = oracles.STEPS[kv_dtype]
    steps = [
        np.abs(x).max(axis=-1, keepdims=True) / (2 * count) * (1 + 16000 * U)
        for x, count in ((case.q, 8191), (case.k, page), (case.v, page))
    ]
    want, largest = oracles.attention(
        case.q.astype(np.float64), case.k.astype(np.float64), case.v.astype(np.float64), case.shape
    )
    q_sum, k_sum = (float(np.abs(x).sum(axis=-1).max()) for x in (case.q, case.k))
    dim, scale = case.q.shape[2], case.shape.scale
    q_step, k_step, v_step = (float(s.max()) for s in steps)
    moved = scale * (q_step * k_sum + k_step * q_sum + dim * q_step * k_step)
    k, v = oracles.through_page(case.k, kv_dtype), oracles.through_page(case.v, kv_dtype)
    bound = np.expm1(2 * moved) * float(np.abs(case.v).max()) + v_step + budget(case, largest)
    bound += weight_rounding(case, k, v) * (1 + np.expm1(2 * moved))
    assert_within(case.run("scalar", kv_dtype, 1), want, bound)


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
@settings(max_examples=15)
@given(case=some_cases(head_dims=[32, 64]), data=st.data())
def test_a_token_attends_alike_in_any_tile_and_chunk(kv_dtype: str, case: Case, data: st.DataObject) -> None:
    tier = data.draw(st.sampled_from(list(TIERS)))
    whole = case.run(tier, kv_dtype, 1)
    first = data.draw(st.integers(0, len(case.q) - 1))
    tile = data.draw(st.integers(1, 64 // case.q.shape[1]))
    assert_same_bits(case.run(tier, kv_dtype, tile, first=first), whole[first:], f"{tier}, from {first} by {tile}")


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
def test_nothing_outside_the_window_matters(kv_dtype: str) -> None:
    rng = np.random.default_rng(1)
    k, v = (rng.standard_normal((700, 32)).astype(np.float32) for _ in "kv")
    q = rng.standard_normal((3, 2, 32)).astype(np.float32)
    shape = AttentionShape(0.2, window=270)
    blocks = np.arange(44, dtype=np.int32)
    before = {tier: Case(q, k, v, blocks, shape).run(tier, kv_dtype, 3) for tier in TIERS}
    k[: 700 - 3 - 270 + 1], v[: 700 - 3 - 270 + 1] = 1e3, 1e3  # what even the first of the tokens cannot see
    for tier in TIERS:
        assert_same_bits(Case(q, k, v, blocks, shape).run(tier, kv_dtype, 3), before[tier], tier)


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
@pytest.mark.parametrize("tier", TIERS)
def test_scores_of_any_size_give_finite_weights(kv_dtype: str, tier: str) -> None:
    k = np.ones((300, 64), np.float32) * 60
    v = np.ones((300, 64), np.float32)  # every code the largest there is: the integer sums are as large as they get
    blocks = np.arange(19, dtype=np.int32)[::-1].copy()
    for size in (-60.0, 60.0):
        case = Case(np.full((2, 1, 64), size, np.float32), k, v, blocks, AttentionShape(1.0))
        np.testing.assert_allclose(case.run(tier, kv_dtype, 2), 1, rtol=1e-5)


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
def test_damage_shows_in_the_result(kv_dtype: str) -> None:
    k = np.ones((20, 32), np.float32)
    k[3, 5] = np.nan
    case = Case(np.ones((1, 1, 32), np.float32), k, np.ones_like(k), np.array([1, 0], np.int32), AttentionShape(1.0))
    for tier in TIERS:
        assert np.isnan(case.run(tier, kv_dtype, 1)).all(), tier
