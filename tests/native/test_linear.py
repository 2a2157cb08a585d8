from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miaotui import _native
from miaotui.errors import ModelFileError
from miaotui.formats.weights import TensorType
from native import oracles
from native.budgets import FLOOR, UNDERFLOW, allowed
from native.matrices import (
    QUANTIZED_TYPES,
    TIERS,
    Doubles,
    Floats,
    Matrix,
    assert_same_bits,
    assert_within,
    make_activations,
    make_matrix,
    quantized_matrix,
    some_activations,
    some_matrices,
)

KERNELS = {"linear_q8", "linear_panels", "linear_f32", "unpack_block"}
ALL_TYPES = list(TensorType)
by_name = {"ids": lambda kind: kind.name}
# Zero point of the codes of symmetric formats; the others add a minimum. IQ4 codes are values of their table plus 128.
ZERO_POINTS = {
    TensorType.Q4_0: 8, TensorType.Q5_0: 16, TensorType.Q8_0: 128, TensorType.Q3_K: 4, TensorType.Q6_K: 32,
    TensorType.IQ4_NL: 128, TensorType.IQ4_XS: 128,
}  # fmt: skip


def floor(matrix: Matrix) -> Doubles:
    """Return what may be lost to subnormal numbers, per row."""
    return FLOOR * matrix.magnitudes.sum(axis=1) + UNDERFLOW


def products(values: Doubles, x: Doubles) -> Doubles:
    return x @ values.T


def on_all_tiers(variant: str, matrix: Matrix, x: Floats, **options: object) -> Floats:
    """Return the scalar tier's result after comparing the others with it bit by bit."""
    packed = matrix.pack()
    scalar = _native.kernel_linear("scalar", variant, packed, x, **options)
    for tier in TIERS[1:]:
        got = _native.kernel_linear(tier, variant, packed, x, **options)
        assert_same_bits(got, scalar, f"{matrix.kind.name} {variant} {tier}")
    return scalar


@pytest.mark.parametrize("kind", ALL_TYPES, **by_name)
@settings(max_examples=15)
@given(data=st.data())
def test_float_products_keep_their_budget_and_their_bits(kind: TensorType, data: st.DataObject) -> None:
    matrix = data.draw(some_matrices(kind))
    x = data.draw(some_activations(matrix.cols))
    y = on_all_tiers("float", matrix, x)
    exact = x.astype(np.float64)
    bound = allowed("linear_f32", matrix.cols) * products(matrix.magnitudes, np.abs(exact))
    assert_within(y, products(matrix.values, exact), bound + floor(matrix))


@pytest.mark.parametrize("wide", [False, True], ids=["int8", "int16"])
@pytest.mark.parametrize("kind", QUANTIZED_TYPES, **by_name)
@settings(max_examples=12)
@given(data=st.data())
def test_integer_products_keep_their_budget_and_their_bits(kind: TensorType, wide: bool, data: st.DataObject) -> None:
    matrix = data.draw(some_matrices(kind))
    x = data.draw(some_activations(matrix.cols))
    y = on_all_tiers("direct", matrix, x, wide=wide)
    assert_same_bits(on_all_tiers("panel", matrix, x, wide=wide), y, "panel")
    rows = oracles.quantized_rows("scalar", x, wide).values
    roundings = allowed("linear_q8", matrix.cols) * products(matrix.magnitudes, np.abs(rows))
    assert_within(y, products(matrix.values, rows), roundings + floor(matrix), "on the quantized activations")
    # Against the true activations the error is at most half a step (a whole one of the finer wide steps) per column.
    step = oracles.group_steps(x, wide) * (allowed("quantize_groups", wide))
    quantization = products(np.abs(matrix.values), step)
    assert_within(
        y, products(matrix.values, x.astype(np.float64)), roundings + quantization + floor(matrix), "on the floats"
    )


@pytest.mark.parametrize(
    ("kind", "variant"),
    [(kind, variant) for kind in QUANTIZED_TYPES for variant in ("direct", "panel")]
    + [(kind, "float") for kind in ALL_TYPES],
)
@settings(max_examples=6)
@given(data=st.data())
def test_a_token_gives_the_same_bits_in_any_company(kind: TensorType, variant: str, data: st.DataObject) -> None:
    matrix = data.draw(some_matrices(kind, max_rows=20))
    x = data.draw(some_activations(matrix.cols))
    packed = matrix.pack()
    for tier in TIERS:
        together = _native.kernel_linear(tier, variant, packed, x)
        start = 0
        while start < len(x):  # any cut into batches
            size = data.draw(st.integers(1, len(x) - start))
            part = _native.kernel_linear(tier, variant, packed, x[start : start + size])
            assert_same_bits(part, together[start : start + size], f"{tier}, tokens {start} to {start + size}")
            start += size


@pytest.mark.parametrize("variant", ["direct", "panel", "float"])
@pytest.mark.parametrize("kind", QUANTIZED_TYPES, **by_name)
def test_blocks_of_any_bytes_give_the_same_bits(kind: TensorType, variant: str) -> None:
    # As a hostile file may hold them: scales that are infinite or not numbers among them.
    cols = max(64, kind.block_weights)
    blocks = np.random.default_rng(7).integers(0, 256, (200, cols // kind.block_weights * kind.block_bytes), np.uint8)
    with np.errstate(all="ignore"):
        matrix = quantized_matrix(kind, blocks)
    y = on_all_tiers(variant, matrix, make_activations(3, cols, "normal", 7))
    assert not np.isfinite(y).all()
    assert np.isfinite(y).any()


@pytest.mark.parametrize("kind", QUANTIZED_TYPES, **by_name)
@settings(max_examples=10)
@given(data=st.data())
def test_an_unpacked_block_holds_the_weights(kind: TensorType, data: st.DataObject) -> None:
    matrix = data.draw(some_matrices(kind))
    packed = matrix.pack()
    for block in range(-(-matrix.rows // 16)):
        codes, scales, minimums = _native.kernel_unpack("scalar", packed, block)
        for tier in TIERS[1:]:
            for got, want in zip(_native.kernel_unpack(tier, packed, block), (codes, scales, minimums), strict=True):
                np.testing.assert_array_equal(got, want, err_msg=tier)
        rows = slice(16 * block, min(16 * block + 16, matrix.rows))
        q = codes.reshape(-1, 8, 16, 4).transpose(2, 0, 1, 3).reshape(16, matrix.cols).astype(np.float64)
        width = matrix.cols // len(scales)
        s, m = (np.repeat(part.T.astype(np.float64), width, axis=1) for part in (scales, minimums))
        weights = s * (q - ZERO_POINTS[kind]) if kind in ZERO_POINTS else s * q + m
        bound = allowed("unpack_block") * matrix.magnitudes[rows]
        assert_within(weights[: matrix.rows - 16 * block], matrix.values[rows], bound)


@pytest.mark.parametrize("kind", ALL_TYPES, **by_name)
@settings(max_examples=10)
@given(data=st.data())
def test_packing_loses_nothing(kind: TensorType, data: st.DataObject) -> None:
    matrix = data.draw(some_matrices(kind))
    packed = matrix.pack()
    got = packed.dequantize()
    assert (packed.rows, packed.cols, packed.type) == (*got.shape, int(kind))
    if kind.block_bytes <= 34:  # one scale: nothing is rounded twice
        np.testing.assert_array_equal(got, matrix.values.astype(np.float32))
    assert_within(got, matrix.values, allowed("unpack_block") * matrix.magnitudes)


@pytest.mark.parametrize("variant", ["direct", "panel", "float"])
@pytest.mark.parametrize("rows", [1, 8, 15, 16, 17, 31, 40])
def test_bias_and_residual_are_added_after_the_product(variant: str, rows: int) -> None:
    rng = np.random.default_rng(rows)
    matrix = make_matrix(TensorType.Q4_K, rows, 256, "normal", rows)
    x = make_activations(5, 256, "normal", rows)
    bias = rng.standard_normal(rows).astype(np.float32)
    residual = rng.standard_normal((5, rows)).astype(np.float32)
    plain = on_all_tiers(variant, matrix, x)
    assert_same_bits(on_all_tiers(variant, matrix, x, bias=bias), plain + bias)
    assert_same_bits(on_all_tiers(variant, matrix, x, residual=residual), plain + residual)
    assert_same_bits(on_all_tiers(variant, matrix, x, bias=bias, residual=residual), plain + bias + residual)


def test_matrices_packed_together_equal_those_packed_alone() -> None:
    matrices = [make_matrix(kind, 7 + i, 256, "random", i) for i, kind in enumerate(ALL_TYPES)]
    for packed, matrix in zip(_native.pack_weights([m.item for m in matrices]), matrices, strict=True):
        np.testing.assert_array_equal(packed.dequantize(), matrix.pack().dequantize())
        assert packed.nbytes % 64 == 0
    assert _native.pack_weights([]) == []


@pytest.mark.parametrize(
    ("kind", "rows", "cols", "num_bytes", "complaint"),
    [
        (9, 1, 32, 36, "weight type 9 is not supported"),
        (2, 0, 32, 0, "0 x 32 is out of range"),
        (2, 1, -32, 18, "1 x -32 is out of range"),
        (0, 2**31 - 1, 2**31 - 1, 64, "out of range"),  # the byte count wraps to a negative number
        (0, 2**40, 2**24, 0, "out of range"),  # … to zero
        (2, 1, 48, 27, "48 columns cannot hold blocks of 32"),
        (12, 1, 128, 72, "128 columns cannot hold blocks of 256"),
        (2, 3, 64, 107, "3 x 64 needs 108 bytes, got 107"),
        (2, 3, 64, 109, "3 x 64 needs 108 bytes, got 109"),
    ],
)
def test_matrices_that_do_not_fit_their_bytes_are_refused(
    kind: int, rows: int, cols: int, num_bytes: int, complaint: str
) -> None:
    with pytest.raises(ModelFileError, match=complaint):
        _native.pack_weights([(kind, np.zeros(num_bytes, np.uint8), rows, cols)])


def test_the_layout_of_packed_weights_has_a_number_of_its_own() -> None:
    """Packed weights are kept in files: whoever changes their layout raises kPackLayout, then both figures here."""
    digest = hashlib.sha256()
    for kind in sorted(QUANTIZED_TYPES):
        digest.update(make_matrix(kind, 40, 512, "normal", 7).pack().data.tobytes())
    assert (_native.PACK_LAYOUT, digest.hexdigest()[:16]) == (1, "99a08bb232ad22d7")
