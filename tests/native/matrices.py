"""Weight matrices in every file format, with exact values from the gguf package, and activations of every magnitude."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import gguf
import numpy as np
from gguf import quants
from hypothesis import strategies as st
from numpy.typing import NDArray

from miaotui import _native
from miaotui.formats.weights import TensorType

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Bytes = NDArray[np.uint8]

FLOAT_TYPES = [TensorType.F32, TensorType.F16, TensorType.BF16]
QUANTIZED_TYPES = [kind for kind in TensorType if kind not in FLOAT_TYPES]
# Where a block keeps its float16 scale and minimum; the last entry is the sign the minimum is applied with.
SCALES: dict[TensorType, tuple[int, int | None, int]] = {
    TensorType.Q4_0: (0, None, 0), TensorType.Q4_1: (0, 2, 1), TensorType.Q5_0: (0, None, 0),
    TensorType.Q5_1: (0, 2, 1), TensorType.Q8_0: (0, None, 0), TensorType.Q2_K: (80, 82, -1),
    TensorType.Q3_K: (108, None, 0), TensorType.Q4_K: (0, 2, -1), TensorType.Q5_K: (0, 2, -1),
    TensorType.Q6_K: (208, None, 0), TensorType.IQ4_NL: (0, None, 0), TensorType.IQ4_XS: (0, None, 0),
}  # fmt: skip
# ±0, subnormal, smallest normal, ±1, largest: no infinity, so that every result is a number.
EDGE_SCALES = np.array([0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x3C00, 0xBC00, 0x7BFF], np.uint16)
# Codes of one block that are all the same: smallest, largest, Q8_0's −128, its neighbour, the zero points.
EDGE_CODES = [0x00, 0xFF, 0x80, 0x7F, 0x88, 0x08]
STYLES = ["normal", "random", "edges"]
PYTHON_QUANTIZERS = {"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"}


@dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix as a file holds it; `magnitudes` has |d·q| + |minimum| of every weight, which kernels add up apart."""

    kind: TensorType
    data: Bytes
    values: Doubles
    magnitudes: Doubles

    @property
    def rows(self) -> int:
        return self.values.shape[0]

    @property
    def cols(self) -> int:
        return self.values.shape[1]

    @property
    def item(self) -> tuple[int, Bytes, int, int]:
        return int(self.kind), self.data, self.rows, self.cols

    def pack(self) -> _native.PackedWeight:
        return _native.pack_weights([self.item])[0]


def make_matrix(kind: TensorType, rows: int, cols: int, style: str, seed: int) -> Matrix:
    """Build a matrix whose columns are a multiple of the format's block."""
    rng = np.random.default_rng(seed)
    if kind in FLOAT_TYPES:
        return _float_matrix(kind, _float_values(rng, (rows, cols), style))
    blocks = _blocks(kind, rng, rows * cols // kind.block_weights, style)
    return quantized_matrix(kind, blocks.reshape(rows, -1))


def quantized_matrix(kind: TensorType, blocks: Bytes) -> Matrix:
    """Wrap the blocks of a quantized matrix, [rows][bytes]."""
    values = _reference(kind, blocks)
    scale_at, minimum_at, sign = SCALES[kind]
    magnitudes = np.abs(values)
    if minimum_at is not None:
        apart = blocks.reshape(-1, kind.block_bytes).copy()
        apart[:, scale_at + 1] &= 0x7F
        apart[:, minimum_at + 1] = apart[:, minimum_at + 1] & 0x7F | (0x80 if sign < 0 else 0)
        magnitudes = _reference(kind, apart.reshape(blocks.shape))
    return Matrix(kind, blocks.reshape(-1), values, magnitudes)


def identity_matrix(width: int) -> Matrix:
    """Return the Q8_0 identity: times a quantized row it gives the row's values."""
    blocks = np.zeros((width, width // 32, 34), np.uint8)
    blocks[:, :, 1] = 0x3C  # scale 1
    column = np.arange(width)
    blocks[column, column // 32, 2 + column % 32] = 1
    return quantized_matrix(TensorType.Q8_0, blocks.reshape(width, -1))


def _reference(kind: TensorType, blocks: Bytes) -> Doubles:
    return quants.dequantize(blocks, gguf.GGMLQuantizationType(int(kind))).astype(np.float64)


def _float_values(rng: np.random.Generator, shape: tuple[int, int], style: str) -> Floats:
    values = rng.standard_normal(shape).astype(np.float32)
    if style == "edges":  # subnormal in every float type, zero, and the largest that float16 has
        values = rng.choice(np.array([0.0, -0.0, 6e-8, -1e-40, 1.0, 65504.0], np.float32), shape)
    return values


def _float_matrix(kind: TensorType, values: Floats) -> Matrix:
    if kind == TensorType.F32:
        data, exact = values, values
    elif kind == TensorType.F16:
        data = values.astype(np.float16)
        exact = data.astype(np.float32)
    else:
        data = (values.view(np.uint32) >> 16).astype(np.uint16)
        exact = (data.astype(np.uint32) << 16).view(np.float32)
    return Matrix(kind, data.view(np.uint8).reshape(-1), exact.astype(np.float64), np.abs(exact.astype(np.float64)))


def _blocks(kind: TensorType, rng: np.random.Generator, count: int, style: str) -> Bytes:
    if style == "normal" and kind.name in PYTHON_QUANTIZERS:
        values = rng.standard_normal((count, kind.block_weights)).astype(np.float32) * np.float32(0.05)
        return quants.quantize(values, gguf.GGMLQuantizationType(int(kind)))
    blocks = rng.integers(0, 256, (count, kind.block_bytes), dtype=np.uint8)
    if style == "normal":  # nibbles around their middle
        nibbles = np.clip(np.rint(rng.normal(7.5, 2.5, (2, *blocks.shape))), 0, 15).astype(np.uint8)
        blocks = nibbles[0] | nibbles[1] << 4
    if style == "edges":
        alike = rng.random(count) < 0.7
        blocks[alike] = rng.choice(EDGE_CODES, (count, 1))[alike].astype(np.uint8)
    for at in SCALES[kind][:2]:
        if at is not None:
            scales = rng.uniform(-0.02, 0.02, count).astype(np.float16).view(np.uint16)
            if style == "edges":
                scales = rng.choice(EDGE_SCALES, count)
            blocks[:, at : at + 2] = scales[:, None].view(np.uint8)
    return blocks


def make_activations(num_tokens: int, cols: int, style: str, seed: int) -> Floats:
    """Build activations [tokens][cols]; groups of 32 columns may differ wildly in magnitude."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((num_tokens, cols))
    groups = (num_tokens, -(-cols // 32))
    if style == "mixed":
        x *= np.repeat(10.0 ** rng.uniform(-20, 15, groups), 32, axis=1)[:, :cols]
    elif style == "zeros":
        x *= np.repeat(rng.random(groups) < 0.3, 32, axis=1)[:, :cols]
    elif style == "one_hot":
        x = (np.arange(cols) == rng.integers(0, cols, (num_tokens, 1))).astype(np.float64)
    else:
        x *= {"normal": 1.0, "huge": 1e20, "tiny": 1e-30, "subnormal": 1e-39}[style]
    return x.astype(np.float32)


def some_columns(kind: TensorType) -> st.SearchStrategy[int]:
    """Column counts that the format can hold."""
    if kind in FLOAT_TYPES:
        return st.integers(1, 130)
    return st.integers(1, 2 if kind.block_weights == 256 else 6).map(lambda blocks: blocks * kind.block_weights)


def some_matrices(kind: TensorType, *, max_rows: int = 40) -> st.SearchStrategy[Matrix]:
    """Matrices of one format, rows not only multiples of 16."""
    seeds = st.integers(0, 2**32 - 1)
    return st.builds(
        make_matrix, st.just(kind), st.integers(1, max_rows), some_columns(kind), st.sampled_from(STYLES), seeds
    )


ACTIVATION_STYLES = ["normal", "mixed", "zeros", "one_hot", "huge", "tiny", "subnormal"]


def some_activations(cols: int, *, max_tokens: int = 70) -> st.SearchStrategy[Floats]:
    """Activations for matrices of so many columns."""
    seeds = st.integers(0, 2**32 - 1)
    styles = st.sampled_from(ACTIVATION_STYLES)
    return st.builds(make_activations, st.integers(1, max_tokens), st.just(cols), styles, seeds)


def assert_same_bits(got: Floats, want: Floats, what: str = "") -> None:
    """Demand the same bits, zeros of the same sign included; any NaN equals any other."""
    nan = np.isnan(want)
    np.testing.assert_array_equal(np.isnan(got), nan, err_msg=what)
    np.testing.assert_array_equal(got.view(np.uint32)[~nan], want.view(np.uint32)[~nan], err_msg=what)


def assert_within(got: NDArray[np.floating], want: Doubles, bound: Doubles | float, what: str = "") -> None:
    """Demand |got − want| ≤ bound, element by element."""
    error = np.abs(got.astype(np.float64) - want)
    worst = np.unravel_index(np.argmax(error - bound), error.shape)
    limit = np.broadcast_to(bound, error.shape)[worst]
    assert np.all(error <= bound), f"{what} at {worst}: {got[worst]} for {want[worst]}, error {error[worst]} > {limit}"


TIERS: Sequence[str] = _native.cpu_info()["tiers"]
_AVX2 = {"avx2", "fma", "f16c"}
_AVX512 = _AVX2 | {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"}
FEATURES = {"scalar": set(), "avx2": _AVX2, "avx512": _AVX512, "avx512_vnni": _AVX512 | {"avx512_vnni"}}
"""What each tier asks of the CPU."""
