"""Matrix products in programs: variants by batch size, merged outputs, residuals, the gated half of an MLP."""

from __future__ import annotations

import numpy as np
import pytest

from miaotui import _native
from miaotui.formats.weights import TensorType
from native import oracles
from native.budgets import allowed
from native.matrices import FLOAT_TYPES, Floats, Matrix, assert_same_bits, assert_within, make_activations, make_matrix
from native.programs import Bench, columns, run, tokens

X = make_activations(80, 256, "normal", 1)
KINDS = [TensorType.Q4_1, TensorType.Q8_0, TensorType.Q6_K, TensorType.Q2_K, TensorType.F16]
TIER = _native.cpu_info()["tier"]


def kernel(matrix: Matrix, x: Floats, dtype: str, **options: object) -> Floats:
    """Return the kernel's own result, which its tests hold to NumPy."""
    variant = "float" if dtype == "f32" else "direct"
    return _native.kernel_linear(TIER, variant, matrix.pack(), x, wide=dtype == "q16", **options)


def input_types(kind: TensorType) -> list[str]:
    return ["f32"] if kind in FLOAT_TYPES else ["f32", "q8", "q16"]


@pytest.mark.parametrize("num_tokens", [1, 2, 7, 23, 24, 33, 80])
@pytest.mark.parametrize(("kind", "dtype"), [(kind, dtype) for kind in KINDS for dtype in input_types(kind)])
def test_linear_equals_its_kernel_and_numpy(kind: TensorType, dtype: str, num_tokens: int) -> None:
    matrix = make_matrix(kind, 57, 256, "normal", 2)
    bench = Bench()
    out = bench.buffer("f32", 57)
    bench.op("linear", [bench.quantized(bench.input(X), dtype)], [out], [matrix.pack(), None])
    got = run(bench.output(out), tokens(num_tokens))
    x = X[:num_tokens]
    assert_same_bits(got, kernel(matrix, x, dtype))
    bound = allowed("linear_f32", 256) * (np.abs(x.astype(np.float64)) @ matrix.magnitudes.T)
    if dtype != "f32":
        wide = dtype == "q16"
        bound += (oracles.group_steps(x, wide) * allowed("quantize_groups", wide)) @ np.abs(matrix.values).T * 1.01
    assert_within(got, x.astype(np.float64) @ matrix.values.T, bound)


@pytest.mark.parametrize("num_tokens", [3, 40])
@pytest.mark.parametrize("dtype", ["f32", "q8", "q16"])
def test_merged_outputs_land_in_their_columns_with_their_biases(dtype: str, num_tokens: int) -> None:
    kinds = [TensorType.Q4_K, TensorType.Q6_K, TensorType.Q4_K]  # as attention's q, k, v in Q4_K_M files
    matrices = [make_matrix(kind, rows, 256, "normal", rows) for kind, rows in zip(kinds, (48, 17, 16), strict=True)]
    bias = make_activations(1, 17, "normal", 5)[0]
    bench = Bench()
    merged = bench.buffer("f32", 100)
    parts = [columns(merged, 0, 48), columns(merged, 50, 17), columns(merged, 80, 16)]
    weights = [matrices[0].pack(), None, matrices[1].pack(), bias, matrices[2].pack(), None]
    bench.op("linear", [bench.quantized(bench.input(X), dtype)], parts, weights)
    got = run(bench.output(merged), tokens(num_tokens))
    for matrix, (_, first, width), b in zip(matrices, parts, (None, bias, None), strict=True):
        want = kernel(matrix, X[:num_tokens], dtype, bias=b)
        assert_same_bits(np.ascontiguousarray(got[:, first : first + width]), want)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("num_tokens", [3, 40])
def test_a_residual_is_added_even_in_place(num_tokens: int, in_place: bool) -> None:
    matrix = make_matrix(TensorType.Q5_1, 256, 256, "normal", 3)
    bench = Bench()
    x = bench.input(X)
    residual = bench.buffer("f32", 256)
    bench.op("add", [x, x], [residual])
    out = residual if in_place else bench.buffer("f32", 256)
    bench.op("linear", [bench.quantized(x, "q8"), residual], [out], [matrix.pack(), None])
    x = X[:num_tokens]
    assert_same_bits(run(bench.output(out), tokens(num_tokens)), kernel(matrix, x, "q8", residual=x + x))


@pytest.mark.parametrize("num_tokens", [1, 24, 70])
@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
@pytest.mark.parametrize(("dtype", "out_dtype"), [("f32", "f32"), ("q8", "f32"), ("q8", "q8"), ("q16", "q16")])
@pytest.mark.parametrize("rows", [96, 57])
def test_gated_linear_equals_its_parts_and_numpy(
    rows: int, dtype: str, out_dtype: str, activation: str, num_tokens: int
) -> None:
    if rows % 32 and out_dtype != "f32":
        rows = 160
    gate, up = (
        make_matrix(TensorType.Q4_K, rows, 256, "normal", 1),
        make_matrix(TensorType.Q6_K, rows, 256, "normal", 2),
    )
    bench = Bench()
    out = bench.buffer(out_dtype, rows)
    x_in = bench.quantized(bench.input(X), dtype)
    bench.op("gated_linear", [x_in], [out], [gate.pack(), up.pack()], activation=activation)
    got = run(bench.output(out, out_dtype), tokens(num_tokens))
    x = X[:num_tokens]
    g, u = kernel(gate, x, dtype), kernel(up, x, dtype)
    parts = _native.kernel_activate(TIER, activation, g.reshape(-1), u.reshape(-1)).reshape(g.shape)
    if out_dtype != "f32":
        parts = oracles.quantized_rows(TIER, parts, out_dtype == "q16").values.astype(np.float32)
    assert_same_bits(got, parts)
    exact = x.astype(np.float64)
    want = oracles.activate(activation, exact @ gate.values.T) * (exact @ up.values.T)
    share = {"f32": 1e-5, "q16": 1e-3, "q8": 0.1}[dtype]  # the slopes of the activation times those of the products
    assert_within(got, want, share * np.abs(want).max())


def test_float_gates_take_float_rows() -> None:
    gate, up = make_matrix(TensorType.BF16, 33, 256, "normal", 1), make_matrix(TensorType.F32, 33, 256, "normal", 2)
    bench = Bench()
    out = bench.buffer("f32", 33)
    bench.op("gated_linear", [bench.input(X)], [out], [gate.pack(), up.pack()], activation="silu")
    got = run(bench.output(out), tokens(9))
    g, u = kernel(gate, X[:9], "f32"), kernel(up, X[:9], "f32")
    assert_same_bits(got, _native.kernel_activate(TIER, "silu", g.reshape(-1), u.reshape(-1)).reshape(g.shape))
