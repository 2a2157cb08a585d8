from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miaotui import _native
from native import oracles
from native.budgets import EXP, FLOOR, U, allowed, gelu_tail
from native.matrices import TIERS, Floats, assert_same_bits, assert_within, make_activations

KERNELS = {"rms_norm", "layer_norm", "rope_head", "activate_mul", "add_rows", "softcap", "row_peak"}
SEEDS = st.integers(0, 2**32 - 1)
# Squares of larger values overflow float32, as they do in the models' own float32 code.
NORM_STYLES = ["normal", "zeros", "one_hot", "tiny", "subnormal"]
SPECIAL = np.array(
    [0, -0.0, 1e-45, -1e-38, 87.3, -87.3, 88.4, -88.4, 89, -89, 104, -104, 1e4, -1e4, 1e37, -1e37], np.float32
)


def same_on_all_tiers(call: str, *arguments: object, **options: object) -> Floats:
    kernel = getattr(_native, call)
    scalar: Floats = kernel("scalar", *arguments, **options)
    for tier in TIERS[1:]:
        assert_same_bits(kernel(tier, *arguments, **options), scalar, f"{call} {tier}")
    return scalar


@given(n=st.integers(1, 300), style=st.sampled_from(NORM_STYLES), seed=SEEDS, eps=st.sampled_from([1e-6, 1e-5, 0.1]))
def test_rms_norm_keeps_its_budget_and_its_bits(n: int, style: str, seed: int, eps: float) -> None:
    x, gain = make_activations(3, n, style, seed), make_activations(1, n, "normal", seed + 1)[0]
    y = same_on_all_tiers("kernel_norm", "rms", x, gain, eps=eps)
    want = oracles.norm("rms", x.astype(np.float64), gain.astype(np.float64), None, float(np.float32(eps)))
    assert_within(y, want, allowed("rms_norm", n) * np.abs(want) + FLOOR)


@given(
    n=st.integers(1, 300),
    style=st.sampled_from(NORM_STYLES),
    seed=SEEDS,
    with_bias=st.booleans(),
    offset=st.sampled_from([0.0, 3.0]),
)
def test_layer_norm_keeps_its_budget_and_its_bits(
    n: int, style: str, seed: int, with_bias: bool, offset: float
) -> None:
    eps = float(np.float32(1e-5))
    x, gain = make_activations(3, n, style, seed), make_activations(1, n, "normal", seed + 1)[0]
    x = x + np.float32(offset) * np.abs(x).max()
    bias = make_activations(1, n, "normal", seed + 2)[0] if with_bias else None
    y = same_on_all_tiers("kernel_norm", "layer", x, gain, bias, eps=eps)
    exact = x.astype(np.float64)
    want = oracles.norm("layer", exact, gain.astype(np.float64), None if bias is None else bias.astype(np.float64), eps)
    magnitude = np.abs(exact) + np.abs(exact).mean(axis=1, keepdims=True)
    added = magnitude * np.abs(gain) / np.sqrt(exact.var(axis=1, keepdims=True) + eps)
    bound = allowed("layer_norm", n) * (added + (0 if bias is None else np.abs(bias)))
    assert_within(y, want, bound + FLOOR)


@pytest.mark.parametrize("interleaved", [False, True])
@given(half=st.integers(1, 64), rest=st.integers(0, 20), rows=st.integers(1, 4), seed=SEEDS)
def test_rope_keeps_its_budget_and_its_bits(interleaved: bool, half: int, rest: int, rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    head_dim = 2 * half + rest
    x = make_activations(rows, head_dim, "mixed", seed)
    positions = rng.integers(0, 100000, rows)
    inv_freq = (10000.0 ** (-np.arange(half) / half)).astype(np.float32)
    angles = (positions[:, None].astype(np.float32) * inv_freq).astype(np.float64)
    cos_sin = np.stack([np.cos(angles), np.sin(angles)], axis=2).astype(np.float32).reshape(rows, 2 * half)
    y = same_on_all_tiers("kernel_rope", x, cos_sin, interleaved)
    want = oracles.rope(x.astype(np.float64), positions, inv_freq, 1.0, interleaved=interleaved)
    added = oracles.rope_magnitudes(
        np.abs(x).astype(np.float64), np.abs(np.cos(angles)), np.abs(np.sin(angles)), interleaved
    )
    assert_within(y, want, (allowed("rope_head") + U) * added + FLOOR)
    np.testing.assert_array_equal(y[:, 2 * half :], x[:, 2 * half :])


def gates(seed: int, n: int) -> Floats:
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal(n) * 10.0 ** rng.uniform(-3, 3, n)).astype(np.float32)
    return np.where(rng.random(n) < 0.2, rng.choice(SPECIAL, n), x).astype(np.float32)


@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
@given(n=st.integers(1, 70), seed=SEEDS)
def test_activation_times_up_keeps_its_budget_and_its_bits(activation: str, n: int, seed: int) -> None:
    gate, up = gates(seed, n), make_activations(1, n, "normal", seed)[0]
    y = same_on_all_tiers("kernel_activate", activation, gate, up)
    with np.errstate(over="ignore"):
        want = oracles.activate(activation, gate.astype(np.float64)) * up
    product = np.abs(gate.astype(np.float64) * up)
    # The exponential ends at e^88.37, so a gate far below keeps a share of 2⁻¹²⁷ instead of none.
    bound = allowed("activate_mul") * (np.abs(want) + (product / 4 if activation == "gelu_tanh" else 0))
    assert_within(y, want, bound + 2.0**-126 * product + FLOOR)


@given(n=st.integers(1, 70), seed=SEEDS, with_up=st.booleans())
def test_gelu_keeps_its_budget_in_the_far_tail_too(n: int, seed: int, with_up: bool) -> None:
    gate, up = gates(seed, n), make_activations(1, n, "normal", seed)[0]
    y = same_on_all_tiers("kernel_activate", "gelu", gate, *([up] if with_up else []))
    x, factor = gate.astype(np.float64), up.astype(np.float64) if with_up else np.ones(n)
    tail = np.minimum(np.abs(x), 14) * oracles.normal_tail(np.abs(x))
    bound = tail * gelu_tail(np.minimum(np.abs(x), 14)) + 2 * U * np.abs(oracles.activate("gelu", x))
    # Below e^−87.3 the kernels' exponential is exactly 0.
    assert_within(y, oracles.activate("gelu", x) * factor, (bound + 2.0**-120) * np.abs(factor) + FLOOR)


@given(n=st.integers(1, 70), seed=SEEDS)
def test_relu_keeps_what_is_above_zero(n: int, seed: int) -> None:
    x = gates(seed, n)
    np.testing.assert_array_equal(same_on_all_tiers("kernel_activate", "relu", x), np.maximum(x, 0))


def test_an_activation_alone_is_that_times_one() -> None:
    x = gates(3, 67)
    for activation in ("silu", "gelu_tanh", "gelu", "relu"):
        alone = same_on_all_tiers("kernel_activate", activation, x)
        assert_same_bits(alone, same_on_all_tiers("kernel_activate", activation, x, np.ones_like(x)))


def test_activations_carry_nan_and_infinity() -> None:
    x = np.array([np.nan, np.inf], np.float32)
    for activation in ("silu", "gelu_tanh", "gelu", "relu"):
        y = same_on_all_tiers("kernel_activate", activation, x, np.ones(2, np.float32))
        assert np.isnan(y[0])
        assert y[1] == np.inf
    assert np.isnan(same_on_all_tiers("kernel_softcap", x, 30.0)[0])


@given(n=st.integers(1, 70), seed=SEEDS)
def test_sums_are_those_of_float32(n: int, seed: int) -> None:
    a, b = gates(seed, n), gates(seed + 1, n)
    with np.errstate(over="ignore"):
        assert_same_bits(same_on_all_tiers("kernel_add", a, b), a + b)


@given(n=st.integers(1, 70), seed=SEEDS, cap=st.sampled_from([1.0, 5.0, 30.0, 50.0]))
def test_softcap_keeps_its_budget_and_its_bits(n: int, seed: int, cap: float) -> None:
    x = gates(seed, n)
    y = same_on_all_tiers("kernel_softcap", x, cap)
    assert_within(y, cap * np.tanh(x.astype(np.float64) / cap), allowed("softcap") * cap)
    assert np.all(np.abs(y) <= np.float32(cap))


def test_the_exponential_keeps_the_error_that_the_budgets_count_on() -> None:
    # x / silu(x) − 1 = e^−x; where that is large the division hides nothing of it.
    x = np.linspace(-87, -16, 20001).astype(np.float32)
    y = same_on_all_tiers("kernel_activate", "silu", x, np.ones_like(x)).astype(np.float64)
    want = np.exp(-x.astype(np.float64))
    assert_within(x / y - 1, want, (EXP + 3) * U * (want + 1) + 1)


@given(
    n=st.integers(1, 3000),
    style=st.sampled_from(["normal", "zeros", "one_hot", "tiny"]),
    seed=SEEDS,
    barred=st.sampled_from([0.0, 0.5, 0.99]),
)
def test_the_peak_of_a_row_is_its_first_largest_value(n: int, style: str, seed: int, barred: float) -> None:
    x = make_activations(1, n, style, seed)[0]
    x[np.random.default_rng(seed).random(n) < barred] = -np.inf
    if np.isneginf(x).all():
        x[n // 2] = -3.4e38
    for tier in TIERS:
        assert _native.kernel_row_peak(tier, x) == (x.max(), int(np.argmax(x)), True), tier


@given(n=st.integers(1, 3000), seed=SEEDS, bad=st.sampled_from([np.nan, np.inf]), data=st.data())
def test_a_row_that_is_not_finite_has_no_peak(n: int, seed: int, bad: float, data: st.DataObject) -> None:
    x = make_activations(1, n, "normal", seed)[0]
    x[data.draw(st.integers(0, n - 1))] = bad
    for tier in TIERS:
        assert not _native.kernel_row_peak(tier, x)[2], tier
